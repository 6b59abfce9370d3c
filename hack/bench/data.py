"""The vectors that are measured on: real embeddings, and queries that are no items."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.distance import nearest
from vectorindex.engine.params import Metric

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "wordnet_minilm_384_f16.npy"
DEMO = ROOT / "examples" / "demo" / "vectors_f16.npy"
QUERIES = 1_000
NORM_SIGMA = 0.5


class NoDataError(Exception):
    """The file cannot be measured on; the message says why."""


@dataclass(frozen=True, eq=False)
class Data:
    """``items`` (n, d) and ``queries`` (q, d) float32: of unit length, or under an inner product of lengths that are
    lognormal, seeded."""

    source: Path
    metric: Metric
    items: NDArray[np.float32]
    queries: NDArray[np.float32]

    @property
    def dimensions(self) -> int:
        return int(self.items.shape[1])

    def truth(self, rows: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """The ``k`` nearest of the items ``rows`` (ascending) to each query, by a scan: (q, k) rows."""
        return nearest(self.items, rows, self.queries, k, self.metric, len(os.sched_getaffinity(0)))[0]


def source() -> Path:
    """The user's file ($BENCH_VECTORS), or the project's data where it is there, or the demo's."""
    given = os.environ.get("BENCH_VECTORS")
    if given:
        return Path(given).resolve()
    return SHARED if SHARED.exists() else DEMO


def load(path: Path, metric: Metric) -> Data:
    """The last 1,000 rows of a file (n, d) of float16 or float32 are queries. Raises NoDataError."""
    try:
        raw = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise NoDataError(f"{path} cannot be read as a .npy file: {error}") from error
    if raw.ndim != 2 or raw.dtype not in (np.float16, np.float32):
        raise NoDataError(f"{path} holds {raw.dtype} {raw.shape}; an array (n, d) of float16 or float32 is needed")
    if len(raw) < 3 * QUERIES:
        raise NoDataError(f"{path} has {len(raw):,} rows; {3 * QUERIES:,} are needed, of which {QUERIES:,} are queries")
    vectors = np.array(raw, np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise NoDataError(f"{path} holds a vector that is zero or not finite")
    vectors /= norms
    if metric is Metric.INNER_PRODUCT:
        vectors *= lengths(len(vectors))[:, None]
    return Data(path, metric, vectors[:-QUERIES], vectors[-QUERIES:])


def lengths(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).lognormal(0.0, NORM_SIGMA, count).astype(np.float32)


def names(rows: NDArray[np.int64]) -> list[str]:
    """The external IDs of items."""
    return [f"item-{row}" for row in rows.tolist()]


def row_of(name: str) -> int:
    """The inverse of :func:`names`."""
    return int(name.removeprefix("item-"))


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """recall@k of ``found`` (q, k), where -1 is nothing."""
    hits = (found[:, :, None] == truth[:, None, :]).any(axis=2).sum()
    return float(hits / truth.size)
