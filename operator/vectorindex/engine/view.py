"""What a searcher process holds: the loaded graphs of one view, and which of their items are dead.

Searches may run beside searches and beside :meth:`View.mark_deleted` from any thread; items are never added. When
``mark_deleted`` has returned, no search that starts later finds those items. Fewer live items than asked for give fewer
answers, never an error.
"""

from __future__ import annotations

import threading
from collections import Counter

import hnswlib
import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.distance import Neighbours, hnswlib_space, nearest, normalised, scans
from vectorindex.engine.errors import CorruptFile, InvalidInput
from vectorindex.engine.files import verify_stamp
from vectorindex.engine.hnsw_file import HnswFile
from vectorindex.engine.params import Metric, validate_vectors
from vectorindex.engine.segments import Segment, ViewSpec

TOO_FEW_FOUND = "Cannot return the results in a contiguous 2D array"
MAX_TOO_FEW = 16
"""How often a graph may find too few before it is scanned instead: hnswlib leaks the arrays of each such call."""


class View:
    """The segments of one view, searched together."""

    def __init__(self, dimensions: int, metric: Metric, graphs: list[_Graph]) -> None:
        self._dimensions = dimensions
        self._metric = metric
        self._graphs = graphs

    @classmethod
    def load(cls, spec: ViewSpec) -> View:
        """Verifies each file and loads it. Raises CorruptFile."""
        view = cls(spec.dimensions, spec.metric, [_Graph(spec, segment) for segment in spec.segments])
        view.mark_deleted(spec.dead)
        return view

    @property
    def live(self) -> int:
        """Items that a search can find."""
        return sum(graph.live for graph in self._graphs)

    def search(self, queries: NDArray[np.float32], k: int, ef: int, threads: int = 1) -> Neighbours:
        """The ``k`` ≥ 1 nearest live items of each query (n, dim) float32; ``ef`` ≥ 1 is the width of the search.
        Raises InvalidInput on queries that could not be items."""
        asked = self._prepare(queries, k)
        return _merge([graph.search(asked, k, max(k, ef), threads) for graph in self._graphs], len(asked), k)

    def search_exact(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """Like :meth:`search`, by a scan of all live items."""
        asked = self._prepare(queries, k)
        return _merge([graph.scan(asked, k) for graph in self._graphs], len(asked), k)

    def mark_deleted(self, labels: NDArray[np.uint64]) -> None:
        """From now on these items are not found. Labels that are dead already or not of this view are ignored."""
        for graph in self._graphs:
            graph.mark_deleted(labels)

    def _prepare(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        if k < 1:
            raise InvalidInput(f"k must be at least 1, not {k}")
        validate_vectors(queries, self._dimensions, self._metric)
        return normalised(queries)[0] if self._metric is Metric.COSINE else queries


class _Graph:
    """One loaded segment.

    ``knn_query`` raises, and leaks, when it finds fewer live items than it is asked for. So it is asked only while
    there are twice as many, and a deletion that would leave fewer waits for the searches that began before it. A graph
    that was imported can still find too few, because some paths end early (ours are repaired): those searches are
    answered by a scan, and after a few of them all that ask for as many.
    """

    def __init__(self, spec: ViewSpec, segment: Segment) -> None:
        path = segment.hnsw_path(spec.folder)
        verify_stamp(path, segment.hnsw)
        self._file = HnswFile.open(path, spec.dimensions, spec.metric)
        if self._file.count != segment.count:
            raise CorruptFile(path, f"holds {self._file.count:,} items, the manifest says {segment.count:,}")
        if self._file.deleted.any():
            raise CorruptFile(path, "holds items that are marked as deleted, which only the store may say")
        self._metric = spec.metric
        self._index = hnswlib.Index(hnswlib_space(spec.metric), spec.dimensions)
        self._index.load_index(str(path), max_elements=segment.count)
        self._order = np.argsort(self._file.labels).astype(np.uint32)
        self._labels = self._file.labels[self._order]
        self._alive = np.ones(segment.count, np.bool_)
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
            return self.scan(queries, k)
        try:
            labels, distances = self._index.knn_query(queries, k=width, num_threads=threads)
        except RuntimeError as error:
            if TOO_FEW_FOUND not in str(error):
                raise
            self._note_too_few(width)
            return self.scan(queries, k)
        finally:
            with self._changed:
                self._running[width] -= 1
                self._running += Counter()  # drops what is zero
                self._changed.notify_all()
        return Neighbours(labels[:, :k], distances[:, :k])

    def scan(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        with self._changed:  # numpy counts first and fills then, and must not see an item die in between
            alive = np.flatnonzero(self._alive)
        rows, distances = nearest(self._file.vectors, alive, queries, k, self._metric)
        return Neighbours(self._file.labels[rows], distances)

    def mark_deleted(self, labels: NDArray[np.uint64]) -> None:
        with self._marking:
            places = np.searchsorted(self._labels, labels)
            inside = places < len(self._labels)
            inside[inside] = self._labels[places[inside]] == labels[inside]
            rows = np.unique(self._order[places[inside]])
            rows = rows[self._alive[rows]]
            with self._changed:
                self._alive[rows] = False
                self.live -= len(rows)
                self._changed.wait_for(lambda: not self._running or not scans(self.live, max(self._running)))
            for label in self._file.labels[rows]:
                self._index.mark_deleted(int(label))

    def _note_too_few(self, width: int) -> None:
        with self._changed:
            self._too_few += 1
            if self._too_few >= MAX_TOO_FEW:
                self._scan_from = min(width, self._scan_from or width)


def _merge(parts: list[Neighbours], queries: int, k: int) -> Neighbours:
    """The nearest of several answers to the same queries."""
    if len(parts) == 1:
        return parts[0]
    labels = np.concatenate([np.empty((queries, 0), np.uint64), *(part.labels for part in parts)], axis=1)
    distances = np.concatenate([np.empty((queries, 0), np.float32), *(part.distances for part in parts)], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(labels, order, axis=1), np.take_along_axis(distances, order, axis=1))
