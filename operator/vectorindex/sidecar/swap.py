"""A change of an index's list of segments, from its plan to the searcher that serves it.

Flush, plan at an LSN → build → a searcher on the new files beside the one that serves, which gets every write from then
on → measure → one transaction that names the new files and records the result → switch. A session that adds a delta to
a main segment starts no searcher: the one that serves gets the new file. Whatever ends it before that transaction, the
index is as it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.distance import Neighbours
from vectorindex.engine.jobs import BuildJob, BuildResult
from vectorindex.engine.recall import RecallSample, SampleRequest, recall
from vectorindex.engine.segments import Role, Segment
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.store import IndexStatus
from vectorindex.sidecar import build, convert, resources
from vectorindex.sidecar.errors import BuildError, TooManyRequests
from vectorindex.sidecar.limits import builder_threads
from vectorindex.sidecar.serving import Answer, Serving
from vectorindex.wire.identity import GraphParameters
from vectorindex.wire.operations import (
    BeforeAfter,
    Computations,
    FailureReason,
    GraphResult,
    OptimizeRequest,
    RebuildRequest,
    Recall,
    Verification,
)
from vectorindex.wire.state import Configuration

if TYPE_CHECKING:
    from vectorindex.sidecar.index import Index

_RECALL_ROWS = 16  # queries of a sample at a time, so that real searches get their turn between them
_BUSY_SECONDS = 0.05  # pause of the measurement while real searches fill the queue


Outcome = Callable[[], dict[str, Any] | None]
"""The operation's result, made in the writer thread within the swap's transaction."""

Plan = Callable[[IndexStatus, SampleRequest], BuildJob]
"""Makes the job in the writer thread, from the state of the index there and the queries to measure with."""

Judge = Callable[[BuildResult, Serving], Awaitable[Outcome]]
"""Looks at a new graph before it serves; raises BuildError to refuse it."""


class Swap:
    """One run of a build in the name of an operation. ``progress`` gets the percentage done; within ``undisturbed()``
    nobody interrupts the run."""

    def __init__(
        self,
        index: Index,
        operation_id: str,
        progress: Callable[[int], None],
        undisturbed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._index = index
        self._store = index.store
        self._operation_id = operation_id
        self._progress = progress
        self._undisturbed = undisturbed

    async def finalize(self, session: IngestSession, changes: GraphParameters) -> None:
        """Make a segment of the session's rows."""

        def plan() -> BuildJob:
            status = self._store.status()
            parameters = convert.changed(status.parameters, changes)
            return self._store.builds.plan_finalize(session, parameters, _threads(status.configuration))

        async def judge(built: BuildResult, candidate: Serving) -> Outcome:
            return lambda: None

        if session.mode is SessionMode.BUILD:
            async with self._index.replacing(), self._index.flusher.sealed():
                await self._swap(await self._index.planned(plan, lambda job: job), judge)
            return
        async with self._index.flusher.sealed():
            job = await self._index.planned(plan, lambda job: job)
        await self._swap(job, judge)

    async def rebuild(self, request: RebuildRequest) -> None:
        """Replace every graph by one new one of the live items, unless its recall is not good enough."""

        def plan(before: IndexStatus, sample: SampleRequest) -> BuildJob:
            of_index = convert.changed(before.parameters, request.index_params)
            parameters = convert.changed(of_index, request.params)
            return self._store.builds.plan_rebuild(parameters, _threads(before.configuration), sample)

        await self._replace(plan, request.verify)

    async def optimize(self, request: OptimizeRequest) -> None:
        """Take the deleted items out of each graph, and mend it, unless its recall is not good enough then."""

        def plan(before: IndexStatus, sample: SampleRequest) -> BuildJob:
            return self._store.builds.plan_optimize(_threads(before.configuration), sample)

        await self._replace(plan, request.verify)

    async def _replace(self, plan: Plan, verify: Verification) -> None:
        """Serve new graphs of the items that are there, unless ``verify`` refuses them."""

        sample = SampleRequest(verify.samples, verify.k, queries=self._index.recent_queries.sample(verify.samples))

        def planned() -> tuple[IndexStatus, BuildJob]:
            before = self._store.status()
            return before, plan(before, sample)

        async with self._index.flusher.sealed():
            before, job = await self._index.planned(planned, lambda both: both[1])

        async def judge(built: BuildResult, candidate: Serving) -> Outcome:
            started = time.monotonic()
            ef_before, ef_after = before.parameters.ef_search, job.parameters.ef_search
            measured = await self._measure(built.sample, candidate, ef_before, ef_after)
            _refuse_regression(measured, verify)
            seconds = {**built.seconds, "recall": round(time.monotonic() - started, 3)}
            return lambda: _result(before, self._store.status(), built, job, measured, seconds).to_json()

        await self._swap(job, judge)

    async def _swap(self, job: BuildJob, judge: Judge) -> None:
        async with self._discarding(job):
            built = await build.run(job, self._progress)
            added = await self._index.run(self._store.builds.new_segments, job, built)
            if job.session is not None and added and all(new.role is Role.DELTA for new in added):
                await self._put_beside(job, built, added)
                return
            resources.require_for_searcher(job)
            candidate = await self._index.searchers.prepare(lambda: self._store.builds.candidate(job, built))
            try:
                outcome = await judge(built, candidate)
                with self._undisturbed():
                    await self._index.searchers.switch(
                        candidate, lambda: self._store.builds.commit(job, built, self._operation_id, outcome())
                    )
            except BaseException:
                with self._undisturbed():
                    await self._index.searchers.abandon(candidate)
                raise
        await self._index.refresh_parameters()

    async def _put_beside(self, job: BuildJob, built: BuildResult, added: Sequence[Segment]) -> None:
        """Give the segments to the searcher that serves."""
        with self._undisturbed():
            await self._index.searchers.exchange(
                added, lambda: self._store.builds.commit(job, built, self._operation_id)
            )
        await self._index.refresh_parameters()
        self._index.flusher.wake()

    @asynccontextmanager
    async def _discarding(self, job: BuildJob) -> AsyncIterator[None]:
        """Remove what a build has written if the block ends early."""
        try:
            yield
        except BaseException:
            with self._undisturbed():
                await self._index.run(self._store.builds.discard, job)
            raise

    async def _measure(self, sample: RecallSample | None, candidate: Serving, ef: int, new_ef: int) -> Recall | None:
        """The same queries through the graphs that serve and through the new one, each with its own ef_search."""
        if sample is None:
            return None
        rows = len(sample.queries)
        parts = [sample.queries[start : start + _RECALL_ROWS] for start in range(0, rows, _RECALL_ROWS)]
        old, new = [], []
        for part in parts:
            content = part.astype("<f4").tobytes()
            old.append(await self._search_when_free(content, len(part), sample.search_k, ef))
            new.append(await candidate.search(content, len(part), sample.search_k, new_ef))
        dead = await self._index.run(self._store.dead_labels)
        before = await asyncio.to_thread(_recall, sample, old, dead)
        after = await asyncio.to_thread(_recall, sample, new, dead)
        if before is None or after is None:
            return None
        return Recall(before=before, after=after, n=rows, k=sample.k, kind=sample.kind)

    async def _search_when_free(self, queries: bytes, rows: int, k: int, ef: int) -> Answer:
        while True:
            try:
                return await self._index.searchers.search(queries, rows, k, ef)
            except TooManyRequests:
                await asyncio.sleep(_BUSY_SECONDS)


def _threads(configuration: dict[str, Any]) -> int:
    return Configuration.model_validate(configuration).threads or builder_threads()


def _result(
    before: IndexStatus,
    now: IndexStatus,
    built: BuildResult,
    job: BuildJob,
    measured: Recall | None,
    seconds: dict[str, float],
) -> GraphResult:
    """``before`` the build and ``now``, in the transaction of the swap: items may have been deleted meanwhile."""
    kept = sum(old.size for old in before.segments if old.generation not in built.replaces)
    computations = built.computations
    return GraphResult(
        vectors=BeforeAfter(before=before.counts.live, after=now.counts.live),
        bytes=BeforeAfter(
            before=sum(old.size for old in before.segments),
            after=kept + sum(new.size for new in built.segments),
        ),
        recall=measured,
        computations=Computations(before=computations.before, after=computations.after) if computations else None,
        links_repaired=built.links_repaired,
        unreachable=BeforeAfter(before=built.unreachable_before, after=built.unreachable),
        parameters=convert.parameters_in_force(job.parameters),
        seconds=seconds,
        threads=job.threads,
    )


def _recall(sample: RecallSample, answers: list[Answer], dead: NDArray[np.uint64]) -> float | None:
    width = min(answer.labels.shape[1] for answer in answers)  # deletes may have left less than was asked for
    labels = np.concatenate([answer.labels[:, :width] for answer in answers])
    distances = np.concatenate([answer.distances[:, :width] for answer in answers])
    return recall(sample, Neighbours(labels, distances), dead)


def _refuse_regression(measured: Recall | None, verify: Verification) -> None:
    """Raises BuildError when the new graph finds less than it has to, and less than the old one."""
    if measured is None or verify.min_recall_percent is None:
        return
    if 100 * measured.after < verify.min_recall_percent and measured.after < measured.before:
        raise BuildError(
            FailureReason.RECALL_REGRESSED,
            f"recall@{measured.k} would fall from {measured.before:.4f} to {measured.after:.4f}, below the "
            f"{verify.min_recall_percent} % that are asked for; the old graph stays. "
            "A rebuild with a larger M or ef_construction finds more",
        )
