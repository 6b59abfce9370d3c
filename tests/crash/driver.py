"""A process that lives an index's life step by step, for others to trace and to kill.

Started once (``python -m tests.crash.driver FD``), it forks for each task, which saves the imports. It talks over a
SEQPACKET socket in pickled messages, so that every ``write`` of a task is one of the engine's. A task says its pid and
waits for a go before it begins.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import traceback
from contextlib import closing
from typing import Any, NoReturn

from tests.crash.messages import LARGEST, Answer, Begun, Check, Done, Ended, Live, Recover, Refused, Started, Task
from tests.crash.oracle import World, check, observe
from tests.crash.scenario import PROBE, SPEC, STEPS, Life, open_index
from vectorindex.engine.catalog import index_names
from vectorindex.engine.errors import EngineError
from vectorindex.engine.store import Store
from vectorindex.sidecar.errors import StartRefused


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    while content := channel.recv(LARGEST):
        task = pickle.loads(content)
        pid = os.fork()
        if pid == 0:
            _run(channel, task)
        _, status = os.waitpid(pid, 0)
        _send(channel, Ended(status))


def _run(channel: socket.socket, task: Task) -> NoReturn:
    """Ends the process."""
    try:
        _send(channel, Started(os.getpid()))
        channel.recv(LARGEST)
        if isinstance(task, Live):
            _live(channel, task)
        else:
            _send(channel, _answer(task))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _live(channel: socket.socket, task: Live) -> None:
    life = Life(task.data_dir)
    for number, step in enumerate(STEPS):
        _send(channel, Begun(number))
        life.step = number
        try:
            step(life)
        except (EngineError, StartRefused, OSError) as error:
            if number != task.until or (step is Life.open and isinstance(error, OSError)):
                raise  # the sidecar refuses an index for the errors of the engine, and ends with any other
            _send(channel, Refused(number, type(error).__name__, _after_error(life)))
            return
        assert life.volume is not None
        world = _look(life) if task.observed else None
        _send(channel, Done(number, life.volume.id, life.erased, life.secrets, world))
        if number == task.until:
            return


def _look(life: Life) -> World:
    """What can be seen, which is what the dictionary says."""
    assert life.volume is not None
    folder = life.volume.indexes / SPEC.name
    if life.is_open:
        world = observe(life.volume, life.store)
    elif not index_names(life.volume.indexes):
        world = observe(life.volume, None)
    else:
        with closing(Store.open(folder)) as store:
            world = observe(life.volume, store)
    items = {} if world.index is None else world.index.items
    assert items == {name: vector.tobytes() for name, vector in life.items.items()}
    return world


def _after_error(life: Life) -> str:
    if not life.is_open:
        return "closed"
    life.abandon()
    return life.probe()


def _answer(task: Recover | Check) -> Answer:
    if isinstance(task, Check):
        try:
            world = check(task.data_dir, task.allowed, task.volume_id, task.secrets, probed=task.probed)
            return Answer(world)
        except Exception as error:
            return Answer(None, f"{type(error).__name__}: {error}")
    volume, store = open_index(task.data_dir)
    if store is not None:
        store.delete([PROBE])
    return Answer(observe(volume, store), volume_id=volume.id)


def _send(channel: socket.socket, message: Any) -> None:
    channel.send(pickle.dumps(message))


if __name__ == "__main__":
    main()
