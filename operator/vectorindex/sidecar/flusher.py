"""When the journal of an index is flushed: a delta segment is made of its rows while writes and searches go on.

It runs beside every other build, so that a long rebuild stops no writes; only the planning of other builds keeps it
waiting (:meth:`Flusher.sealed`). A flush that fails is tried again, and until then the tail grows to its bound.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from vectorindex.engine.errors import EngineError
from vectorindex.engine.flush import TAILS, rows_of_a_flush
from vectorindex.engine.jobs import BuildJob, BuildResult
from vectorindex.engine.segments import Segment
from vectorindex.sidecar import build, log
from vectorindex.sidecar.errors import BuildError, TooManyRequests
from vectorindex.sidecar.searcher_client import SearcherFailed
from vectorindex.sidecar.tasks import to_its_end

if TYPE_CHECKING:
    from vectorindex.sidecar.index import Index

_BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


class Flusher:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._rows = rows_of_a_flush(index.dimensions)
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = None
        self._stopped = False

    def admit(self, rows: int, waiting: int) -> None:
        """Raises TooManyRequests if upserts of ``rows`` items, beside ``waiting`` others that are not committed yet,
        would make the tail too long."""
        ahead = self._index.store.tail_rows + waiting
        if ahead >= self._rows and ahead + rows > TAILS * self._rows:
            why = f"which fails: {self._problem}" if self._problem else "which is under way"
            raise TooManyRequests(
                f"index {self._index.name}: {self._index.store.tail_rows:,} written items wait to be flushed into a "
                f"segment, {why}; send this one again later, or many items by an ingest session"
            )

    def wake(self) -> None:
        """After a write or a session: begin a flush if the tail is long enough, or a merge if there are too many
        deltas, and none runs."""
        if self._task is None and not self._stopped and (self._is_due or self._index.store.builds.can_merge):
            self._task = asyncio.create_task(self._run())

    @property
    def _is_due(self) -> bool:
        return self._index.store.tail_rows >= self._rows

    async def stop(self) -> None:
        """End the flush that runs, and begin no other; the next start has the rows in the journal."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextlib.asynccontextmanager
    async def sealed(self) -> AsyncIterator[None]:
        """Flush everything that has been written so far; in the block no other flush begins. Raises BuildError,
        EngineError, SearcherFailed."""
        async with self._flushing:
            through = await self._index.run(self._index.store.last_label)
            plan = partial(self._index.store.builds.plan_flush, through)
            while (job := await self._index.planned(plan, lambda job: job)) is not None:
                await self._flush(job)
            yield

    async def _run(self) -> None:
        builds = self._index.store.builds
        failures = 0
        try:
            while True:
                try:
                    async with self._flushing:
                        plan = builds.plan_flush if self._is_due else builds.plan_merge
                        job = await self._index.planned(plan, lambda job: job)
                        if job is None:
                            return
                        await self._flush(job)
                        self._problem, failures = None, 0
                except Exception as error:  # whatever it is, the rows are safe in the journal
                    self._problem = str(error)
                    expected = isinstance(error, BuildError | EngineError | SearcherFailed)
                    (log.warning if expected else log.exception)("flush-failed", index=self._index.name, why=error)
                    await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                    failures += 1
        finally:
            self._task = None

    async def _flush(self, job: BuildJob) -> None:
        store = self._index.store
        try:
            built = await build.run(job, lambda _percent: None)
            added = await self._index.run(store.builds.new_segments, job, built)
        except BaseException:
            await to_its_end(self._index.run(store.builds.discard, job))
            raise
        await to_its_end(self._put_in_place(job, built, added))
        log.info("flushed", index=self._index.name, rows=len(job.view.tail), merged=len(job.view.segments))

    async def _put_in_place(self, job: BuildJob, built: BuildResult, added: Sequence[Segment]) -> None:
        store = self._index.store
        try:
            await self._index.searchers.exchange(added, lambda: store.builds.commit(job, built))
        except BaseException:
            await self._index.run(store.builds.discard, job)
            raise
