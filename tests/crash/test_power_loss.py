"""Power losses: what was not synced is gone, or is there, or is there in part."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from tests.crash.campaign import (
    Crew,
    Recording,
    Removal,
    essential,
    lose_power_after_restart,
    missed_without,
    power_losses,
    survives,
    syncs,
    thorough,
)
from tests.crash.disk import EVERYTHING, STRICT, Disk, Tree
from tests.crash.messages import Live
from tests.crash.tracing import Call, Driver, Injection

SEED = 1

NOT_OURS = {
    "fdatasync folder of the index": "SQLite syncs the name of its WAL before the first commit, without regard to the"
    " error; Store.open has synced the folder by then",
    "fsync segment .hnsw, in a snapshot": "another name of a durable file; a copy where there are no links",
    "fsync segment .ids, in a snapshot": "the same",
    "fdatasync index.db-journal, at creation": "SQLite's, in a restored copy; whole_folder syncs all that is left",
    "fdatasync index.db, at creation": "the same",
    "fdatasync folder of the index, at creation": "the same",
}
"""What may be taken away without a loss, and why it is there."""


def test_nothing_acknowledged_is_lost(team: Crew, recording: Recording, count: dict[str, int]) -> None:
    states = list(power_losses(recording, thorough(1)))
    strict = [state for state in states if state.loss == STRICT]
    others = [state for state in states if state.loss != STRICT]
    chosen = strict + random.Random(SEED).sample(others, 50)
    count["power losses"] = len(chosen)
    found = team.map(partial(survives, recording), chosen)
    assert [str(problem) for problem in found if problem is not None] == []


def test_every_fsync_matters(team: Crew, recording: Recording, count: dict[str, int]) -> None:
    """Without all of one kind, there is a power loss that is not survived."""
    kinds: dict[str, set[int]] = {}
    for removal, positions in syncs(recording).items():
        kinds.setdefault(removal.site, set()).update(positions)
    wanted = {kind: frozenset(positions) for kind, positions in kinds.items() if kind not in NOT_OURS}
    found = team.map(
        lambda driver, folder, removed: missed_without(recording, driver, folder, removed, 0), wanted.values()
    )
    count["power losses without an fsync"] = sum(number for number, _ in found)
    assert [kind for kind, (_, problem) in zip(wanted, found, strict=True) if problem is None] == []
    assert set(NOT_OURS) <= set(kinds)


def test_what_was_seen_after_a_restart_stays(team: Crew, recording: Recording, count: dict[str, int]) -> None:
    """A kill, a start, an acknowledged delete, a power loss."""
    points = [point for point in essential(recording.points()) if point.step < 3 or point.call == "rename"]
    points += random.Random(SEED).sample(essential(recording.points()), 3)
    found = team.map(partial(lose_power_after_restart, recording), points)
    count["power losses after a kill and a start"] = sum(number for number, _ in found)
    assert [str(problem) for _, problem in found if problem is not None] == []


# --- the disk that all this is asked of


def files(folder: Path) -> Tree:
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
        if not path.name.endswith("-shm")
    }


def test_the_disk_holds_what_the_kernel_holds(team: Crew, recording: Recording) -> None:
    points = random.Random(SEED).sample(recording.points(), 6)

    def both(driver: Driver, folder: Path, number: int) -> tuple[Tree, Tree]:
        point = points[number]
        outcome = driver.run(Live(folder), Injection(point.call, point.ordinal, "kill"), recorded=True)
        disk = Disk(folder)
        for call in outcome.calls:
            disk.apply(call)
        return disk.crash(EVERYTHING), files(folder)

    for model, real in team.map(both, range(len(points))):
        assert model == real
        assert real


def call(name: str, arguments: str, result: int = 0, *strings: str) -> Call:
    return Call(name, 1, arguments, tuple(string.encode() for string in strings), result, "", False)


WRITE_A = (
    call("openat", 'AT_FDCWD, "", O_WRONLY|O_CREAT', 3, "/data/a"),
    call("write", '3, "", 3', 3, "new"),
)
SYNC_A = call("fsync", "3")
FAIL_A = call("fsync", "3", -1)
OPEN_FOLDER = call("openat", 'AT_FDCWD, "", O_RDONLY', 4, "/data")
SYNC_FOLDER = call("fsync", "4")
RENAME = call("rename", '"", ""', 0, "/data/a", "/data/b")


@pytest.mark.parametrize(
    ("calls", "left"),
    [
        pytest.param([], {}, id="a file that nothing was synced of"),
        pytest.param([SYNC_A], {}, id="its content without its name"),
        pytest.param([OPEN_FOLDER, SYNC_FOLDER], {"a": b""}, id="its name without its content"),
        pytest.param([SYNC_A, OPEN_FOLDER, SYNC_FOLDER], {"a": b"new"}, id="both"),
        pytest.param([SYNC_A, OPEN_FOLDER, SYNC_FOLDER, RENAME], {"a": b"new"}, id="a rename that was not synced"),
        pytest.param([SYNC_A, OPEN_FOLDER, RENAME, SYNC_FOLDER], {"b": b"new"}, id="a rename that was"),
        pytest.param([FAIL_A, SYNC_A, OPEN_FOLDER, SYNC_FOLDER], {"a": b""}, id="synced again after a failure"),
    ],
)
def test_a_power_loss_leaves_what_was_synced(calls: list[Call], left: Tree) -> None:
    disk = Disk(Path("/data"))
    for made in (*WRITE_A, *calls):
        disk.apply(made)
    assert disk.crash(STRICT) == left


def test_an_fsync_is_found_by_its_step(recording: Recording) -> None:
    assert Removal("fsync segment .hnsw", 5) in syncs(recording)
