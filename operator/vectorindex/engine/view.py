"""What a searcher process holds: the graphs of one view and its tail, and which of their items are dead.

Searches may run in any number of threads, beside :meth:`View.apply`, which one thread calls. When it has returned, each
search that starts later sees the change whole. While it runs, a search may find an item that is being replaced twice,
by its old and by its new label, but never neither: the new comes before the old goes. Fewer live items than asked for
give fewer answers, never an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.distance import Neighbours, of_length_one
from vectorindex.engine.errors import InvalidInput
from vectorindex.engine.graphs import Graph, open_graph
from vectorindex.engine.params import Metric, validate_vectors
from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.tail import Tail
from vectorindex.engine.view_change import ViewChange

_ATTEMPTS = 3
"""A search over which segments were exchanged is made again: an item that was replaced right after may be missed in
the parts that it began with. So often at most: it takes a flush each time."""


class View:
    """The segments and the tail of one view, searched together."""

    def __init__(self, spec: ViewSpec, graphs: dict[int, Graph], tail: Tail) -> None:
        self._spec = spec
        self._parts = (graphs, tail)
        self._opened: dict[int, Graph] = {}

    @classmethod
    def load(cls, spec: ViewSpec) -> View:
        """Verifies each file and loads it. Raises CorruptFile."""
        graphs = {segment.generation: open_graph(spec, segment) for segment in spec.segments}
        view = cls(spec, graphs, Tail(spec.tail, spec.metric))
        view._mark_deleted(spec.dead)
        return view

    @property
    def dimensions(self) -> int:
        return self._spec.dimensions

    @property
    def live(self) -> int:
        """Items that a search can find."""
        graphs, tail = self._parts
        return sum(graph.live for graph in graphs.values()) + tail.live

    def search(self, queries: NDArray[np.float32], k: int, ef: int, threads: int = 1) -> Neighbours:
        """The ``k`` ≥ 1 nearest live items of each query (n, dim) float32; ``ef`` ≥ 1 is the width of the search.
        Raises InvalidInput on queries that could not be items."""
        asked = self._prepare(queries, k)
        for _ in range(_ATTEMPTS):
            graphs, tail = parts = self._parts
            found = [graph.search(asked, k, max(k, ef), threads) for graph in graphs.values()]
            answer = _merge([*found, tail.scan(asked, k, threads)], k)
            if self._parts is parts:
                break
        return answer

    def search_exact(self, queries: NDArray[np.float32], k: int, threads: int = 1) -> Neighbours:
        """Like :meth:`search`, by a scan of all live items."""
        asked = self._prepare(queries, k)
        for _ in range(_ATTEMPTS):
            graphs, tail = parts = self._parts
            found = [graph.scan(asked, k, threads) for graph in graphs.values()]
            answer = _merge([*found, tail.scan(asked, k, threads)], k)
            if self._parts is parts:
                break
        return answer

    def vectors(self, labels: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which of these labels (n,) are in a segment, dead ones too, and the vectors (n, dim) as stored: of length one
        under cosine; zero where there is none."""
        found = np.zeros(len(labels), np.bool_)
        vectors = np.zeros((len(labels), self._spec.dimensions), np.float32)
        graphs, _ = self._parts
        for graph in graphs.values():
            places, values = graph.vectors(labels)
            found[places], vectors[places] = True, values
        return found, vectors

    def open(self, segments: Sequence[Segment]) -> None:
        """Makes segments ready that a change will add, so that the change itself is quick. May run beside
        :meth:`apply`. Raises CorruptFile."""
        for segment in segments:
            if segment.generation not in self._opened:
                self._opened[segment.generation] = open_graph(self._spec, segment)

    def forget(self, generations: Sequence[int]) -> None:
        """Lets go what was opened for a change that will not come."""
        for generation in generations:
            self._opened.pop(generation, None)

    def apply(self, change: ViewChange) -> None:
        """Changes what later searches see. Raises CorruptFile."""
        self.open(change.added)
        graphs, tail = self._parts
        if change.added or change.dropped or change.flushed_through >= 0:
            added = {segment.generation: self._opened.pop(segment.generation) for segment in change.added}
            for graph in added.values():
                graph.mark_deleted(change.died)  # before anybody can search it
            kept = {generation: graph for generation, graph in graphs.items() if generation not in change.dropped}
            tail = tail.after(change.flushed_through)
            self._parts = (kept | added, tail)
        if len(change.rows):
            tail.append(change.rows)
        self._mark_deleted(change.died)

    def _mark_deleted(self, labels: NDArray[np.uint64]) -> None:
        if len(labels):
            graphs, tail = self._parts
            for graph in graphs.values():
                graph.mark_deleted(labels)
            tail.mark_deleted(labels)

    def _prepare(self, queries: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        if k < 1:
            raise InvalidInput(f"k must be at least 1, not {k}")
        metric = self._spec.metric
        norms = validate_vectors(queries, self._spec.dimensions, metric)
        return of_length_one(queries, norms) if metric is Metric.COSINE else queries


def _merge(parts: list[Neighbours], k: int) -> Neighbours:
    """The nearest of several answers to the same queries."""
    parts = [part for part in parts if part.labels.shape[1]] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    labels = np.concatenate([part.labels for part in parts], axis=1)
    distances = np.concatenate([part.distances for part in parts], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(labels, order, axis=1), np.take_along_axis(distances, order, axis=1))
