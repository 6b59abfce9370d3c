"""A builder by turns, where the container has one core or less."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.sidecar.program import Launch, Program, connect, eventually
from vectorindex.sidecar import process
from vectorindex.sidecar.container import cpu_stat
from vectorindex.sidecar.duty import next_share, run_by_turns


@pytest.mark.parametrize(
    ("share", "throttled", "after"),
    [(1.0, False, 1.0), (0.5, False, 0.52), (0.99, False, 1.0), (1.0, True, 0.7), (0.5, True, 0.35), (0.2, True, 0.2)],
)
def test_less_at_once_and_more_little_by_little(share: float, throttled: bool, after: float) -> None:
    assert next_share(share, throttled) == pytest.approx(after)


def test_the_file_that_counts(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("4:cpu,cpuacct:/pods/mine\n0::/slice/mine\n")
    assert cpu_stat(tmp_path, own) is None
    for folder, content in [
        ("slice/mine", "usage_usec 5\n"),
        ("slice", "usage_usec 5\nnr_periods 3\nnr_throttled 1\n"),
        ("cpu/pods/mine", "nr_periods 3\nnr_throttled 1\n"),
    ]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cpu.stat").write_text(content)
    assert cpu_stat(tmp_path, own) == tmp_path / "cpu/pods/mine/cpu.stat"
    (tmp_path / "cpu/pods/mine/cpu.stat").unlink()
    assert cpu_stat(tmp_path, own) == tmp_path / "slice/cpu.stat", "the first one that counts"


async def test_a_process_stands_still_while_the_container_is_throttled(tmp_path: Path) -> None:
    """Its states by the kernel, while a counter says that every period was throttled, and then that none is."""
    stat = tmp_path / "cpu.stat"
    times = 0

    def throttle() -> None:
        nonlocal times
        times += 1
        written = tmp_path / "new"
        written.write_text(f"nr_periods 9\nnr_throttled {times}\n")
        written.replace(stat)

    throttle()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    turns = asyncio.create_task(run_by_turns(child, stat))

    async def states(samples: int, *, throttled: bool) -> Counter[str]:
        seen: Counter[str] = Counter()
        for _ in range(samples):
            await asyncio.sleep(0.013)
            if throttled:
                throttle()
            seen[Path(f"/proc/{child.pid}/stat").read_text().split()[2]] += 1
        return seen

    async def mostly_runs() -> bool:
        return (await states(60, throttled=False))["T"] < 15

    try:
        await states(100, throttled=True)  # until it has settled
        assert (await states(150, throttled=True))["T"] > 75
        await eventually(mostly_runs, "the process to run most of the time again")
        turns.cancel()
        await asyncio.wait([turns])
        assert (await states(30, throttled=False))["T"] == 0
    finally:
        turns.cancel()
        await process.stop(child)


async def test_builds_by_turns_end_and_are_cancelled_at_once(filled: Program, launch: Launch) -> None:
    filled.stop()
    program = launch(environment={"CPU_LIMIT_MILLICORES": "500"})
    async with connect(program) as client:
        await client.put("demo", "slow.1", "Rebuild", params={"M": 24, "ef_construction": 1_000})
        (builder,) = await eventually(lambda: program.children("builder"), "the builder")
        if cpu_stat() is not None:
            status = Path(f"/proc/{builder}/stat")
            await eventually(lambda: status.read_text().split()[2] == "T", "its pause")
        assert (await client.ok("DELETE", "/v1/indexes/demo/operations/slow.1"))["state"] == "Cancelled"
        assert program.children("builder") == []
        await client.put("demo", "quick.1", "Rebuild")
        assert (await client.finished("demo", "quick.1"))["state"] == "Succeeded"
