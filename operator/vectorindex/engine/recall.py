"""Recall of a graph against exact search, on queries that are near items but are none of them.

Queries are live items moved by noise to about the distance of their tenth neighbour, the item itself excluded:
measured on the items themselves, a loss of eight points would show as one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.distance import Neighbours, nearest, normalised
from vectorindex.engine.hnsw_file import HnswFile
from vectorindex.engine.params import Metric

KIND = "MovedItems"
NOISE_NEIGHBOUR = 10


@dataclass(frozen=True)
class SampleRequest:
    """``n`` queries (fewer when there are fewer items), recall@``k``."""

    n: int = 200
    k: int = 10
    seed: int = 0


@dataclass(frozen=True, eq=False)
class RecallSample:
    """``queries`` (n, dim) float32, the item that each was made from (``self_labels`` (n,)), and the nearest others:
    ``truth_labels`` and ``truth_distances`` (n, ≥ k where there are so many), with some to spare, so that those deleted
    meanwhile can be dropped."""

    queries: NDArray[np.float32]
    self_labels: NDArray[np.uint64]
    truth_labels: NDArray[np.uint64]
    truth_distances: NDArray[np.float32]
    k: int
    metric: Metric
    kind: str = KIND

    @property
    def search_k(self) -> int:
        """How many answers to ask for: one more, because the item itself may be among them."""
        return self.k + 1


def make_sample(graph: HnswFile, metric: Metric, request: SampleRequest) -> RecallSample | None:
    """A sample of the items of a new graph, with the truth by scan; None when there are not two items."""
    if graph.count < 2:
        return None
    random = np.random.default_rng(request.seed)
    rows = np.arange(graph.count)
    chosen = np.sort(random.choice(graph.count, min(request.n, graph.count), replace=False))
    items = np.ascontiguousarray(graph.vectors[chosen])
    # The tenth neighbour by Euclidean distance under every metric: noise is a distance in space.
    _, squares = nearest(graph.vectors, rows, items, NOISE_NEIGHBOUR + 1, Metric.L2)
    directions = random.standard_normal(items.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    queries = (items + directions * np.sqrt(squares[:, -1:])).astype(np.float32)
    if metric is Metric.COSINE:
        queries = normalised(queries)[0]
    found, distances = nearest(graph.vectors, rows, queries, 2 * request.k + 1, metric)
    truth, truth_distances = _without(found, distances, chosen)
    return RecallSample(queries, graph.labels[chosen], graph.labels[truth], truth_distances, request.k, metric)


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
    truth_dead = np.isin(sample.truth_labels, dead)
    found_dead = np.isin(found.labels, dead)
    for query in range(len(sample.queries)):
        alive = ~truth_dead[query]
        truth = sample.truth_labels[query][alive][: sample.k]
        if not len(truth):
            continue
        farthest = float(sample.truth_distances[query][alive][len(truth) - 1])
        usable = ~found_dead[query] & (found.labels[query] != sample.self_labels[query])
        labels, distances = found.labels[query][usable][: len(truth)], found.distances[query][usable][: len(truth)]
        near = distances <= farthest + _tolerance(farthest, sample.metric)
        hits += int((np.isin(labels, truth) | near).sum())
        possible += len(truth)
    return hits / possible if possible else None


def _tolerance(distance: float, metric: Metric) -> float:
    """Rounding between two ways to sum in float32: relative to what is summed, one and up for inner products."""
    return 1e-6 * (abs(distance) if metric is Metric.L2 else max(1.0, abs(distance)))
