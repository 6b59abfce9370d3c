"""Random sessions, upserts, deletes, flushes, rebuilds, optimizes and restarts, against a plain dictionary with exact
search."""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.unit.engine.harness import (
    Vectors,
    bury,
    distances,
    flush,
    new_index,
    plain_digest,
    run,
    segment_files,
)
from vectorindex.engine.errors import IdConflict
from vectorindex.engine.ids_file import IdTable
from vectorindex.engine.jobs import BuildJob, BuildResult, JobKind
from vectorindex.engine.ledger import NewOperation, OperationState
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.recall import SampleRequest
from vectorindex.engine.segments import Role
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.store import Store
from vectorindex.engine.view import View
from vectorindex.engine.view_change import ViewChange

DIMENSIONS = 3
IDS = [f"id{number}" for number in range(24)] + ["naïve ✓", "x" * 512]

Row = tuple[str, list[int]]
external_ids = st.sampled_from(IDS)
vectors = st.lists(st.integers(-3, 3), min_size=DIMENSIONS, max_size=DIMENSIONS).filter(any)
requests = st.lists(external_ids, min_size=1, max_size=6)
parameters = st.builds(Parameters, m=st.integers(2, 6), ef_construction=st.integers(1, 30), seed=st.integers(0, 3))


class Step(Enum):
    """Of a build in order; after each of them others may write and flush, or the build ends early."""

    SEALED = 0
    BUILT = 1
    LOADED = 2
    SWAPPED = 3


class Interruption(Enum):
    ABANDONED = 0
    RESTARTED = 1


interruptions = st.none() | st.tuples(
    st.sampled_from([Step.SEALED, Step.BUILT, Step.LOADED]), st.sampled_from(Interruption)
)


@st.composite
def session_rows(draw: st.DrawFn, distinct: bool = False) -> list[Row]:
    """From a seed, because lists that hypothesis draws are mostly too short to make a graph."""
    count, seed = draw(st.integers(0, 40)), draw(st.integers(0, 2**16))
    random = np.random.default_rng(seed)
    names = random.permutation(IDS)[:count] if distinct else random.choice(IDS, count)
    values = random.integers(-3, 4, (len(names), DIMENSIONS))
    values[~values.any(axis=1)] = 1
    return list(zip(names.tolist(), values.tolist(), strict=True))


class Meanwhile(Enum):
    """What others do while a build runs."""

    DELETE = 0
    UPSERT = 1
    FLUSH = 2


actions = st.lists(st.tuples(st.sampled_from(Meanwhile), requests, session_rows()), max_size=2)
meanwhile = st.dictionaries(st.sampled_from([Step.SEALED, Step.BUILT, Step.LOADED]), actions, max_size=2)
Between = dict[Step, list[tuple[Meanwhile, list[str], list[Row]]]]


class Engine(RuleBasedStateMachine):
    """``items`` is the model; ``views`` are the searcher that serves and, at the end of a build, the one to come."""

    metric: Metric

    @initialize(rows=session_rows())
    def create(self, rows: list[Row]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = new_index(Path(self.folder.name), self.metric, DIMENSIONS)
        self.items: dict[str, Vectors] = {}
        self.writes = 0
        self.deletes = 0
        self.serve()
        self.ingest(SessionMode.BUILD, rows, 7, {}, None)

    def serve(self) -> None:
        spec = self.store.view_spec()
        self.views = [View.load(spec)]
        self.table = IdTable.of(spec)

    @rule(
        mode=st.sampled_from([SessionMode.BUILD, SessionMode.UPSERT]),
        rows=session_rows(),
        batch=st.integers(1, 40),
        between=meanwhile,
        interruption=interruptions,
    )
    def ingest(
        self,
        mode: SessionMode,
        rows: list[Row],
        batch: int,
        between: Between,
        interruption: tuple[Step, Interruption] | None,
    ) -> None:
        session = self.fill_session(mode, rows, batch)
        self.flush_all()
        job = self.store.builds.plan_finalize(session, None, threads=1)
        self.finish(job, session, rows, between, interruption)

    @rule(
        rows=session_rows(distinct=True),
        twice=st.booleans(),
        new=st.booleans(),
        between=meanwhile,
        interruption=interruptions,
    )
    def insert(
        self,
        rows: list[Row],
        twice: bool,
        new: bool,
        between: Between,
        interruption: tuple[Step, Interruption] | None,
    ) -> None:
        if new:
            rows = [(name, vector) for name, vector in rows if name not in self.items]
        if twice:
            rows = rows + rows[:1]
        names = [name for name, _ in rows]
        session = self.fill_session(SessionMode.INSERT, rows, batch=10)
        self.flush_all()
        conflicts = {name for name in names if name in self.items or names.count(name) > 1}
        if conflicts:
            with pytest.raises(IdConflict) as raised:
                self.store.builds.plan_finalize(session, None, threads=1)
            assert raised.value.total == len(conflicts)
            assert set(raised.value.external_ids) <= conflicts
            session.discard()
            return
        self.finish(self.store.builds.plan_finalize(session, None, threads=1), session, rows, between, interruption)

    def fill_session(self, mode: SessionMode, rows: list[Row], batch: int) -> IngestSession:
        session = IngestSession(self.store.folder, DIMENSIONS, self.metric, mode)
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            session.append([name for name, _ in part], np.array([vector for _, vector in part], np.float32))
        return session

    @rule(parameters=st.none() | parameters, between=meanwhile, interruption=interruptions)
    def rebuild(
        self,
        parameters: Parameters | None,
        between: Between,
        interruption: tuple[Step, Interruption] | None,
    ) -> None:
        self.flush_all()
        job = self.store.builds.plan_rebuild(parameters, 1, SampleRequest(n=5, k=3))
        self.finish(job, None, [], between, interruption)

    @rule(threads=st.integers(1, 2), between=meanwhile, interruption=interruptions)
    def optimize(self, threads: int, between: Between, interruption: tuple[Step, Interruption] | None) -> None:
        self.flush_all()
        job = self.store.builds.plan_optimize(threads, SampleRequest(n=5, k=3))
        self.finish(job, None, [], between, interruption)

    def finish(
        self,
        job: BuildJob,
        session: IngestSession | None,
        rows: list[Row],
        between: Between,
        interruption: tuple[Step, Interruption] | None,
    ) -> None:
        """From the seal to the swap, with what others do after each step, or to an early end."""
        built: BuildResult | None = None
        replacing = job.session is not None and job.session.mode is SessionMode.BUILD
        for step in Step:
            if step is Step.BUILT:
                built = run(job)
            elif step is Step.LOADED:
                assert built is not None
                self.views.append(View.load(self.store.builds.candidate(job, built)))
            elif step is Step.SWAPPED:
                assert built is not None
                if job.session is not None and job.session.mode is SessionMode.INSERT:
                    conflicts = {name for name, _ in rows if name in self.items}
                    if conflicts:
                        with pytest.raises(IdConflict):
                            self.store.builds.commit(job, built)
                        interruption = (step, Interruption.ABANDONED)
                if interruption != (step, Interruption.ABANDONED):
                    self.swap(job, built, rows)
            for action, names, new in between.get(step, []):
                if action is Meanwhile.DELETE:
                    self.delete(names, named=False)
                elif action is Meanwhile.UPSERT and not replacing:
                    self.upsert(new)
                elif action is Meanwhile.FLUSH and not replacing:
                    flush(self.store, *self.views)
                    self.table = IdTable.of(self.store.view_spec())
            if interruption == (step, Interruption.RESTARTED):
                self.restart()
                return
            if interruption == (step, Interruption.ABANDONED):
                self.store.builds.discard(job)
                self.views = self.views[:1]
                break
        if session is not None:
            session.discard()
        assert {path.name for path in self.named_files()} == segment_files(self.store.folder)

    def swap(self, job: BuildJob, built: BuildResult, rows: list[Row]) -> None:
        before = self.store.status()
        change = self.store.builds.commit(job, built)
        bury(self.views[1], change.died)
        after = self.store.status()
        assert built.unreachable == 0
        if job.kind is JobKind.REBUILD:
            assert after.parameters == job.parameters
            assert all(new.role is Role.DELTA for new in after.segments if new.generation not in job.generations)
        elif job.kind is JobKind.OPTIMIZE:
            assert after.parameters == before.parameters
            dead_at_seal = len(job.view.dead)
            assert after.counts.deleted <= before.counts.deleted - dead_at_seal
            assert after.counts.delta == before.counts.delta
            places = [(segment.role, segment.first_lsn, segment.parameters) for segment in before.segments]
            assert all((new.role, new.first_lsn, new.parameters) in places for new in after.segments)
        else:
            assert job.session is not None
            self.writes += 1
            if job.session.mode is SessionMode.BUILD:
                self.items.clear()
            self.items.update((name, np.array(vector, np.float32)) for name, vector in rows)
        self.views = self.views[1:]
        self.table = IdTable.of(self.store.view_spec())

    @rule(rows=session_rows())
    def upsert(self, rows: list[Row]) -> None:
        if not rows:
            return
        upserted = self.store.upsert([name for name, _ in rows], np.array([vector for _, vector in rows], np.float32))
        self.writes += 1
        assert upserted.lsn == self.writes
        last = {name: np.array(vector, np.float32) for name, vector in rows}
        assert upserted.rows.external_ids == tuple(last)
        assert len(upserted.labels) == sum(name in self.items for name in last)
        self.items.update(last)
        for view in self.views:
            view.apply(ViewChange(upserted.rows, upserted.labels))
        self.table = IdTable.of(self.store.view_spec())

    @rule()
    def flush_once(self) -> None:
        before = self.store.status()
        built = flush(self.store, *self.views)
        assert (built is None) == (before.tail_rows == 0)
        after = self.store.status()
        assert after.counts.live == before.counts.live
        assert after.tail_rows == 0
        self.table = IdTable.of(self.store.view_spec())

    @rule()
    def merge(self) -> None:
        job = self.store.builds.plan_merge()
        assert (job is not None) == self.store.builds.can_merge or self.store.tail_rows
        if job is not None:
            before = self.store.status()
            change = self.store.builds.commit(job, run(job))
            for view in self.views:
                view.apply(change)
            after = self.store.status()
            assert (after.counts.live, after.counts.delta) == (before.counts.live, before.counts.delta)
            assert after.tail_rows == before.tail_rows
            assert len(after.segments) < len(before.segments)
            self.table = IdTable.of(self.store.view_spec())

    def flush_all(self) -> None:
        while flush(self.store, *self.views) is not None:
            pass

    @rule(names=requests, named=st.booleans())
    def delete(self, names: list[str], named: bool) -> None:
        self.deletes += 1
        operation = NewOperation(f"delete-{self.deletes}", "Delete", "digest") if named else None
        deletion = self.store.delete(names, operation)
        distinct = list(dict.fromkeys(names))
        assert deletion.found.tolist() == [name in self.items for name in distinct]
        assert deletion.deleted == sum(deletion.found)
        assert deletion.not_found == len(distinct) - deletion.deleted
        self.writes += bool(deletion.deleted)
        for name in distinct:
            self.items.pop(name, None)
        for view in self.views:
            bury(view, deletion.labels)
        if operation is not None:
            again = self.store.delete(names, operation)
            assert again.record is not None
            assert again.record.state is OperationState.SUCCEEDED
            assert again.found.tolist() == deletion.found.tolist()
            assert not len(again.labels)

    @rule()
    def restart(self) -> None:
        folder = self.store.folder
        self.store.close()
        self.store = Store.open(folder)
        assert {path.name for path in self.named_files()} == segment_files(folder)
        self.serve()

    def named_files(self) -> list[Path]:
        folder = self.store.folder
        return [
            path
            for segment in self.store.status().segments
            for path in (segment.hnsw_path(folder), segment.ids_path(folder))
        ]

    @rule(query=vectors, k=st.integers(1, 30), ef=st.integers(1, 60))
    def search(self, query: list[int], k: int, ef: int) -> None:
        asked = np.array([query], np.float32)
        exact = self.views[0].search_exact(asked, k)
        found = self.views[0].search(asked, k, ef)
        names = list(self.items)
        truth = distances(list(self.items.values()), asked[0], self.metric) if names else np.empty(0)
        expected = np.sort(truth)[:k]
        np.testing.assert_allclose(exact.distances[0], expected, atol=1e-5)
        assert found.distances.shape == exact.distances.shape
        assert (np.diff(found.distances[0]) >= 0).all()
        for answer in (exact, found):
            answered = self.table.external_ids(answer.labels[0])
            assert len(set(answered)) == len(answered)
            np.testing.assert_allclose(answer.distances[0], [truth[names.index(name)] for name in answered], atol=1e-5)

    @invariant()
    def counts(self) -> None:
        status = self.store.status()
        assert len(self.views) == 1
        assert status.counts.live == len(self.items) == self.views[0].live
        assert status.sequence == self.writes
        assert status.digest == plain_digest(self.items)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


@pytest.mark.parametrize("metric", Metric)
def test_the_engine_is_a_dictionary_with_exact_search(metric: Metric) -> None:
    machine = type(f"Engine{metric}", (Engine,), {"metric": metric})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
