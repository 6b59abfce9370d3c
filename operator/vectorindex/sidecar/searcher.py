"""A searcher: the process that holds one index's graphs, from their load to its end. It knows no HTTP and no SQLite.

Its threads block in ``recv`` on one socket, and the kernel hands each request to one of them. Changes come by another
socket, which the main thread serves in order, so that they never wait for searches; what a change will need is opened
beside it. At end-of-file it ends: a graph
lives and dies with its process, and its memory really goes back. So it does when a thread meets what it cannot answer:
the front starts another one, while a request without an answer would be waited for for ever.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import socket
import threading
import traceback
from collections.abc import Sequence

import numpy as np

from vectorindex.engine.errors import EngineError, InvalidInput
from vectorindex.engine.segments import Segment
from vectorindex.engine.view import View
from vectorindex.sidecar import child, ipc
from vectorindex.sidecar.ipc import Kind, Message


def main() -> None:
    parser = argparse.ArgumentParser(prog="vectorindex-searcher", description=__doc__)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--control", type=int, required=True, help="descriptor of the socket for load and changes")
    parser.add_argument("--data", type=int, required=True, help="descriptor of the socket for searches")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    child.begin(arguments.parent)
    control = socket.socket(fileno=arguments.control)
    data = socket.socket(fileno=arguments.data)
    with contextlib.suppress(ConnectionError):  # the front is gone, and wants no answer
        view = _load(control)
        if view is not None:
            for _ in range(arguments.threads):
                threading.Thread(target=_serve, args=(data, view, arguments.threads), daemon=True).start()
            _apply_changes(control, view)
    os._exit(0)  # at once: the threads may still search for somebody who is gone


def _load(control: socket.socket) -> View | None:
    """Load what the first message names, and say that we serve. None: told to end, or the files were refused."""
    request = ipc.receive(control)
    if request is None:
        return None
    assert request.kind is Kind.LOAD
    try:
        view = View.load(pickle.loads(request.payload))  # noqa: S301 - from the front, by our own socket
    except (EngineError, MemoryError, OSError, RuntimeError) as error:
        ipc.send(control, _error(request, Kind.FAILED, error))
        return None
    ipc.send(control, Message(request.id, Kind.OK))
    return view


def _apply_changes(control: socket.socket, view: View) -> None:
    while (request := ipc.receive(control)) is not None:
        content = pickle.loads(request.payload)  # noqa: S301 - from the front, by our own socket
        if request.kind is Kind.OPEN:
            threading.Thread(target=_open, args=(control, view, request.id, content), daemon=True).start()
        else:
            if request.kind is Kind.FORGET:
                view.forget(content)
            else:
                assert request.kind is Kind.APPLY
                view.apply(content)
            ipc.send(control, Message(request.id, Kind.OK))


def _open(control: socket.socket, view: View, request: int, segments: Sequence[Segment]) -> None:
    answer = Message(request, Kind.OK)
    try:
        view.open(segments)
    except (EngineError, MemoryError, OSError, RuntimeError) as error:  # the last one is hnswlib's
        answer = _error(answer, Kind.FAILED, error)
    with contextlib.suppress(ConnectionError):
        ipc.send(control, answer)


def _serve(data: socket.socket, view: View, threads: int) -> None:
    try:
        with contextlib.suppress(ConnectionError):  # the front is gone, and wants no answer
            _answer_searches(data, view, threads)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _answer_searches(data: socket.socket, view: View, threads: int) -> None:
    while (request := ipc.receive(data)) is not None:
        try:
            answer = _fetch(view, request) if request.kind is Kind.FETCH else _search(view, request, threads)
        except InvalidInput as error:
            answer = _error(request, Kind.INVALID, error)
        except Exception as error:
            answer = _error(request, Kind.FAILED, error)
        ipc.send(data, answer)


def _search(view: View, request: Message, threads: int) -> Message:
    queries = np.frombuffer(request.payload, np.float32).reshape(request.a, -1)
    parallel = threads if request.a > 1 else 1
    if request.c:
        found = view.search(queries, request.b, request.c, parallel)
    else:
        found = view.search_exact(queries, request.b, parallel)
    rows, width = found.labels.shape
    return Message(request.id, Kind.OK, rows, width, 0, found.labels.tobytes() + found.distances.tobytes())


def _fetch(view: View, request: Message) -> Message:
    found, vectors = view.vectors(np.frombuffer(request.payload, np.uint64))
    return Message(request.id, Kind.OK, len(found), payload=found.tobytes() + vectors.tobytes())


def _error(request: Message, kind: Kind, error: Exception) -> Message:
    text = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    return Message(request.id, kind, payload=text.encode())


if __name__ == "__main__":
    main()
