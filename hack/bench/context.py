"""What every experiment gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import rivals
from bench.data import Data
from bench.plan import Plan
from bench.volumes import Volume, Volumes
from vectorindex.engine.params import Metric


@dataclass(frozen=True, eq=False)
class Context:
    """``threads``: those of a builder on this machine, which every other build gets too."""

    plan: Plan
    data: Data
    volumes: Volumes
    threads: int

    @property
    def metric(self) -> Metric:
        return self.data.metric

    @property
    def largest(self) -> int:
        return self.plan.sizes[-1]

    def volume(self, count: int) -> Volume:
        """The first ``count`` items of the data."""
        return self.volumes.of(self.data.items[:count], self.metric)

    def rival(
        self,
        library: str,
        rows: NDArray[np.int64],
        *,
        seed: int = 0,
        truth: NDArray[np.int64] | None = None,
        save: Path | None = None,
        deletes: int = 0,
    ) -> rivals.Measured:
        """Another library with the items ``rows``; ``truth`` (q, k) are places among them."""
        vectors, queries = self.volumes.folder / "vectors.npy", self.volumes.folder / "queries.npy"
        np.save(vectors, self.data.items[rows])
        np.save(queries, self.data.queries)
        return rivals.measure(
            rivals.Job(library, self.metric, self.threads, vectors, seed, queries, truth, save, deletes)
        )
