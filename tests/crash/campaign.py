"""The campaigns: which points of the scenario are tried, and what the oracle is told to accept at each.

A crash is an :class:`Injection` at one call of the recorded scenario. A power loss is a :class:`Loss` on the disk
that the recorded calls made, so that one recording gives as many states as one likes, and an fsync can be taken away.
"""

from __future__ import annotations

import hashlib
import pickle
import queue
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.crash.disk import CONTENT_ONLY, NAMES_ONLY, STRICT, Disk, Loss, Tree, site, torn, write_tree
from tests.crash.messages import Begun, Check, Done, Live, Recover, Refused
from tests.crash.oracle import NOTHING, World, exposed, files_below
from tests.crash.scenario import STEPS, Life, step_name
from tests.crash.tracing import RENAMES, SEND, SYNCS, Call, Driver, Injection, Outcome

J = TypeVar("J")
R = TypeVar("R")

WORKERS = 2
_SPACE = {"write", "writev", "pwrite64", "fsync", "fdatasync", "rename", "mkdir", "openat"}
"""Calls for which a volume must find space."""


@dataclass(frozen=True)
class Point:
    """A call of the scenario that something may happen to, and the step that makes it."""

    step: int
    call: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.call} {self.ordinal} in step {step_name(self.step)}"


@dataclass(frozen=True)
class Recording:
    """The scenario as it goes when nothing happens. ``worlds``: what can be seen after each step; ``secrets``: what
    must be in no file, by the time that the index has given for it; ``calls`` were made below ``data_dir``."""

    data_dir: Path
    worlds: tuple[World, ...]
    secrets: dict[float, frozenset[bytes]]
    calls: tuple[Call, ...]

    def points(self) -> list[Point]:
        """Every call that changes files, or makes them durable."""
        step, found = 0, []
        for call in self.calls:
            if call.name == SEND:
                message = call.message
                step = message.step if isinstance(message, Begun | Done) else step
            elif call.changes:
                found.append(Point(step, call.name, call.ordinal))
        return found

    def allowed(self, last: Begun | Done | Refused | None) -> tuple[World, ...]:
        """What may be seen after a life that came so far."""
        if last is None:
            return (NOTHING,)
        before = self.worlds[last.step - 1] if last.step else NOTHING
        after = self.worlds[last.step]
        if isinstance(last, Done):
            return (after,)
        if isinstance(last, Refused) and last.error == "OutOfSpace":  # "nothing has changed"
            return (before,)
        return (before, after)

    def exposed(self, folder: Path, erased: float | None) -> str:
        """What was said to be erased and is in a file."""
        return "" if erased is None else exposed(files_below(folder), self.secrets[erased])


@dataclass(frozen=True)
class Problem:
    """A violation: where, and what was wrong."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Crew:
    """Drivers that work side by side, each in a scratch folder of its own."""

    def __init__(self, scratch: Path, workers: int = WORKERS) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._free: queue.SimpleQueue[tuple[Driver, Path]] = queue.SimpleQueue()
        self._drivers = []
        for number in range(workers):
            folder = scratch / f"worker-{number}"
            folder.mkdir()
            driver = Driver(folder)
            self._drivers.append(driver)
            self._free.put((driver, folder))

    def map(self, function: Callable[[Driver, Path, J], R], jobs: Iterable[J]) -> list[R]:
        """``function(driver, empty folder, job)`` for each job; in order."""

        def one(job: J) -> R:
            driver, scratch = self._free.get()
            try:
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    return function(driver, Path(folder), job)
            finally:
                self._free.put((driver, scratch))

        return list(self._pool.map(one, jobs))

    def close(self) -> str:
        """Ends all; what they wrote to stderr."""
        self._pool.shutdown(cancel_futures=True)
        return "".join(driver.close() for driver in self._drivers)


@contextmanager
def crew(workers: int = WORKERS) -> Iterator[Crew]:
    """In memory where there is a file system in memory: what is durable is decided by the model, not by the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="crash-", dir=memory if memory.is_dir() else None) as scratch:
        team = Crew(Path(scratch), workers)
        try:
            yield team
        finally:
            team.close()


def record(team: Crew) -> Recording:
    """One life that is looked at after each step, and one that is traced."""

    def both(driver: Driver, folder: Path, _: None) -> Recording:
        for name in ("observed", "traced"):
            (folder / name).mkdir()
        observed = driver.run(Live(folder / "observed", observed=True))
        traced = driver.run(Live(folder / "traced"), recorded=True)
        if observed.status or traced.status:
            raise RuntimeError(f"the scenario does not work: {driver.close()}")
        done = [message for message in observed.messages if isinstance(message, Done)]
        worlds = tuple(message.world for message in done if message.world is not None)
        assert len(worlds) == len(STEPS)
        claimed = {STEPS[message.step] for message in done if message.erased is not None}
        assert claimed >= {Life.remove_the_snapshot, Life.rebuild_swapped}
        assert Life.optimize_swapped not in claimed  # a snapshot stands against it
        return Recording(folder / "traced", worlds, done[-1].secrets, traced.calls)

    (recording,) = team.map(both, [None])
    return recording


# --- crash points


def kill_at(recording: Recording, driver: Driver, folder: Path, point: Point) -> Problem | None:
    """SIGKILL before this call, then a start."""
    where = f"killed before {point}"
    outcome = driver.run(Live(folder), Injection(point.call, point.ordinal, "kill"))
    if not outcome.killed:
        return Problem(where, "it was not killed: the calls are not those of the recording")
    return _ask(recording, driver, folder, outcome, where)


def fail_at(recording: Recording, driver: Driver, folder: Path, point: Point, error: str) -> Problem | None:
    """The call ends with an error; the step is refused or works all the same, and then a start. After an fsync that
    failed, a power loss as well."""
    where = f"{error} of {point}"
    syncs = point.call in SYNCS
    injection = Injection(point.call, point.ordinal, error)
    outcome = driver.run(Live(folder, until=point.step), injection, recorded=syncs)
    if outcome.failed or outcome.killed:
        return Problem(where, "ended with an error that is none of the product's, see the driver's traceback")
    if not outcome.injected:
        return Problem(where, "nothing was injected: the calls are not those of the recording")
    problem = _ask(recording, driver, folder, outcome, where)
    if problem is not None or not syncs:
        return problem
    disk = Disk(folder)
    for call in outcome.calls:
        disk.apply(call)
    for loss in (STRICT, NAMES_ONLY, CONTENT_ONLY):
        _replace(folder, disk.crash(loss))
        if problem := _ask(recording, driver, folder, outcome, f"{where}, then a power loss ({loss})"):
            return problem
    return None


def error_points(points: Iterable[Point]) -> list[tuple[Point, str]]:
    return [(point, error) for point in points for error in ("EIO", "ENOSPC") if error == "EIO" or point.call in _SPACE]


def kill_twice(recording: Recording, driver: Driver, folder: Path, point: Point) -> tuple[int, list[Problem]]:
    """SIGKILL before this call; then one before each call of the start that follows and of a delete. How many."""
    first, second = folder / "first", folder / "second"
    first.mkdir()
    outcome = driver.run(Live(first), Injection(point.call, point.ordinal, "kill"))
    shutil.copytree(first, second)
    found = driver.run(Check(second, recording.allowed(outcome.last), _volume_id(outcome), recording.secrets))
    before = found.answer.world
    problems = [Problem(f"killed before {point}", found.answer.problem)] if found.answer.problem else []
    shutil.rmtree(second)
    shutil.copytree(first, second)
    recovery = driver.run(Recover(second), recorded=True)
    allowed = tuple(world for world in (before, recovery.answer.world) if world is not None)
    calls = [call for call in recovery.calls if call.changes]
    for call in calls:
        shutil.rmtree(second)
        shutil.copytree(first, second)
        where = f"killed before {point}, then before {call.name} {call.ordinal}"
        again = driver.run(Recover(second), Injection(call.name, call.ordinal, "kill"))
        if not again.killed:
            problems.append(Problem(where, "it was not killed a second time"))
            continue
        answer = driver.run(Check(second, allowed, _volume_id(outcome), recording.secrets)).answer
        if answer.problem:
            problems.append(Problem(where, answer.problem))
    return len(calls), problems


# --- power loss


@dataclass(frozen=True)
class Removal:
    """An fsync that is taken away: all of a site in a step."""

    site: str
    step: int


def syncs(recording: Recording) -> dict[Removal, set[int]]:
    """Every fsync of the recording: the positions of the calls."""
    disk, step = Disk(recording.data_dir), 0
    found: dict[Removal, set[int]] = {}
    for position, call in enumerate(recording.calls):
        if call.name == SEND:
            message = call.message
            step = message.step if isinstance(message, Begun | Done) else step
        elif call.name in SYNCS and (path := disk.path_of(call)) is not None:
            found.setdefault(Removal(site(call, path), step), set()).add(position)
        disk.apply(call)
    return found


@dataclass(frozen=True)
class State:
    """A folder as a power loss may leave it after ``position`` calls, and how far the life had come by then.
    ``erased``: the last time that the index has given for it."""

    position: int
    loss: Loss
    last: Begun | Done | None
    volume_id: str | None
    erased: float | None
    tree: Tree

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(pickle.dumps((sorted(self.tree.items()), self.last, self.volume_id))).digest()


def power_losses(
    recording: Recording, losses: Callable[[int], Sequence[Loss]], removed: frozenset[int] = frozenset(), start: int = 0
) -> Iterator[State]:
    """Every different state, from the call ``start`` on. ``losses`` by position; ``removed``: positions of fsyncs that
    do nothing."""
    disk = Disk(recording.data_dir)
    last: Begun | Done | None = None
    volume_id: str | None = None
    erased: float | None = None
    seen: set[bytes] = set()
    for position, call in enumerate(recording.calls):
        disk.apply(call, synced=position not in removed)
        if call.name == SEND and isinstance(call.message, Begun | Done):
            last = call.message
            if isinstance(last, Done):
                volume_id, erased = last.volume_id, last.erased or erased
        elif not call.changes:
            continue
        if position < start:
            continue
        for loss in losses(position):
            state = State(position, loss, last, volume_id, erased, disk.crash(loss))
            if state.digest not in seen:
                seen.add(state.digest)
                yield state


def survives(recording: Recording, driver: Driver, folder: Path, state: State) -> Problem | None:
    """A start on what a power loss left."""
    write_tree(state.tree, folder)
    problem = recording.exposed(folder, state.erased)
    if not problem:
        task = Check(folder, recording.allowed(state.last), state.volume_id, recording.secrets)
        problem = driver.run(task).answer.problem
    if not problem:
        return None
    call = recording.calls[state.position]
    step = "the start" if state.last is None else step_name(state.last.step)
    return Problem(f"power lost after {call.name} {call.ordinal} in step {step} ({state.loss})", problem)


def thorough(number: int) -> Callable[[int], Sequence[Loss]]:
    """The regular losses at each position, and so many by seed."""
    return lambda position: (
        STRICT,
        NAMES_ONLY,
        CONTENT_ONLY,
        *(torn(1_000 * position + seed) for seed in range(number)),
    )


def missed_without(
    recording: Recording, driver: Driver, folder: Path, removed: frozenset[int], number: int
) -> tuple[int, Problem | None]:
    """How many power losses were tried until one was not survived, with these fsyncs taken away; and that one."""
    tried = 0
    for state in power_losses(recording, thorough(number), removed, min(removed)):
        place = folder / "state"
        place.mkdir()
        tried += 1
        problem = survives(recording, driver, place, state)
        shutil.rmtree(place)
        if problem is not None:
            return tried, problem
    return tried, None


def lose_power_after_restart(
    recording: Recording, driver: Driver, folder: Path, point: Point
) -> tuple[int, Problem | None]:
    """SIGKILL before this call, a start and a delete that is acknowledged, then a power loss: what was seen after the
    restart must be there. How many losses."""
    data_dir, place = folder / "data", folder / "state"
    data_dir.mkdir()
    first = driver.run(Live(data_dir), Injection(point.call, point.ordinal, "kill"), recorded=True)
    second = driver.run(Recover(data_dir), recorded=True)
    disk = Disk(data_dir)
    for call in first.calls:
        disk.apply(call)
    disk.restart()
    for call in second.calls:
        disk.apply(call)
    losses = (STRICT, NAMES_ONLY, CONTENT_ONLY, torn(point.ordinal))
    for loss in losses:
        place.mkdir()
        write_tree(disk.crash(loss), place)
        assert second.answer.world is not None
        problem = recording.exposed(place, _erased(first))
        if not problem:
            task = Check(place, (second.answer.world,), second.answer.volume_id, recording.secrets)
            problem = driver.run(task).answer.problem
        shutil.rmtree(place)
        if problem:
            return len(losses), Problem(f"killed before {point}, started, power lost ({loss})", problem)
    return len(losses), None


def essential(points: Iterable[Point]) -> list[Point]:
    """Those that make files durable or give them their names."""
    return [point for point in points if point.call in SYNCS | RENAMES]


def _ask(recording: Recording, driver: Driver, folder: Path, outcome: Outcome, where: str) -> Problem | None:
    last = outcome.last
    problem = recording.exposed(folder, _erased(outcome))
    if not problem:
        probed = isinstance(last, Refused) and last.store == "written"
        task = Check(folder, recording.allowed(last), _volume_id(outcome), recording.secrets, probed)
        problem = driver.run(task).answer.problem
    return Problem(where, problem) if problem else None


def _volume_id(outcome: Outcome) -> str | None:
    told = [message.volume_id for message in outcome.messages if isinstance(message, Done)]
    return told[-1] if told else None


def _erased(outcome: Outcome) -> float | None:
    """The last time that the index has given for what is erased."""
    told = [message.erased for message in outcome.messages if isinstance(message, Done) and message.erased is not None]
    return told[-1] if told else None


def _replace(folder: Path, tree: Tree) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    write_tree(tree, folder)
