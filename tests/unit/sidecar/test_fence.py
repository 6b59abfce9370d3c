"""Whose calls a pod takes, over restarts and whatever the clocks say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vectorindex.sidecar.errors import OutOfEpoch, StartRefused, Unavailable
from vectorindex.sidecar.fence import Fence
from vectorindex.wire.epoch import MAX_AHEAD

NOW = 1_800_000_000_000_000
OVER = "is over"
AHEAD = "ahead of this pod's clock"


class Clock:
    now = NOW

    def __call__(self) -> int:
        return self.now


def fence(folder: Path, clock: Clock | None = None) -> Fence:
    return Fence(folder / "epoch", required=True, clock=clock or Clock())


@pytest.mark.parametrize("restarts", [False, True], ids=["", "restarted in between"])
@pytest.mark.parametrize(
    ("seen", "epoch", "refusal"),
    [
        pytest.param(None, 1, None, id="the first"),
        pytest.param(NOW, NOW, None, id="the same leader"),
        pytest.param(NOW, NOW + 1, None, id="a newer one"),
        pytest.param(NOW, NOW - 1, OVER, id="an older one"),
        pytest.param(None, NOW + MAX_AHEAD, None, id="a clock that is 5 minutes ahead"),
        pytest.param(None, NOW + MAX_AHEAD + 1, AHEAD, id="a clock that is further ahead"),
        pytest.param(NOW + MAX_AHEAD, NOW, OVER, id="a right clock after one that was ahead"),
    ],
)
async def test_who_may_call(tmp_path: Path, seen: int | None, epoch: int, refusal: str | None, restarts: bool) -> None:
    pod = fence(tmp_path)
    if seen is not None:
        await pod.admit(seen)
    if restarts:
        pod = fence(tmp_path)
    if refusal is None:
        await pod.admit(epoch)
        assert pod.seen == epoch
    else:
        with pytest.raises(OutOfEpoch, match=refusal) as refused:
            await pod.admit(epoch)
        assert refused.value.fields == {"epoch": epoch, "seen": seen or 0}
        assert pod.seen == (seen or 0)
    assert fence(tmp_path).seen == pod.seen


async def test_what_was_seen_while_the_clock_was_wrong_locks_nobody_out(tmp_path: Path) -> None:
    clock = Clock()
    clock.now = 2 * NOW
    await fence(tmp_path, clock).admit(2 * NOW)
    clock.now = NOW
    pod = fence(tmp_path, clock)
    with pytest.raises(OutOfEpoch, match=AHEAD):
        await pod.admit(2 * NOW)
    await pod.admit(NOW)
    with pytest.raises(OutOfEpoch, match=OVER):
        await pod.admit(NOW - 1)
    assert fence(tmp_path, clock).seen == NOW


async def test_calls_of_many_leaders_at_once_leave_the_highest(tmp_path: Path) -> None:
    pod = fence(tmp_path)
    results = await asyncio.gather(*(pod.admit(epoch) for epoch in (5, 9, 3, 9, 7)), return_exceptions=True)
    assert pod.seen == fence(tmp_path).seen == 9
    assert results[1] is results[3] is None


async def test_only_a_new_epoch_is_written(tmp_path: Path) -> None:
    pod = fence(tmp_path)
    await pod.admit(7)
    before = (tmp_path / "epoch").stat()
    for _ in range(10):
        await pod.admit(7)
    after = (tmp_path / "epoch").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_an_epoch_that_cannot_be_recorded_is_not_taken(tmp_path: Path) -> None:
    pod = Fence(tmp_path / "no folder" / "epoch", required=True, clock=Clock())
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be recorded"):
            await pod.admit(7)
    assert pod.seen == 0


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("yesterday")
    with pytest.raises(StartRefused, match="does not hold an epoch; remove it"):
        fence(tmp_path)
