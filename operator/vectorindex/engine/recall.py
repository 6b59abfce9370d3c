"""Recall of a graph against exact search, on real queries where there are enough, else on queries that are near items
but are none of them.

Such are live items moved by noise to about the distance of their tenth neighbour, the item itself excluded: measured on
the items themselves, a loss of eight points would show as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import _kernels
from vectorindex.engine.distance import Neighbours, nearest, normalised, scans
from vectorindex.engine.hnsw_file import HnswFile
from vectorindex.engine.params import Metric

NOISE_NEIGHBOUR = 10
NO_ITEM = np.iinfo(np.uint64).max
"""Stands for the item that a query was made from where it was made from none."""
COUNTED_AT_ONCE = 64
"""Queries whose answers are compared with the truth together: bounds the memory, whatever k is."""
LOOKED_AT = 1_000
"""So many items at least are read for the distance of that neighbour; of more items as many, up to a tenth."""


class SampleKind(StrEnum):
    RECENT_QUERIES = "RecentQueries"
    MOVED_ITEMS = "MovedItems"


@dataclass(frozen=True, eq=False)
class SampleRequest:
    """Recall@``k`` on real ``queries`` (q, dim) float32; None: on ``n`` moved items, fewer when there are fewer."""

    n: int = 200
    k: int = 10
    seed: int = 0
    queries: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class RecallSample:
    """``queries`` (n, dim) float32, the item that each was made from (``self_labels`` (n,), or NO_ITEM), and the
    nearest others: ``truth_labels`` and ``truth_distances`` (n, ≥ k where there are so many), with some to spare, so
    that those deleted meanwhile can be dropped. Items with labels above ``newest`` came later and are none of the
    truth."""

    queries: NDArray[np.float32]
    self_labels: NDArray[np.uint64]
    truth_labels: NDArray[np.uint64]
    truth_distances: NDArray[np.float32]
    newest: int
    k: int
    metric: Metric
    kind: SampleKind = SampleKind.MOVED_ITEMS

    @property
    def search_k(self) -> int:
        """How many answers to ask for: one more, because the item itself may be among them."""
        return self.k + 1


def make_sample(
    graphs: Sequence[HnswFile], metric: Metric, request: SampleRequest, threads: int = 1
) -> RecallSample | None:
    """Queries for new graphs, with the truth by scan; None when there are not two items."""
    count = sum(graph.count for graph in graphs)
    if count < 2:
        return None
    if request.queries is not None:
        return _real_sample(graphs, metric, request, request.queries, threads)
    random = np.random.default_rng(request.seed)
    chosen = np.sort(random.choice(count, min(request.n, count), replace=False))
    labels = np.concatenate([graph.labels for graph in graphs])
    items = _items(graphs, chosen)
    directions = random.standard_normal(items.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    queries = (items + directions * _noise(graphs, items, chosen, threads)[:, None]).astype(np.float32)
    if metric is Metric.COSINE:
        queries = normalised(queries)[0]
    found, distances = _nearest(graphs, queries, 2 * request.k + 1, metric, threads)
    truth, truth_distances = _without(found, distances, chosen)
    return RecallSample(queries, labels[chosen], labels[truth], truth_distances, int(labels.max()), request.k, metric)


def _real_sample(
    graphs: Sequence[HnswFile], metric: Metric, request: SampleRequest, given: NDArray[np.float32], threads: int
) -> RecallSample:
    queries = normalised(given)[0] if metric is Metric.COSINE else np.ascontiguousarray(given)
    truth, distances = _nearest(graphs, queries, 2 * request.k, metric, threads)
    labels = np.concatenate([graph.labels for graph in graphs])
    nobody = np.full(len(queries), NO_ITEM, np.uint64)
    newest = int(labels.max())
    kind = SampleKind.RECENT_QUERIES
    return RecallSample(queries, nobody, labels[truth], distances, newest, request.k, metric, kind)


def _noise(
    graphs: Sequence[HnswFile], items: NDArray[np.float32], chosen: NDArray[np.int64], threads: int
) -> NDArray[np.float32]:
    """About how far the tenth neighbour of each item (q,) is, in space under every metric. Of many items every tenth
    is read, at a tenth of the time: the nearest of those is about as far as the tenth of all."""
    step = min(NOISE_NEIGHBOUR, max(1, sum(graph.count for graph in graphs) // LOOKED_AT))
    rank = -(-NOISE_NEIGHBOUR // step)
    found, squares = _nearest(graphs, items, rank + 1, Metric.L2, threads, step)
    _, others = _without(found, squares, chosen)
    return np.sqrt(others[:, -1])


def _items(graphs: Sequence[HnswFile], places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Vectors by their place among those of all graphs, one after the other."""
    parts = []
    for graph in graphs:
        parts.append(graph.vectors[places[(places >= 0) & (places < graph.count)]])
        places = places - graph.count
    return np.concatenate(parts)


def _nearest(
    graphs: Sequence[HnswFile], queries: NDArray[np.float32], k: int, metric: Metric, threads: int, step: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places among the items of all graphs, and distances, nearest first; of each graph every ``step``-th item."""
    found, distances = [], []
    first = 0
    for graph in graphs:
        rows, near = nearest(graph.vectors, np.arange(0, graph.count, step), queries, k, metric, threads)
        found.append(rows + first)
        distances.append(near)
        first += graph.count
    all_found, all_distances = np.concatenate(found, axis=1), np.concatenate(distances, axis=1)
    order = np.argsort(all_distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(all_found, order, axis=1), np.take_along_axis(all_distances, order, axis=1)


def mean_computations(
    graph: HnswFile, dead: NDArray[np.bool_], sample: RecallSample, ef_search: int, threads: int
) -> float:
    """Distances that one query of the sample computes in this graph, where the elements ``dead`` (n,) are: the mean of
    hnswlib's search, counted, or where a searcher reads all live items, their number."""
    width = max(sample.search_k, ef_search)
    live = graph.count - int(dead.sum())
    if scans(live, width):
        return float(live)
    queries = np.ascontiguousarray(sample.queries)
    _, _, computations = _kernels.search(graph.graph, queries, dead.view(np.uint8), width, width, threads)
    return float(computations.mean())


def _without(
    rows: NDArray[np.int64], distances: NDArray[np.float32], excluded: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Drops one column of each query: the excluded row, or the farthest where it is not among them."""
    keep = rows != excluded[:, None]
    keep[keep.all(axis=1), -1] = False
    shape = (len(rows), rows.shape[1] - 1)
    return rows[keep].reshape(shape), distances[keep].reshape(shape)


def recall(sample: RecallSample, found: Neighbours, dead: NDArray[np.uint64]) -> float | None:
    """recall@k, 0..1, of what a search of ``sample.queries`` for ``sample.search_k`` found; None when nothing that
    could be found is left. ``dead`` are labels deleted since the sample was made. An answer as near as the k-th of
    the truth counts like it, so that equal vectors are not told apart by their labels."""
    hits = possible = 0
    for start in range(0, len(sample.queries), COUNTED_AT_ONCE):
        rows = slice(start, start + COUNTED_AT_ONCE)
        labels = found.labels[rows]
        alive = ~np.isin(sample.truth_labels[rows], dead)
        truth = _first(alive, np.full((len(alive), 1), sample.k))
        wanted = truth.sum(axis=1, keepdims=True)
        distances = sample.truth_distances[rows].astype(np.float64)
        farthest = np.where(truth, distances, np.finfo(np.float32).min).max(axis=1, keepdims=True)
        near = found.distances[rows] <= farthest + _tolerance(farthest, sample.metric)
        named = ((labels[:, :, None] == sample.truth_labels[rows][:, None, :]) & truth[:, None, :]).any(axis=2)
        usable = ~np.isin(labels, dead) & (labels <= sample.newest) & (labels != sample.self_labels[rows, None])
        hits += int(((named | near) & _first(usable, wanted)).sum())
        possible += int(wanted.sum())
    return hits / possible if possible else None


def _first(chosen: NDArray[np.bool_], most: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each row of ``chosen`` (n, w) the first ``most`` (n, 1) that are true."""
    return chosen & (chosen.cumsum(axis=1) <= most)


def _tolerance(distances: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Rounding between two ways to sum in float32: relative to what is summed, one and up for inner products."""
    return 1e-6 * np.maximum(0.0 if metric is Metric.L2 else 1.0, np.abs(distances))
