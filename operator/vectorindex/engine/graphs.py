"""The graphs of one view's segments, as a searcher holds them: searched from any thread, and losing items as they die.

The main segment is loaded by hnswlib. A delta is searched by our own kernel in the mapped file: the same search at the
same speed, but nothing has to be loaded, and hnswlib would keep every search of the process waiting while it loads.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Protocol

import hnswlib
import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import _kernels
from vectorindex.engine.distance import Neighbours, hnswlib_space, nearest, scans
from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.files import verify_stamp
from vectorindex.engine.hnsw_file import HnswFile, chunks
from vectorindex.engine.labels import find
from vectorindex.engine.params import Metric
from vectorindex.engine.segments import Role, Segment, ViewSpec

TOO_FEW_FOUND = "Cannot return the results in a contiguous 2D array"
_ROOM = 2**18
"""Answers that hnswlib is asked for at a time, of 12 bytes each: it gives as many as the search is wide."""
MAX_TOO_FEW = 16
"""How often a graph may find too few before it is scanned instead: hnswlib leaks the arrays of each such call."""


class Graph(Protocol):
    """``live`` items that a search can find."""

    live: int

    def search(self, queries: NDArray[np.float32], k: int, width: int, threads: int) -> Neighbours:
        """The ``k`` nearest live items by a search of ``width`` ≥ k, or fewer where fewer live."""

    def scan(self, queries: NDArray[np.float32], k: int, threads: int) -> Neighbours:
        """The same by a scan of all live items."""

    def mark_deleted(self, labels: NDArray[np.uint64]) -> None:
        """From now on these are not found; those that are dead already or not of this graph are ignored."""

    def vectors(self, labels: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which of these labels (n,) this graph holds, by their places, and their vectors as stored."""


def open_graph(spec: ViewSpec, segment: Segment) -> Graph:
    """Verifies a segment's file and makes it ready to be searched. Raises CorruptFile."""
    if segment.role is Role.MAIN:
        return LoadedGraph(spec, segment)
    return MappedGraph(spec, segment)


class _Elements:
    """The items of a verified file: where each label is, and which are alive."""

    def __init__(self, file: HnswFile) -> None:
        self._stored = file.vectors
        self.labels = file.labels
        self._order = np.argsort(file.labels).astype(np.uint32)
        self._sorted = file.labels[self._order]
        self.alive = np.ones(file.count, np.bool_)

    def find(self, labels: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Which of the labels (n,) are here, by their places, and at which elements."""
        inside, places = find(self._sorted, labels)
        return np.flatnonzero(inside), self._order[places[inside]]

    def dying(self, labels: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The elements that are alive of these labels."""
        _, elements = self.find(labels)
        elements = np.unique(elements)
        return elements[self.alive[elements]]

    def vectors(self, labels: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        places, elements = self.find(labels)
        return places, self._stored[elements]

    def scan(
        self, alive: NDArray[np.int64], queries: NDArray[np.float32], k: int, metric: Metric, threads: int
    ) -> Neighbours:
        elements, distances = nearest(self._stored, alive, queries, k, metric, threads)
        return Neighbours(self.labels[elements], distances)


def _verified(spec: ViewSpec, segment: Segment) -> HnswFile:
    path = segment.hnsw_path(spec.folder)
    verify_stamp(path, segment.hnsw)
    file = HnswFile.open(path, spec.dimensions, spec.metric)
    if file.count != segment.count:
        raise CorruptFile(path, f"holds {file.count:,} items, the manifest says {segment.count:,}")
    if file.deleted.any():
        raise CorruptFile(path, "holds items that are marked as deleted, which only the store may say")
    return file


class LoadedGraph:
    """A segment in hnswlib.

    ``knn_query`` raises, and leaks, when it finds fewer live items than it is asked for. So it is asked only while
    there are twice as many, and a deletion that would leave fewer waits for the searches that began before it. A graph
    that was imported can still find too few, because some paths end early (ours are repaired): those searches are
    answered by a scan, and after a few of them all that ask for as many.
    """

    def __init__(self, spec: ViewSpec, segment: Segment) -> None:
        self._elements = _Elements(_verified(spec, segment))  # the kernels' view of the graph goes with the rest
        self.vectors = self._elements.vectors
        self._metric = spec.metric
        self._index = hnswlib.Index(hnswlib_space(spec.metric), spec.dimensions)
        self._index.load_index(str(segment.hnsw_path(spec.folder)), max_elements=segment.count)
        self.live = segment.count
        self._changed = threading.Condition()
        self._running: Counter[int] = Counter()
        self._marking = threading.Lock()
        self._too_few = 0
        self._scan_from: int | None = None

    def search(self, queries: NDArray[np.float32], k: int, width: int, threads: int) -> Neighbours:
        with self._changed:
            scan = scans(self.live, width) or (self._scan_from is not None and width >= self._scan_from)
            if not scan:
                self._running[width] += 1
        if scan:
            return self.scan(queries, k, threads)
        try:
            parts = [self._query(queries[part], k, width, threads) for part in chunks(len(queries), _ROOM // width)]
        except RuntimeError as error:
            if TOO_FEW_FOUND not in str(error):
                raise
            self._note_too_few(width)
            return self.scan(queries, k, threads)
        finally:
            with self._changed:
                self._running[width] -= 1
                if not self._running[width]:
                    del self._running[width]
                self._changed.notify_all()
        labels, distances = zip(*parts, strict=True)
        return Neighbours(np.concatenate(labels), np.concatenate(distances))

    def _query(
        self, queries: NDArray[np.float32], k: int, width: int, threads: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        labels, distances = self._index.knn_query(queries, k=width, num_threads=threads)
        return labels[:, :k].copy(), distances[:, :k].copy()  # the rest is not kept alive

    def scan(self, queries: NDArray[np.float32], k: int, threads: int) -> Neighbours:
        with self._changed:  # numpy counts first and fills then, and must not see an item die in between
            alive = np.flatnonzero(self._elements.alive)
        return self._elements.scan(alive, queries, k, self._metric, threads)

    def mark_deleted(self, labels: NDArray[np.uint64]) -> None:
        with self._marking:
            elements = self._elements.dying(labels)
            with self._changed:
                self._elements.alive[elements] = False
                self.live -= len(elements)
                self._changed.wait_for(lambda: not self._running or not scans(self.live, max(self._running)))
            for label in self._elements.labels[elements]:
                self._index.mark_deleted(int(label))

    def _note_too_few(self, width: int) -> None:
        with self._changed:
            self._too_few += 1
            if self._too_few >= MAX_TOO_FEW:
                self._scan_from = min(width, self._scan_from or width)


class MappedGraph:
    """A segment in its mapped file."""

    def __init__(self, spec: ViewSpec, segment: Segment) -> None:
        file = _verified(spec, segment)
        self._graph = file.graph
        self._elements = _Elements(file)
        self.vectors = self._elements.vectors
        self._metric = spec.metric
        self.live = segment.count
        self._dead = np.zeros(segment.count, np.uint8)
        self._marking = threading.Lock()

    def search(self, queries: NDArray[np.float32], k: int, width: int, threads: int) -> Neighbours:
        if scans(self.live, width):
            return self.scan(queries, k, threads)
        elements, distances, _ = _kernels.search(self._graph, queries, self._dead, k, width, threads)
        if len(elements) and elements[:, -1].min() < 0:  # some paths ended early
            return self.scan(queries, k, threads)
        return Neighbours(self._elements.labels[elements], distances)

    def scan(self, queries: NDArray[np.float32], k: int, threads: int) -> Neighbours:
        with self._marking:  # numpy counts first and fills then, and must not see an item die in between
            alive = np.flatnonzero(self._elements.alive)
        return self._elements.scan(alive, queries, k, self._metric, threads)

    def mark_deleted(self, labels: NDArray[np.uint64]) -> None:
        with self._marking:
            elements = self._elements.dying(labels)
            self._elements.alive[elements] = False
            self._dead[elements] = 1
            self.live -= len(elements)
