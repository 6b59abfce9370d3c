"""What a graph is worth: recall@10 against the distances that a query computes, over widths of the search.

Two graphs of the same items are compared at the same number of computations, because a width alone does not say what a
search costs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data import recall, row_of
from bench.plan import K
from bench.result import Result
from vectorindex.engine import _kernels
from vectorindex.engine.hnsw_file import HnswFile
from vectorindex.engine.ids_file import IdsFile
from vectorindex.engine.params import Metric
from vectorindex.engine.structure import reachable

WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192)
COMPARED = slice(WIDTHS.index(32), WIDTHS.index(128) + 1)
"""Of the widths: those at which graphs are compared, half to twice the default."""


@dataclass(frozen=True, eq=False)
class Curve:
    """``recalls`` and ``computations`` per query, both (w,), by width."""

    recalls: NDArray[np.float64]
    computations: NDArray[np.float64]

    def recall_at(self, computations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Recall at so many computations, between the widths on a logarithmic scale."""
        return np.interp(np.log(computations), np.log(self.computations), self.recalls)

    def behind(self, other: Curve) -> NDArray[np.float64]:
        """By how many points it finds less than ``other`` at the same number of computations (those of ``other`` at
        the compared widths)."""
        at = other.computations[COMPARED]
        return 100 * (other.recalls[COMPARED] - self.recall_at(at))


@dataclass(frozen=True, eq=False)
class Graph:
    """A file, and which item (row) each of its elements is."""

    file: HnswFile
    rows: NDArray[np.int64]

    @classmethod
    def of_sidecar(cls, path: Path, dimensions: int, metric: Metric) -> Graph:
        """A segment; the items' names are in the file beside it."""
        file, ids = HnswFile.open(path, dimensions, metric), IdsFile.open(path.with_suffix(".ids"))
        order = np.argsort(file.labels)
        rows = np.empty(file.count, np.int64)
        rows[order] = [row_of(ids.external_id(row)) for row in range(file.count)]
        return cls(file, rows)

    @classmethod
    def of_hnswlib(cls, path: Path, dimensions: int, metric: Metric, rows: NDArray[np.int64]) -> Graph:
        """A file saved by hnswlib of the items ``rows``, which it labels by their place."""
        file = HnswFile.open(path, dimensions, metric)
        return cls(file, rows[file.labels.astype(np.int64)])

    @property
    def unreachable(self) -> int:
        return self.file.count - int(reachable(self.file).sum())

    def curve(self, live: NDArray[np.int64], queries: NDArray[np.float32], truth: NDArray[np.int64]) -> Curve:
        """By searches that find only the items ``live``."""
        dead = ~np.isin(self.rows, live)
        recalls, computations = [], []
        for width in WIDTHS:
            found, _, counted = _kernels.search(
                self.file.graph, queries, dead.view(np.uint8), K, width, len(os.sched_getaffinity(0))
            )
            recalls.append(recall(np.where(found < 0, -1, self.rows[found]), truth))
            computations.append(float(counted.mean()))
        return Curve(np.array(recalls), np.array(computations))


def behind(optimized: Sequence[Curve], rebuilt: Sequence[Curve]) -> Result:
    """How much less optimized graphs find than rebuilt ones of the same items, in the mean of the pairs."""
    points = np.mean([ours.behind(theirs) for ours, theirs in zip(optimized, rebuilt, strict=True)], axis=0)
    return Result.at_most(
        "optimize: recall@10 behind rebuild at equal distance computations",
        float(points.max()),
        0.2,
        "points",
        f"the worst at ef {WIDTHS[COMPARED.start]} to {WIDTHS[COMPARED.stop - 1]}; their mean is {points.mean():.3f}",
    )


def mean(curves: list[Curve]) -> Curve:
    return Curve(
        np.mean([curve.recalls for curve in curves], axis=0), np.mean([curve.computations for curve in curves], axis=0)
    )
