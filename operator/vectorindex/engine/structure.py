"""Is a graph that was just built a sound one, and what of it can a search reach?

What must never be (a link of an item to itself, to the same item twice; a dead item in a new graph) raises CorruptFile.
What is counted: items that no search can find, because no path of links leads to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import _kernels
from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.hnsw_file import HnswFile


@dataclass(frozen=True)
class StructureReport:
    """``unreachable``: items out of ``count`` that no path from the entry point leads to; ``links`` on all levels."""

    count: int
    links: int
    levels: int
    unreachable: int


def check_structure(file: HnswFile) -> StructureReport:
    """Checks a new graph that passed :meth:`HnswFile.open`. Raises CorruptFile on what must never be."""
    if file.deleted.any():
        raise CorruptFile(file.path, f"a new graph holds {int(file.deleted.sum())} dead items")
    try:
        links = _kernels.check_links(file.graph)
    except ValueError as error:
        raise CorruptFile(file.path, str(error)) from None
    levels = int(file.graph.levels()[file.entry_point]) + 1
    return StructureReport(file.count, links, levels, file.count - int(reachable(file).sum()))


def reachable(file: HnswFile) -> NDArray[np.bool_]:
    """Which elements (n,) a path from the entry point leads to: breadth-first on the highest level, then from all
    that was reached there on the next lower one, down to level 0."""
    return _kernels.reachable(file.graph).view(np.bool_)
