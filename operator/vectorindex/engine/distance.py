"""Distances as hnswlib has them, and the exact scan: the truth that graphs are measured against.

Under cosine all stored vectors have length one, so that there it is one minus the inner product as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import _kernels
from vectorindex.engine.params import MIN_COSINE_NORM, Metric, vector_norms


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
    return of_length_one(vectors, norms), norms.astype(np.float32)


def of_length_one(vectors: NDArray[np.float32], norms: NDArray[np.float64]) -> NDArray[np.float32]:
    """Vectors (n, dim) divided by their lengths (n,), which are known."""
    return (vectors / norms[:, None]).astype(np.float32)


def stored_form(vectors: NDArray[np.float32], metric: Metric) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a graph holds of vectors (n, dim) as received, and their lengths (n,)."""
    if metric is Metric.COSINE:
        return normalised(vectors)
    return np.ascontiguousarray(vectors, np.float32), vector_norms(vectors).astype(np.float32)


def scans(live: int, width: int) -> bool:
    """Whether a search of this width reads all of a segment's live items instead of its graph: where few are live, that
    is as quick, and hnswlib fails when it finds less than it is asked for."""
    return live < 2 * width


def nearest(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    k: int,
    metric: Metric,
    threads: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The min(k, r) nearest of ``vectors[rows]`` (r ascending rows of (n, dim)) to each query (q, dim), by a scan: rows
    (q, w) and distances (q, w), nearest first, equal ones by row.

    L2 is summed from the differences themselves, in float32: |q|² - 2qv + |v|² would cancel."""
    asked = np.ascontiguousarray(queries, np.float32)
    return _kernels.scan(vectors, rows, asked, min(k, len(rows)), metric is not Metric.L2, threads)
