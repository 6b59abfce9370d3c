"""A build that does not fit is refused with figures, or ends with a reason; the index serves all the while."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sidecar.program import Client, Launch, Program, connect, names, real_vectors, rows
from tests.unit.engine.harness import load, new_index, random_items
from vectorindex.engine.jobs import BuildJob
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.store import Store
from vectorindex.sidecar import build, memory, process_memory
from vectorindex.sidecar.errors import BuildError
from vectorindex.sidecar.memory import Allowance
from vectorindex.wire.operations import FailureReason

MiB = 2**20


async def serves(client: Client, index: str = "demo") -> bool:
    return await client.search(index, real_vectors()[17], k=1) == ["item-17"]


def in_use(program: Program) -> int:
    """Anonymous bytes of all its processes."""
    return sum(process_memory.anonymous(pid) for pid in (program.pid, *program.children()))


@pytest.mark.parametrize("kind", ["Rebuild", "Optimize"])
async def test_a_build_without_enough_memory_is_refused_before_it_starts(
    filled: Program, launch: Launch, folder: Path, kind: str
) -> None:
    async with connect(filled) as client:
        await client.delete("demo", names(5, first=100))
        before = await client.state("demo")
        limit = in_use(filled) + 31 * MiB  # the reserve, and half of what a builder takes with nothing in it
    filled.stop()

    files = sorted(folder.glob("0*.*"))
    async with connect(launch(environment={"MEMORY_LIMIT_BYTES": str(limit)})) as client:
        await client.put("demo", "large.1", kind)
        status = await client.finished("demo", "large.1")
        assert (status["state"], status["reason"], status["progress"]) == ("Failed", "InsufficientMemory", 0)
        needed, free, allowed = re.findall(r"(\d+) MB", status["message"])[:3]
        assert int(needed) > int(free) > 0
        assert int(allowed) == round(limit / 1e6)
        assert "raise the memory limit" in status["message"]
        after = await client.state("demo")
        assert (after["counts"], after["parameters"]) == (before["counts"], before["parameters"])
        assert sorted(folder.glob("0*.*")) == files
        assert await serves(client)
        await client.ok("POST", "/init", {"index_name": "demo", "mode": "upsert"})
        await client.ok("POST", "/ingest", {"index_name": "demo", "external_id": "new", "vector": [1.0] * 384})
        refused = await client.call("POST", "/finalize", {"index_name": "demo"})
        assert refused.status == 503
        assert "a finalize needs about" in refused.body["detail"]


async def test_what_was_written_waits_while_there_is_no_memory_for_a_flush(filled: Program, launch: Launch) -> None:
    async with connect(filled):
        limit = in_use(filled) + 31 * MiB
    filled.stop()
    program = launch(environment={"MEMORY_LIMIT_BYTES": str(limit)})
    async with connect(program) as client:
        await client.ok("POST", "/upsert.bin?index_name=demo", rows(["new"], real_vectors()[5000:5001]))
        await client.put("demo", "first.1", "Rebuild")
        status = await client.finished("demo", "first.1")
        assert (status["state"], status["reason"]) == ("Failed", "InsufficientMemory")
        assert status["message"].startswith("a flush needs about")
        assert (await client.state("demo"))["tail"] == 1
    program.stop()
    async with connect(launch()) as client:
        assert await client.search("demo", real_vectors()[5000], k=1) == ["new"]
        await client.put("demo", "second.1", "Rebuild")
        assert (await client.finished("demo", "second.1"))["state"] == "Succeeded"
        assert (await client.state("demo"))["tail"] == 0
        assert await client.search("demo", real_vectors()[5000], k=1) == ["new"]


async def test_a_build_within_its_memory_goes_through(filled: Program, launch: Launch) -> None:
    """What the estimate asks for is enough, with RLIMIT_DATA in force."""
    async with connect(filled):
        limit = in_use(filled) + 16 * MiB + 40 * MiB  # 36 MB are asked for, and the front may take some meanwhile
    filled.stop()
    async with connect(launch(environment={"MEMORY_LIMIT_BYTES": str(limit)})) as client:
        await client.delete("demo", names(100, first=100))
        for kind in ("Optimize", "Rebuild"):
            await client.put("demo", f"fits-{kind}", kind)
            status = await client.finished("demo", f"fits-{kind}")
            assert status["state"] == "Succeeded", status


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """4,000 items x 384, of which 400 are deleted: a graph of 6.7 MB."""
    opened = new_index(tmp_path, Metric.L2, 384, Parameters(m=16, ef_construction=8))
    load(opened, random_items(4_000, dimensions=384))
    opened.delete(names(400))
    yield opened
    opened.close()


JOBS: list[Callable[[Store], BuildJob]] = [
    lambda store: store.builds.plan_rebuild(Parameters(m=64, ef_construction=8), 2, None),
    lambda store: store.builds.plan_optimize(2, None),
]


@pytest.mark.parametrize("plan", JOBS, ids=["rebuild", "optimize"])
async def test_a_builder_cannot_take_more_than_it_may_and_says_so(
    store: Store, plan: Callable[[Store], BuildJob]
) -> None:
    held = memory.held()
    allowed = Allowance(limit=held + 19 * MiB + 64 * MiB, reserve=64 * MiB)
    with pytest.raises(BuildError, match="the memory of the builder, which may take 20 MB, was not enough") as refused:
        await build.run_within(allowed, plan(store), lambda _: None)
    assert refused.value.reason is FailureReason.INSUFFICIENT_MEMORY


async def test_a_builder_is_ended_when_others_eat_the_reserve(store: Store) -> None:
    ballast: list[mmap.mmap] = []

    def eat(percent: int) -> None:
        """Pages of its own: the heap of a process that has run other tests may have room that counts already."""
        if percent and not ballast:  # it has begun
            room = mmap.mmap(-1, 64 * MiB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            room.write(b"x" * len(room))
            ballast.append(room)

    job = store.builds.plan_rebuild(Parameters(m=48, ef_construction=2_000), 1, None)
    allowed = Allowance(limit=memory.held() + 80 * MiB, reserve=32 * MiB)
    with pytest.raises(
        BuildError, match="the build was ended, because memory in use had eaten into the 34 MB"
    ) as ended:
        await build.run_within(allowed, job, eat)
    assert ended.value.reason is FailureReason.INSUFFICIENT_MEMORY
    assert ballast


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a small volume")
async def test_a_build_without_enough_space_is_refused_and_works_once_there_is(tmp_path: Path) -> None:
    """On a volume of its own, which only the program sees: 40 MiB for a graph of 5 MB."""
    volume = tmp_path / "volume"
    volume.mkdir()
    mount = f'mount -t tmpfs -o size=40m tmpfs {volume} && exec "$0" "$@"'
    program = Program(volume, wrapper=["unshare", "--mount", "--propagation", "private", "sh", "-c", mount])
    inside = Path(f"/proc/{program.pid}/root{volume}")
    try:
        async with connect(program) as client:
            await client.create("demo", 384, metric="Cosine", params={"M": 8, "ef_construction": 20})
            await client.load("demo", names(3000), real_vectors()[:3000])
            await client.delete("demo", names(100, first=100))
            ballast = inside / "ballast"
            ballast.write_bytes(b"x" * 27 * MiB)
            for kind in ("Rebuild", "Optimize"):
                await client.put("demo", f"full-{kind}", kind)
                status = await client.finished("demo", f"full-{kind}")
                assert (status["state"], status["reason"]) == ("Failed", "InsufficientStorage"), status
                needed, free = map(int, re.findall(r"(\d+) MB", status["message"])[:2])
                assert needed > free > 0
                assert "enlarge the volume" in status["message"]
                assert await serves(client)
            assert (await client.delete("demo", ["item-5"]))["deleted_count"] == 1, "there is room for that"
            ballast.unlink()
            for kind in ("Optimize", "Rebuild"):
                await client.put("demo", f"space-{kind}", kind)
                assert (await client.finished("demo", f"space-{kind}"))["state"] == "Succeeded"
            assert (await client.state("demo"))["counts"] == {"live": 2899, "deleted": 0, "delta": 0}
            assert await serves(client)
    finally:
        program.stop()
