"""What a searcher finds: exact where few are live, right under deletes from other threads, as many as there are."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import pytest

from tests.unit.engine.harness import (
    DIMENSIONS,
    Vectors,
    bury,
    distances,
    flush,
    load,
    new_index,
    random_items,
    run,
    write,
)
from vectorindex.engine import graphs
from vectorindex.engine.build import build
from vectorindex.engine.distance import Neighbours, hnswlib_space, nearest
from vectorindex.engine.errors import BuildFailed, CorruptFile, InvalidInput
from vectorindex.engine.jobs import JobKind, Phase, overall_progress
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.recall import RecallSample, SampleRequest, recall
from vectorindex.engine.view import View
from vectorindex.engine.view_change import ViewChange

GOOD = Parameters(m=16, ef_construction=200, ef_search=64)


def loaded(tmp_path: Path, metric: Metric, count: int = 2_000) -> tuple[View, Vectors]:
    store = new_index(tmp_path, metric, parameters=GOOD)
    items = random_items(count)
    load(store, items)
    return View.load(store.view_spec()), np.stack(list(items.values()))


@pytest.mark.parametrize("metric", Metric)
def test_distances_are_those_of_the_metric(tmp_path: Path, metric: Metric) -> None:
    view, items = loaded(tmp_path, metric)
    queries = np.random.default_rng(5).standard_normal((20, DIMENSIONS)).astype(np.float32)
    found, exact = view.search(queries, 10, 200), view.search_exact(queries, 10)
    for number, query in enumerate(queries):
        truth = distances(list(items), query, metric)
        np.testing.assert_array_equal(exact.labels[number], np.argsort(truth)[:10])
        np.testing.assert_allclose(exact.distances[number], np.sort(truth)[:10], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.distances[number], truth[found.labels[number]], rtol=1e-4, atol=1e-5)
    agreement = np.mean([np.isin(f, e).mean() for f, e in zip(found.labels, exact.labels, strict=True)])
    assert agreement > 0.95


def test_queries_that_could_not_be_items_are_refused(tmp_path: Path) -> None:
    view, _ = loaded(tmp_path, Metric.COSINE, 5)
    for query in (np.zeros((1, DIMENSIONS)), np.full((1, DIMENSIONS), np.nan), np.ones((1, 3))):
        with pytest.raises(InvalidInput):
            view.search(query.astype(np.float32), 3, 10)
    with pytest.raises(InvalidInput, match="k must be at least 1"):
        view.search(np.ones((1, DIMENSIONS), np.float32), 0, 10)


def test_an_empty_view_answers_with_nothing(tmp_path: Path) -> None:
    view = View.load(new_index(tmp_path).view_spec())
    found = view.search(np.ones((3, DIMENSIONS), np.float32), 5, 10)
    assert found.labels.shape == found.distances.shape == (3, 0)
    assert view.live == 0


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("k", [1, 10, 400, 900, 1_000, 5_000])
def test_equal_vectors_are_all_found(tmp_path: Path, metric: Metric, k: int) -> None:
    """hnswlib leaves many of them unreachable, and raises when it finds fewer than it is asked for."""
    store = new_index(tmp_path, metric, parameters=GOOD)
    load(store, {f"item-{number}": np.ones(DIMENSIONS, np.float32) for number in range(1_000)})
    view = View.load(store.view_spec())
    for _ in range(20):
        found = view.search(np.ones((2, DIMENSIONS), np.float32), k, 10)
        assert found.labels.shape == (2, min(k, 1_000))
        assert len(set(found.labels[0].tolist())) == min(k, 1_000)


def test_marking_is_idempotent_and_ignores_strangers(tmp_path: Path) -> None:
    view, items = loaded(tmp_path, Metric.L2, 100)
    bury(view, np.array([3, 3, 99, 100, 2**63], np.uint64))
    bury(view, np.array([3], np.uint64))
    assert view.live == 98
    assert 3 not in view.search(items[3:4], 10, 10).labels


def test_what_is_marked_is_not_found_by_searches_that_start_later(tmp_path: Path) -> None:
    """Searches run in threads while items die, down to the last; each finds as many as are live, none that was dead."""
    view, items = loaded(tmp_path, Metric.L2)
    dead: set[int] = set()
    order = np.random.default_rng(3).permutation(len(items)).astype(np.uint64)
    ended = threading.Event()

    def search(seed: int) -> int:
        random = np.random.default_rng(seed)
        searches = 0
        while not ended.is_set():
            gone = set(dead)
            query = items[random.integers(len(items), size=4)]
            found = view.search(query, 10, int(random.integers(10, 200)))
            least = view.live
            assert not gone & set(found.labels.ravel().tolist())
            assert found.labels.shape[1] >= min(10, least)
            searches += 1
        return searches

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(search, seed) for seed in range(3)]
        try:
            for start in range(0, len(order), 50):
                labels = order[start : start + 50]
                bury(view, labels)
                dead.update(labels.tolist())
        finally:
            ended.set()
        assert sum(future.result(timeout=60) for future in running) > 0
    assert view.live == 0


def test_a_file_that_changed_is_not_loaded(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(50))
    spec = store.view_spec()
    path = spec.segments[0].hnsw_path(spec.folder)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=r"0000000001\.hnsw"):
        View.load(spec)


def test_a_scan_is_a_sort() -> None:
    random = np.random.default_rng(0)
    items = random.integers(-2, 3, (500, 4)).astype(np.float32)
    queries = random.integers(-2, 3, (7, 4)).astype(np.float32)
    rows = np.flatnonzero(random.random(500) < 0.6)
    found, squares = nearest(items, rows, queries, 20, Metric.L2)
    for number, query in enumerate(queries):
        truth = distances(list(items[rows]), query, Metric.L2)
        np.testing.assert_array_equal(squares[number], np.sort(truth)[:20])
        np.testing.assert_array_equal(distances(list(items[found[number]]), query, Metric.L2), squares[number])


# --- recall


def sample(k: int, truth: list[int], truth_distances: list[float], own: int = 99) -> RecallSample:
    return RecallSample(
        queries=np.ones((1, 2), np.float32),
        self_labels=np.array([own], np.uint64),
        truth_labels=np.array([truth], np.uint64),
        truth_distances=np.array([truth_distances], np.float32),
        newest=100,
        k=k,
        metric=Metric.L2,
    )


@pytest.mark.parametrize(
    ("found", "found_distances", "dead", "expected"),
    [
        pytest.param([1, 2, 3], [1, 2, 3], [], 1.0, id="all"),
        pytest.param([2, 1, 3], [1, 2, 3], [], 1.0, id="in-any-order"),
        pytest.param([1, 2, 8], [1, 2, 8], [], 2 / 3, id="one-missed"),
        pytest.param([99, 1, 2, 3], [0, 1, 2, 3], [], 1.0, id="the-item-itself-does-not-count"),
        pytest.param([99, 1, 2, 8], [0, 1, 2, 8], [], 2 / 3, id="nor-does-it-help"),
        pytest.param([1, 2, 8], [1, 2, 3], [], 1.0, id="as-near-as-the-third"),
        pytest.param([1, 3, 4], [1, 3, 4], [2], 1.0, id="deleted-meanwhile-the-next-one-takes-its-place"),
        pytest.param([1, 2, 3], [1, 2, 3], [2], 2 / 3, id="found-dead-does-not-count"),
        pytest.param([], [], [1, 2, 3, 4], None, id="nothing-left-to-find"),
        pytest.param([1], [1], [2, 3, 4], 1.0, id="fewer-left-than-k"),
        pytest.param([], [], [], 0.0, id="nothing-found"),
    ],
)
def test_recall(found: list[int], found_distances: list[float], dead: list[int], expected: float | None) -> None:
    answer = Neighbours(np.array([found], np.uint64), np.array([found_distances], np.float32))
    measured = recall(sample(3, [1, 2, 3, 4], [1, 2, 3, 4]), answer, np.array(dead, np.uint64))
    assert measured == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("metric", Metric)
def test_recall_of_a_built_sample(tmp_path: Path, metric: Metric) -> None:
    """Exact search recalls all of it, also when items died since; a careless search does not."""
    store = new_index(tmp_path, metric, parameters=Parameters(m=4, ef_construction=10, ef_search=10))
    load(store, random_items(1_500))
    built = run(store.builds.plan_rebuild(None, 1, SampleRequest(n=50, k=10, seed=1)))
    assert built.sample is not None
    assert len(built.sample.queries) == 50
    view = View.load(store.view_spec())
    dead = store.delete([f"item-{number}" for number in range(0, 1_500, 10)]).labels
    bury(view, dead)
    exact = view.search_exact(built.sample.queries, built.sample.search_k)
    assert recall(built.sample, exact, dead) == 1.0
    careless = recall(built.sample, view.search(built.sample.queries, built.sample.search_k, 1), dead)
    assert careless is not None
    assert 0.3 < careless < 0.99


@pytest.mark.parametrize("count", [0, 1])
def test_no_recall_of_nothing(tmp_path: Path, count: int) -> None:
    store = new_index(tmp_path)
    load(store, random_items(count))
    assert run(store.builds.plan_rebuild(None, 1, SampleRequest())).sample is None


# --- builds


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("equal", [False, True], ids=["lengths-differ", "equal-vectors"])
def test_every_item_of_a_build_can_be_reached(tmp_path: Path, metric: Metric, equal: bool) -> None:
    """hnswlib alone leaves many that no search finds: short vectors under an inner product, and equal ones. Afterwards
    a search from anywhere finds as many as it is asked for, which hnswlib fails without."""
    random = np.random.default_rng(2)
    vectors = np.ones((2_000, DIMENSIONS)) if equal else random.standard_normal((2_000, DIMENSIONS))
    if not equal:
        vectors *= random.lognormal(0, 0.5, (2_000, 1))
    store = new_index(tmp_path, metric, parameters=Parameters(m=8, ef_construction=60))
    built = load(store, {f"item-{number}": vector for number, vector in enumerate(vectors.astype(np.float32))})
    assert built.unreachable == 0
    assert built.links_repaired > 0 or not (equal or metric is Metric.INNER_PRODUCT)
    (segment,) = store.status().segments
    index = hnswlib.Index(hnswlib_space(metric), DIMENSIONS)
    index.load_index(str(segment.hnsw_path(store.folder)))
    queries = random.standard_normal((50, DIMENSIONS)).astype(np.float32)
    labels, _ = index.knn_query(queries, k=2_000, num_threads=1)
    assert (np.sort(labels, axis=1) == np.arange(2_000)).all()


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("ratio", [0.2, 0.5])
def test_an_optimize_finds_what_a_rebuild_finds(tmp_path: Path, metric: Metric, ratio: float) -> None:
    random = np.random.default_rng(3)
    vectors = (random.standard_normal((3_000, DIMENSIONS)) * random.lognormal(0, 0.5, (3_000, 1))).astype(np.float32)
    store = new_index(tmp_path, metric, parameters=Parameters(m=8, ef_construction=100, ef_search=40))
    load(store, {f"item-{number}": vector for number, vector in enumerate(vectors)})
    store.delete([f"item-{number}" for number in random.choice(3_000, int(3_000 * ratio), replace=False)])
    found = {}
    for job in (store.builds.plan_rebuild(None, 2, SampleRequest()), store.builds.plan_optimize(2, SampleRequest())):
        built = run(job)
        assert built.sample is not None
        assert built.computations is not None
        assert built.unreachable == 0
        assert built.computations.after < built.computations.before
        view = View.load(store.builds.candidate(job, built))
        answers = view.search(built.sample.queries, built.sample.search_k, 40)
        found[job.kind] = recall(built.sample, answers, store.view_spec().dead)
        store.builds.discard(job)
    assert (found[JobKind.OPTIMIZE] or 0) > (found[JobKind.REBUILD] or 1) - 0.02


def test_progress_rises_through_all_phases(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(3_000))
    seen: list[int] = []
    job = store.builds.plan_rebuild(None, 2, SampleRequest())
    built = build(job, lambda phase, part: seen.append(overall_progress(job.kind, phase, part)))
    assert seen == sorted(seen)
    assert 0 <= seen[0] < seen[-1] < 100
    assert len({percent for percent in seen if 2 < percent < 90}) >= 2
    assert set(built.seconds) == set(Phase)


def test_what_progress_raises_ends_a_build(tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel(phase: Phase, fraction: float) -> None:
        if phase is Phase.GRAPH and fraction > 0:
            raise Cancelled

    store = new_index(tmp_path)
    load(store, random_items(100))
    job = store.builds.plan_rebuild(None, 1, None)
    with pytest.raises(Cancelled):
        build(job, cancel)
    store.builds.discard(job)


def test_a_graph_that_was_not_written_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hnswlib reports no error when it cannot write: here it writes into nothing."""
    store = new_index(tmp_path)
    load(store, random_items(100))
    nowhere = tmp_path / "no" / "0000000002.hnsw"
    monkeypatch.setattr("vectorindex.engine.new_graph.hnsw_path", lambda _folder, _generation: nowhere)
    with pytest.raises(BuildFailed, match="wrote 0 of"):
        run(store.builds.plan_rebuild(None, 1, None))


def test_a_wide_search_of_many_queries_is_made_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view, items = loaded(tmp_path, Metric.L2)
    queries = items[:203] + np.float32(0.01)
    whole = view.search(queries, 3, 40)
    monkeypatch.setattr(graphs, "_ROOM", 7 * 40)
    parts = view.search(queries, 3, 40)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_array_equal(parts.distances, whole.distances)


def test_an_item_that_is_replaced_right_after_a_flush_is_found_by_a_search_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_index(tmp_path, Metric.L2)
    load(store, random_items(100))
    write(store, random_items(5, seed=1, prefix="new"))
    view = View.load(store.view_spec())
    search = graphs.LoadedGraph.search
    begun: list[int] = []

    def interrupted(self: graphs.LoadedGraph, *arguments: Any) -> Neighbours:
        if not begun:
            begun.append(1)
            flush(store, view)
            upserted = write(store, {"item-7": np.full(DIMENSIONS, 50, np.float32)})
            view.apply(ViewChange(upserted.rows, upserted.labels))
        return search(self, *arguments)

    monkeypatch.setattr(graphs.LoadedGraph, "search", interrupted)
    found = view.search(np.full((1, DIMENSIONS), 50, np.float32), 1, 20)
    assert found.labels[0, 0] == store.labels_of(["item-7"])["item-7"]
    assert found.distances[0, 0] == 0
