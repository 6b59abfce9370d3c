"""Distances as hnswlib has them, and the exact scan: the truth that graphs are measured against.

Under cosine all stored vectors have length one, so that there it is one minus the inner product as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.params import MIN_COSINE_NORM, Metric, vector_norms

SCAN_BYTES = 32 * 2**20
"""Memory that one block of a scan may take."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Answers to n queries, nearest first: ``labels`` (n, w) uint64 and ``distances`` (n, w) float32, where w is k,
    or the number of live items if there are fewer."""

    labels: NDArray[np.uint64]
    distances: NDArray[np.float32]


def hnswlib_space(metric: Metric) -> str:
    return "l2" if metric is Metric.L2 else "ip"


def normalised(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors (n, dim) of length one, and the lengths (n,) that they had, which must not be zero."""
    norms = vector_norms(vectors)
    assert norms.size == 0 or norms.min() >= MIN_COSINE_NORM
    return (vectors / norms[:, None]).astype(np.float32), norms.astype(np.float32)


def stored_form(vectors: NDArray[np.float32], metric: Metric) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a graph holds of vectors (n, dim) as received, and their lengths (n,)."""
    if metric is Metric.COSINE:
        return normalised(vectors)
    return np.ascontiguousarray(vectors, np.float32), vector_norms(vectors).astype(np.float32)


def nearest(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], queries: NDArray[np.float32], k: int, metric: Metric
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The min(k, r) nearest of ``vectors[rows]`` (r rows of (n, dim)) to each query (q, dim), by a scan in blocks of
    bounded memory: rows (q, w) and distances (q, w), nearest first, equal ones by row.

    L2 is computed in float64, because |q|² - 2qv + |v|² cancels; an inner product does not."""
    wide: np.dtype[np.floating[Any]] = np.dtype(np.float64 if metric is Metric.L2 else np.float32)
    asked: NDArray[np.floating[Any]] = queries.astype(wide)
    asked_squares = np.einsum("ij,ij->i", asked, asked)[:, None]
    width = min(k, len(rows))
    best_rows = np.empty((len(queries), 0), np.int64)
    best: NDArray[np.floating[Any]] = np.empty((len(queries), 0), wide)
    step = max(width, SCAN_BYTES // (wide.itemsize * max(vectors.shape[1], len(queries), 1)), 1)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        block: NDArray[np.floating[Any]] = vectors[part].astype(wide)
        distances = asked @ block.T
        if metric is Metric.L2:
            distances *= -2.0
            distances += asked_squares
            distances += np.einsum("ij,ij->i", block, block)
            np.maximum(distances, 0.0, out=distances)
        else:
            np.subtract(1.0, distances, out=distances)
        best = np.concatenate([best, distances], axis=1)
        best_rows = np.concatenate([best_rows, np.broadcast_to(part, distances.shape)], axis=1)
        if best.shape[1] > width:
            keep = (
                np.argpartition(best, width - 1, axis=1)[:, :width] if width else np.empty((len(queries), 0), np.intp)
            )
            best = np.take_along_axis(best, keep, axis=1)
            best_rows = np.take_along_axis(best_rows, keep, axis=1)
    order = np.lexsort((best_rows, best), axis=1)
    return np.take_along_axis(best_rows, order, axis=1), np.take_along_axis(best, order, axis=1).astype(np.float32)
