"""The tail of a view: the newest items, in no graph yet, which every search reads.

One thread changes it, any may search it. A row is written whole before the number of rows says that it is there, so
that a search sees all of it or nothing; rows are never moved within one tail.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.distance import Neighbours, nearest, stored_form
from vectorindex.engine.labels import find
from vectorindex.engine.params import Metric
from vectorindex.engine.rows import Rows

T = TypeVar("T", bound=np.generic)

_FEWEST = 256


class Tail:
    def __init__(self, rows: Rows, metric: Metric) -> None:
        self._metric = metric
        vectors, _ = stored_form(rows.vectors, metric)
        self._content = (rows.labels, vectors, np.ones(len(rows), np.bool_), len(rows))

    @property
    def live(self) -> int:
        _, _, alive, count = self._content
        return int(alive[:count].sum())

    def append(self, rows: Rows) -> None:
        """Adds rows, whose labels are above all that are here."""
        new, _ = stored_form(rows.vectors, self._metric)
        labels, vectors, alive, count = self._content
        total = count + len(rows)
        if total > len(labels):
            room = max(_FEWEST, 2 * total)
            labels, vectors, alive = _grown(labels, room), _grown(vectors, room), _grown(alive, room)
        labels[count:total], vectors[count:total], alive[count:total] = rows.labels, new, True
        self._content = (labels, vectors, alive, total)

    def after(self, label: int) -> Tail:
        """A tail of the rows above a label."""
        labels, vectors, alive, count = self._content
        if not count or label < int(labels[0]):
            return self
        first = int(np.searchsorted(labels[:count], np.uint64(label), side="right"))
        rest = Tail(Rows.none(vectors.shape[1]), self._metric)
        part = slice(first, count)
        rest._content = (labels[part].copy(), vectors[part].copy(), alive[part].copy(), count - first)
        return rest

    def mark_deleted(self, labels: NDArray[np.uint64]) -> None:
        """From now on these are not found; labels that are not here are ignored."""
        here, _, alive, count = self._content
        inside, places = find(here[:count], labels)
        alive[places[inside]] = False

    def scan(self, queries: NDArray[np.float32], k: int, threads: int) -> Neighbours:
        """The ``k`` nearest live rows, or fewer where fewer live."""
        labels, vectors, alive, count = self._content
        if not count:
            return Neighbours(np.empty((len(queries), 0), np.uint64), np.empty((len(queries), 0), np.float32))
        rows = np.flatnonzero(alive[:count].copy())  # a copy, because one could die while they are counted
        found, distances = nearest(vectors, rows, queries, k, self._metric, threads)
        return Neighbours(labels[found], distances)


def _grown(array: NDArray[T], room: int) -> NDArray[T]:
    larger = np.zeros((room, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
