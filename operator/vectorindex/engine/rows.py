"""Items on their way between the journal, the tails of the searchers and a builder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Rows:
    """n items by ascending labels: ``labels`` (n,) uint64, ``external_ids`` (n) and ``vectors`` (n, dim) float32 as
    they were received."""

    labels: NDArray[np.uint64]
    external_ids: tuple[str, ...]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def none(cls, dimensions: int) -> Rows:
        return cls(np.empty(0, np.uint64), (), np.empty((0, dimensions), np.float32))

    def take(self, chosen: NDArray[np.bool_]) -> Rows:
        """Those where ``chosen`` (n,) is true."""
        external_ids = tuple(self.external_ids[row] for row in np.flatnonzero(chosen).tolist())
        return Rows(self.labels[chosen], external_ids, self.vectors[chosen])


def concatenated(parts: list[Rows], dimensions: int) -> Rows:
    """All rows of parts that come by ascending labels."""
    if len(parts) == 1:
        return parts[0]
    whole = [Rows.none(dimensions), *parts]
    return Rows(
        np.concatenate([part.labels for part in whole]),
        tuple(external_id for part in whole for external_id in part.external_ids),
        np.concatenate([part.vectors for part in whole]),
    )
