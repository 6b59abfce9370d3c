"""Is a graph that was just built a sound one, and what of it can a search reach?

What must never be (a link of an item to itself, to the same item twice, to a dead item; a dead item in a new graph)
raises CorruptFile. What happens to sound builds is counted: items that no search can find, because all links to them
were dropped for better ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.hnsw_file import HnswFile, chunks


@dataclass(frozen=True)
class StructureReport:
    """``unreachable``: items out of ``count`` that no path from the entry point leads to; ``links`` on all levels."""

    count: int
    links: int
    levels: int
    unreachable: int


def check_structure(graph: HnswFile) -> StructureReport:
    """Checks a new graph that passed :meth:`HnswFile.open`. Raises CorruptFile on what must never be."""
    if graph.deleted.any():
        raise CorruptFile(graph.path, f"a new graph holds {int(graph.deleted.sum())} dead items")
    links = 0
    for part in chunks(graph.count):
        owners = np.arange(part.start, part.stop, dtype=np.uint32)
        links += _check_links(graph, 0, owners, graph.counts0[part], np.ascontiguousarray(graph.links0[part]))
    for level, upper in enumerate(graph.upper, start=1):
        links += _check_links(graph, level, upper.elements, upper.counts, upper.links)
    reached = reachable(graph)
    return StructureReport(graph.count, links, len(graph.upper) + 1, graph.count - int(reached.sum()))


def _check_links(
    graph: HnswFile, level: int, owners: NDArray[np.uint32], counts: NDArray[np.uint32], links: NDArray[np.uint32]
) -> int:
    used = np.arange(links.shape[1]) < counts[:, None]
    if (used & (links == owners[:, None])).any():
        raise CorruptFile(graph.path, f"an item has a link to itself on level {level}")
    targets = np.sort(np.where(used, links.astype(np.int64), -1 - np.arange(links.shape[1])), axis=1)
    if (targets[:, 1:] == targets[:, :-1]).any():
        raise CorruptFile(graph.path, f"an item has the same link twice on level {level}")
    return int(used.sum())


def reachable(graph: HnswFile) -> NDArray[np.bool_]:
    """Which elements (n,) a path from the entry point leads to: breadth-first on the highest level, then from all
    that was reached there on the next lower one, down to level 0."""
    reached = np.zeros(graph.count, np.bool_)
    reached[graph.entry_point] = True
    for upper in reversed(graph.upper):
        rows = np.full(graph.count, -1, np.int64)
        rows[upper.elements] = np.arange(len(upper.elements))
        frontier = np.flatnonzero(reached)
        while len(frontier):
            at = rows[frontier]
            frontier = _advance(reached, upper.counts[at], upper.links[at])
    frontier = np.flatnonzero(reached)
    while len(frontier):
        frontier = np.concatenate(
            [
                _advance(reached, graph.counts0[frontier[part]], graph.links0[frontier[part]])
                for part in chunks(len(frontier))
            ]
        )
    return reached


def _advance(reached: NDArray[np.bool_], counts: NDArray[np.uint32], links: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Marks the targets of these lists; returns those that were not marked before."""
    targets = np.unique(links[np.arange(links.shape[1]) < counts[:, None]])
    found = targets[~reached[targets]]
    reached[found] = True
    return found.astype(np.int64)
