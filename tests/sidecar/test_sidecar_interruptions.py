"""One index within this process, with real searchers and builders, disturbed at moments that no client can hit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sidecar.program import DEADLINE, eventually, names, random_vectors, rows
from vectorindex.engine.catalog import create_index
from vectorindex.engine.errors import OutOfSpace
from vectorindex.engine.jobs import BuildJob, BuildResult, JobKind
from vectorindex.engine.params import IndexSpec, Metric
from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.session import SessionMode
from vectorindex.engine.view_change import ViewChange
from vectorindex.sidecar import build, process
from vectorindex.sidecar.errors import Unavailable
from vectorindex.sidecar.index import Index
from vectorindex.sidecar.searcher_client import SearcherClient, SearcherFailed
from vectorindex.sidecar.serving import Serving
from vectorindex.wire.identity import GraphParameters
from vectorindex.wire.operations import OperationState, RebuildRequest

VECTORS = random_vectors(2_000)
SLOW = GraphParameters.model_validate({"M": 48, "ef_construction": 1500})


async def open_index(folder: Path) -> Index:
    return await Index.open(folder, folder / "none", "volume", "boot", lambda: None, lambda _: None)


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Index]:
    index = await open_index(folder)
    try:
        yield index
    finally:
        async with asyncio.timeout(DEADLINE):
            await index.close()


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A closed index of 2,000 items."""
    folder = create_index(tmp_path, IndexSpec("words", 8, Metric.L2))
    async with opened(folder) as index:
        await index.open_session(SessionMode.BUILD)
        await index.ingest_rows(rows(names(2_000), VECTORS))
        status = await index.operations.wait(await index.operations.finalize(GraphParameters()))
        assert status.state is OperationState.SUCCEEDED, status
    return folder


async def finds(index: Index, number: int) -> bool:
    found = await index.search(VECTORS[number].tobytes(), 1, 1, None)
    return f'"item-{number}"'.encode() in found


async def test_a_searcher_that_dies_as_it_starts_is_started_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = process.start

    async def stillborn(module: str, *arguments: Any, **more: Any) -> asyncio.subprocess.Process:
        child = await begin(module, *arguments, **more)
        child.kill()
        monkeypatch.setattr(process, "start", begin)
        return child

    monkeypatch.setattr(process, "start", stillborn)
    async with opened(folder) as index:
        await eventually(lambda: index.searchers.problem is None, "a searcher")
        assert await finds(index, 7)


async def test_a_restart_that_a_swap_overtakes_leaves_the_index_ready(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(folder) as index:
        prepare = index.searchers.prepare
        restarting, swapped, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def late(snapshot: Callable[[], ViewSpec]) -> Serving:
            if snapshot != index.store.view_spec:
                return await prepare(snapshot)
            restarting.set()
            await swapped.wait()
            refused.set()
            raise SearcherFailed("its files are gone, because of the swap")

        monkeypatch.setattr(index.searchers, "prepare", late)
        assert index.searchers._current is not None
        await index.searchers._current.searcher.end(grace=0)
        await restarting.wait()
        assert index.searchers.problem is not None
        status = await index.operations.wait(await index.operations.build(RebuildRequest()))
        assert status.state is OperationState.FAILED, "recall is measured through a searcher that serves"
        await index.operations.wait(await swap_without_measuring(index))
        assert index.searchers.problem is None
        swapped.set()
        await refused.wait()
        await asyncio.gather(*(task for task in index.searchers._tasks if "_watch" not in repr(task)))
        assert index.searchers.problem is None
        assert await finds(index, 7)


async def swap_without_measuring(index: Index) -> str:
    await index.open_session(SessionMode.BUILD)
    await index.ingest_rows(rows(names(2_000), VECTORS))
    return await index.operations.finalize(GraphParameters())


async def test_a_delete_that_a_searcher_does_not_take_ends_that_searcher(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: SearcherClient, change: ViewChange) -> None:
        raise OSError("no descriptor is left")

    async with opened(folder) as index:
        assert await finds(index, 7)
        with monkeypatch.context() as patched:
            patched.setattr(SearcherClient, "apply", fail)
            assert (await index.delete(["item-7"])).deleted == 1
        assert not await finds(index, 7)
        assert await finds(index, 8)


async def test_an_operation_that_waits_for_space_does_not_hold_up_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = asyncio.Event()
    loop = asyncio.get_running_loop()

    def full(*_: object) -> None:
        raise OutOfSpace("no space left")

    def full_again(*_: object) -> None:
        loop.call_soon_threadsafe(waits.set)
        raise OutOfSpace("no space left")

    async with opened(folder) as index:
        with monkeypatch.context() as patched:
            patched.setattr(index.store.builds, "commit", full)
            patched.setattr(index.store, "fail_operation", full_again)
            identity = await index.operations.build(RebuildRequest())
            await waits.wait()
            async with asyncio.timeout(DEADLINE):
                await index.operations.stop()
    async with opened(folder) as index:
        status = await index.operations.wait(identity)
        assert (status.state, status.restarts) == (OperationState.SUCCEEDED, 1)


async def test_however_often_a_finalize_is_cancelled_it_cleans_up(folder: Path) -> None:
    async with opened(folder) as index:
        before = sorted(path.name for path in folder.iterdir())
        await index.open_session(SessionMode.BUILD)
        await index.ingest_rows(rows(names(2_000), VECTORS))
        identity = await index.operations.finalize(SLOW)

        async def begun() -> bool:
            return (await index.operations.get(identity)).progress > 0

        await eventually(begun, "the build")
        ended = await asyncio.gather(*(index.operations.cancel(identity) for _ in range(20)))
        assert {status.state for status in ended} == {OperationState.CANCELLED}
        assert sorted(path.name for path in folder.iterdir()) == before
        await index.open_session(SessionMode.BUILD)
        assert await finds(index, 7)


async def flush_ten(index: Index, first: int) -> None:
    await index.upsert(names(10, first), VECTORS[first : first + 10])
    async with index.flusher.sealed():
        pass


async def test_a_searcher_whose_files_a_flush_takes_away_loads_those_that_came_instead(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One delta is flushed after the seal of a rebuild, and merged while the new searcher is about to load it."""
    run, start = build.run, SearcherClient.start
    started: list[ViewSpec] = []

    async def run_and_flush(job: BuildJob, progress: Callable[[int], None]) -> BuildResult:
        built = await run(job, progress)
        if job.kind is JobKind.REBUILD:
            await flush_ten(index, 0)
        return built

    async def start_late(view: ViewSpec) -> SearcherClient:
        started.append(view)
        if len(started) == 1:
            await flush_ten(index, 100)
        return await start(view)

    async with opened(folder) as index:
        monkeypatch.setattr(build, "run", run_and_flush)
        monkeypatch.setattr(SearcherClient, "start", start_late)
        status = await index.operations.wait(await index.operations.build(RebuildRequest()))
        assert status.state is OperationState.SUCCEEDED, status
        assert [len(view.segments) for view in started] == [2, 2]
        assert started[0].segments[1] != started[1].segments[1]
        assert (await index.state()).counts.live == 2_000
        for number in (5, 105, 1_500):
            assert await finds(index, number)


async def test_a_rebuild_that_is_cancelled_while_its_flush_is_put_in_place_leaves_the_flush(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(folder) as index:
        exchange = index.searchers.exchange
        exchanging, go_on = asyncio.Event(), asyncio.Event()

        async def slow(added: Sequence[Segment], transaction: Callable[[], ViewChange]) -> None:
            exchanging.set()
            await go_on.wait()
            await exchange(added, transaction)

        await index.upsert(names(10, 3_000), VECTORS[:10] + 1)
        with monkeypatch.context() as patched:
            patched.setattr(index.searchers, "exchange", slow)
            identity = await index.operations.build(RebuildRequest())
            await exchanging.wait()
            cancelling = asyncio.create_task(index.operations.cancel(identity))
            await asyncio.sleep(0)
            go_on.set()
            assert (await cancelling).state is OperationState.CANCELLED
        state = await index.state()
        assert (state.tail, state.segments, state.counts.live) == (0, 2, 2_010)
        assert b"item-3004" in await index.search((VECTORS[4] + 1).tobytes(), 1, 1, None)
    async with opened(folder) as index:
        assert (await index.state()).counts.live == 2_010


async def test_a_fetch_waits_until_what_is_committed_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the commit of a flush and its message to the searchers, new items are in no journal and in no segment
    that a searcher knows."""
    async with opened(folder) as index:
        tell = index.searchers._tell
        committed, go_on = asyncio.Event(), asyncio.Event()

        async def late(change: ViewChange, *files: Any) -> None:
            if change.added:
                committed.set()
                await go_on.wait()
            await tell(change, *files)

        await index.upsert(names(10, 3_000), VECTORS[:10] + 1)
        monkeypatch.setattr(index.searchers, "_tell", late)
        flushing = asyncio.create_task(flush_ten(index, 1_500))
        await committed.wait()
        fetching = asyncio.create_task(index.fetch([*names(10, 3_000), *names(3)]))
        await asyncio.sleep(0.05)
        go_on.set()
        found = await fetching
        await flushing
        np.testing.assert_array_equal(np.stack([found[name] for name in names(10, 3_000)]), VECTORS[:10] + 1)
        assert list(found) == [*names(10, 3_000), *names(3)]


async def test_a_session_that_replaces_every_item_brings_its_parameters_in_force(folder: Path) -> None:
    async with opened(folder) as index:
        await index.open_session(SessionMode.UPSERT)
        await index.ingest_rows(rows(names(2_000), VECTORS + 1))
        changes = GraphParameters.model_validate({"ef_search": 500})
        status = await index.operations.wait(await index.operations.finalize(changes))
        assert status.state is OperationState.SUCCEEDED, status
        state = await index.state()
        assert (state.parameters.ef_search, index._ef_search) == (500, 500)
        assert (state.segments, state.counts.live, state.counts.delta) == (1, 2_000, 0)
        assert b"item-7" in await index.search((VECTORS[7] + 1).tobytes(), 1, 1, None)


async def test_no_flush_begins_while_an_index_is_closed(folder: Path) -> None:
    index = await open_index(folder)
    index.flusher._rows = 5
    writes = [index.upsert([f"late-{row}"], VECTORS[row : row + 1]) for row in range(20)]
    writing = asyncio.gather(*writes)
    await asyncio.sleep(0)
    await index.close()
    assert len(await writing) == 20
    assert index.flusher._task is None
    with pytest.raises(Unavailable):
        await index.delete(["late-1"])
    async with opened(folder) as index:
        assert (await index.state()).counts.live == 2_020


async def test_a_large_write_is_taken_while_no_flush_is_under_way(folder: Path) -> None:
    async with opened(folder) as index:
        index.flusher._rows = 10
        await index.upsert(names(5, 3_000), VECTORS[:5])
        await index.upsert(names(38, 4_000), VECTORS[:38])
        assert (await index.state()).counts.live == 2_043


async def test_files_that_were_opened_in_vain_are_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutOfSpace("no space left")

    async with opened(folder) as index:
        await index.upsert(names(10, 3_000), VECTORS[:10])
        assert index.searchers._current is not None
        maps = Path(f"/proc/{index.searchers._current.searcher.pid}/maps")
        with monkeypatch.context() as patched:
            patched.setattr(index.store.builds, "commit", full)
            with pytest.raises(OutOfSpace):
                await flush_ten(index, 100)
        assert "(deleted)" not in "".join(line for line in maps.read_text().splitlines() if ".hnsw" in line)
        await flush_ten(index, 100)
        assert (await index.state()).tail == 0
