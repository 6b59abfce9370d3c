"""Random sessions, deletes, rebuilds and restarts, against a plain dictionary with exact search."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.unit.engine.harness import Vectors, distances, new_index, run, segment_files
from vectorindex.engine.errors import IdConflict
from vectorindex.engine.ids_file import IdTable
from vectorindex.engine.jobs import BuildJob, BuildResult
from vectorindex.engine.ledger import NewOperation, OperationState
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.recall import SampleRequest
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.store import Store
from vectorindex.engine.view import View

DIMENSIONS = 3
IDS = [f"id{number}" for number in range(24)] + ["naïve ✓", "x" * 512]

external_ids = st.sampled_from(IDS)
vectors = st.lists(st.integers(-3, 3), min_size=DIMENSIONS, max_size=DIMENSIONS).filter(any)
rows = st.lists(st.tuples(external_ids, vectors), max_size=40)
parameters = st.builds(Parameters, m=st.integers(2, 6), ef_construction=st.integers(1, 30), seed=st.integers(0, 3))


class Engine(RuleBasedStateMachine):
    """``items`` is the model; ``view`` is the searcher that serves, ``candidate`` the one that is about to."""

    metric: Metric

    @initialize()
    def create(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = new_index(Path(self.folder.name), self.metric, DIMENSIONS)
        self.items: dict[str, Vectors] = {}
        self.writes = 0
        self.deletes = 0
        self.session: IngestSession | None = None
        self.pending: tuple[BuildJob, dict[str, Vectors]] | None = None
        self.built: BuildResult | None = None
        self.candidate: View | None = None
        self.serve()

    def serve(self) -> None:
        spec = self.store.view_spec()
        self.view = View.load(spec)
        self.table = IdTable.open(spec.folder, spec.segments)

    @precondition(lambda self: self.pending is None)
    @rule(mode=st.sampled_from(SessionMode), rows=rows, batch=st.integers(1, 40))
    def seal_session(self, mode: SessionMode, rows: list[tuple[str, list[int]]], batch: int) -> None:
        session = IngestSession(self.store.folder, DIMENSIONS, self.metric, mode)
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            session.append([name for name, _ in part], np.array([vector for _, vector in part], np.float32))
        new = {name: np.array(vector, np.float32) for name, vector in rows}
        conflict = mode is SessionMode.INSERT and (len(new) < len(rows) or not self.items.keys().isdisjoint(new))
        if conflict:
            with pytest.raises(IdConflict):
                self.store.plan_finalize(session, None, threads=1)
            session.discard()
            return
        self.session = session
        self.pending = (self.store.plan_finalize(session, None, threads=1), new)

    @precondition(lambda self: self.pending is None)
    @rule(parameters=st.none() | parameters)
    def seal_rebuild(self, parameters: Parameters | None) -> None:
        self.pending = (self.store.plan_rebuild(parameters, 1, SampleRequest(n=5, k=3)), {})

    @precondition(lambda self: self.pending is not None and self.built is None)
    @rule()
    def build(self) -> None:
        assert self.pending is not None
        self.built = run(self.pending[0])

    @precondition(lambda self: self.built is not None and self.candidate is None)
    @rule()
    def load_candidate(self) -> None:
        assert self.pending is not None
        assert self.built is not None
        self.candidate = View.load(self.store.candidate(self.pending[0], self.built))

    @precondition(lambda self: self.candidate is not None)
    @rule()
    def swap(self) -> None:
        assert self.pending is not None
        assert self.built is not None
        assert self.candidate is not None
        job, new = self.pending
        self.store.commit(job, self.built)
        if job.session is not None:
            self.writes += 1
            if job.session.mode is SessionMode.BUILD:
                self.items.clear()
            self.items.update(new)
        else:
            assert self.store.status().parameters == job.parameters
        self.view = self.candidate
        self.table = IdTable.open(self.store.folder, self.store.status().segments)
        self.end_build()

    @precondition(lambda self: self.pending is not None)
    @rule()
    def abandon(self) -> None:
        assert self.pending is not None
        self.store.discard(self.pending[0])
        self.end_build()

    def end_build(self) -> None:
        if self.session is not None:
            self.session.discard()
        self.session = self.pending = self.built = self.candidate = None

    @rule(names=st.lists(external_ids, min_size=1, max_size=12), named=st.booleans())
    def delete(self, names: list[str], named: bool) -> None:
        self.deletes += 1
        operation = NewOperation(f"delete-{self.deletes}", "Delete", "digest") if named else None
        deletion = self.store.delete(names, operation)
        distinct = list(dict.fromkeys(names))
        assert deletion.found.tolist() == [name in self.items for name in distinct]
        assert (deletion.deleted, deletion.not_found) == (
            sum(deletion.found),
            len(distinct) - sum(deletion.found),
        )
        self.writes += bool(deletion.deleted)
        for name in distinct:
            self.items.pop(name, None)
        self.view.mark_deleted(deletion.labels)
        if self.candidate is not None:
            self.candidate.mark_deleted(deletion.labels)
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
        self.session = self.pending = self.built = self.candidate = None
        self.store = Store.open(folder)
        self.serve()

    @rule(query=vectors, k=st.integers(1, 30), ef=st.integers(1, 60))
    def search(self, query: list[int], k: int, ef: int) -> None:
        asked = np.array([query], np.float32)
        exact = self.view.search_exact(asked, k)
        found = self.view.search(asked, k, ef)
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
    def counts_and_files(self) -> None:
        status = self.store.status()
        assert status.counts.live == len(self.items) == self.view.live
        assert status.sequence == self.writes
        named = {path.name for s in status.segments for path in (s.hnsw_path(Path()), s.ids_path(Path()))}
        assert named <= segment_files(self.store.folder)
        if self.pending is None:
            assert named == segment_files(self.store.folder)

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
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
