"""What a builder puts into a new graph: the rows of a session, or the live items of segments and of a tail. Both by
ascending labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.digest import fingerprints
from vectorindex.engine.distance import stored_form
from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.files import verify_stamp
from vectorindex.engine.hnsw_file import HnswFile, chunks
from vectorindex.engine.ids_file import IdsFile
from vectorindex.engine.params import Metric
from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.session import SessionRows
from vectorindex.engine.structure import reachable

_TAIL = -1  # instead of the number of a segment


class Source(Protocol):
    """``labels`` (n,) uint64 ascending; ``segments`` that it reads."""

    labels: NDArray[np.uint64]
    segments: tuple[OldSegment, ...]

    def external_ids(self) -> Sequence[bytes]:
        """The ID (UTF-8) of each label."""

    def vectors(self, part: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of ``labels[part]``: vectors as a graph stores them, and the lengths of those received."""


class SessionSource:
    """The last row of each ID; the row r of the session has the label ``first_label + r``."""

    segments: tuple[OldSegment, ...] = ()

    def __init__(self, rows: SessionRows, first_label: int, metric: Metric) -> None:
        ids = rows.external_ids()
        last = {external_id: row for row, external_id in enumerate(ids)}
        self._rows = np.sort(np.fromiter(last.values(), np.int64, len(last)))
        self._ids = ids
        self._vectors = rows.vectors() if len(self._rows) else np.empty((0, rows.dimensions), np.float32)
        self._metric = metric
        self.labels = (self._rows + first_label).astype(np.uint64)

    def external_ids(self) -> Sequence[bytes]:
        return [self._ids[row] for row in self._rows]

    def vectors(self, part: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return stored_form(self._vectors[self._rows[part]], self._metric)

    def fingerprints(self) -> NDArray[np.int64]:
        """Of the item of each label."""
        found = np.empty(len(self._rows), np.int64)
        for part in chunks(len(self._rows)):
            rows = self._rows[part]
            found[part] = fingerprints((self._ids[row] for row in rows.tolist()), self._vectors[rows])
        return found


class OldSegment:
    """The files of a segment, verified, and what is live in it. Raises CorruptFile where a file is not what the
    manifest says.

    ``live`` (n,): rows of ``ids`` that are live, ascending; ``elements`` (n,): theirs in ``graph``; ``dead``: bool by
    element; ``unreachable``: live items that no search can find."""

    def __init__(self, view: ViewSpec, segment: Segment) -> None:
        verify_stamp(segment.hnsw_path(view.folder), segment.hnsw)
        verify_stamp(segment.ids_path(view.folder), segment.ids)
        self.segment = segment
        self.graph = HnswFile.open(segment.hnsw_path(view.folder), view.dimensions, view.metric)
        self.ids = IdsFile.open(segment.ids_path(view.folder))
        order = np.argsort(self.graph.labels)
        if not np.array_equal(self.graph.labels[order], self.ids.labels):
            raise CorruptFile(self.ids.path, f"its labels are not those of {self.graph.path.name}")
        self.live = np.flatnonzero(~np.isin(self.ids.labels, view.dead)).astype(np.uint32)
        self.elements = order[self.live].astype(np.uint32)
        self.dead = np.ones(self.graph.count, np.bool_)
        self.dead[self.elements] = False
        self.unreachable = int((~reachable(self.graph)[self.elements]).sum())


class ViewSource:
    """The items of a view's segments and tail less its dead. Raises CorruptFile where a file is not what the manifest
    says."""

    def __init__(self, view: ViewSpec) -> None:
        self.segments = tuple(OldSegment(view, segment) for segment in view.segments)
        self._tail = view.live_tail
        self._tail_vectors, self._tail_norms = stored_form(self._tail.vectors, view.metric)
        rows = np.arange(len(self._tail), dtype=np.uint32)
        parts = [
            *(
                (old.ids.labels[old.live], np.full(len(old.live), number, np.int32), np.stack([old.live, old.elements]))
                for number, old in enumerate(self.segments)
            ),
            (self._tail.labels, np.full(len(rows), _TAIL, np.int32), np.stack([rows, rows])),
        ]
        labels, owners, places = zip(*parts, strict=True)
        together = np.concatenate(labels)
        order = np.argsort(together, kind="stable")
        self.labels = together[order]
        self._owners = np.concatenate(owners)[order]
        self._rows, self._elements = np.concatenate(places, axis=1)[:, order]
        self._dimensions = view.dimensions

    def external_ids(self) -> Sequence[bytes]:
        return [
            self._tail.external_ids[row].encode() if owner == _TAIL else self.segments[owner].ids.raw_id(row)
            for owner, row in zip(self._owners.tolist(), self._rows.tolist(), strict=True)
        ]

    def vectors(self, part: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        owners, rows, elements = self._owners[part], self._rows[part], self._elements[part]
        vectors = np.empty((len(owners), self._dimensions), np.float32)
        norms = np.empty(len(owners), np.float32)
        for owner in np.unique(owners).tolist():
            mine = owners == owner
            if owner == _TAIL:
                vectors[mine], norms[mine] = self._tail_vectors[rows[mine]], self._tail_norms[rows[mine]]
            else:
                vectors[mine] = self.segments[owner].graph.vectors[elements[mine]]
                norms[mine] = self.segments[owner].ids.norms[rows[mine]]
        return vectors, norms
