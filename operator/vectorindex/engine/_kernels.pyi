"""The engine's C++ extension: passes over the arrays of an hnswlib file.

Arrays must be C-contiguous and of exactly these types, or a TypeError says so. Results are the same for any number of
``threads``; what takes time releases the GIL. Elements are numbered as in the file; a *list* is a count (low 16 bits of
its first word) and room for links. Distances are squared Euclidean or one minus the inner product, in float32.
"""

import numpy as np
from numpy.typing import NDArray

class Graph:
    """The ``words`` of a file after its header (kept, and must not change), proven to be a graph: sizes add up, counts
    fit their lists, each link leads to an element that is on its level, vectors are finite. Raises ValueError, which
    says what is wrong."""

    def __init__(
        self,
        words: NDArray[np.uint32],
        count: int,
        dimensions: int,
        m: int,
        entry_point: int,
        inner_product: bool,
    ) -> None: ...
    def levels(self) -> NDArray[np.int32]:
        """The highest level of each element (n,)."""

class Compaction:
    """A graph without its ``dead`` (n,) elements (1: dead), renumbered in order, with links across the gaps; the
    algorithm stands in compact.hpp. Raises ValueError when nothing is live.

    ``count`` live elements take ``words`` words after a header; ``entry_point`` and ``max_level`` belong in it."""

    def __init__(self, graph: Graph, dead: NDArray[np.uint8]) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def words(self) -> int: ...
    @property
    def entry_point(self) -> int: ...
    @property
    def max_level(self) -> int: ...
    def write(
        self, target: NDArray[np.uint32], first: int, last: int, slope: float, intercept: float, threads: int
    ) -> int:
        """Writes the new elements ``first..last``; returns how many links were added. On level 0 a link of p to u
        covers a candidate c when d(c, u) < slope x d(p, c) + intercept."""

def check_links(graph: Graph) -> int:
    """Links on all levels. Raises ValueError when an element is linked to itself, or twice to the same."""

def reachable(graph: Graph) -> NDArray[np.uint8]:
    """1 for each element (n,) that a path from the entry point leads to, level by level, each from all that were
    reached above it."""

def repair(
    graph: Graph, threads: int
) -> tuple[int, tuple[NDArray[np.int64], NDArray[np.uint32]], tuple[NDArray[np.int64], NDArray[np.uint32]]]:
    """What makes all elements of a graph reachable (repair.hpp): how many links are put, and the lists to write on
    level 0 and above it: where they begin in the words (c,), and their new words (c, 1 + room)."""

def search(
    graph: Graph, queries: NDArray[np.float32], dead: NDArray[np.uint8], k: int, ef: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.uint32]]:
    """hnswlib's search of width ``ef`` ≥ ``k``, which passes through ``dead`` elements: elements and distances (q, k),
    nearest first, -1 and infinity where fewer are found; and the distances computed by each query (q,)."""

def scan(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    width: int,
    inner_product: bool,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``width`` nearest of ``vectors[rows]`` to each query (q, dim), nearest first, equal ones by their place in
    ``rows``. Only the components of a vector have to lie side by side. Raises ValueError when there are fewer rows."""
