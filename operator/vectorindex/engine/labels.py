"""Finding labels among sorted ones, which is how files, graphs and tails know their items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def find(ordered: NDArray[np.uint64], labels: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which of ``labels`` (n,) are among ``ordered`` (m,) ascending, and the place of each (n,), which counts only
    where it is there."""
    places = np.searchsorted(ordered, labels)
    inside = places < len(ordered)
    inside[inside] = ordered[places[inside]] == labels[inside]
    return inside, places
