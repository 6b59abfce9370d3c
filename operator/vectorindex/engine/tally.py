"""How many items of each segment and of the journal live, kept along with every write, so that no write counts
anything again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import items, journal
from vectorindex.engine.policy import Counts
from vectorindex.engine.segments import Role, Segment


class Tally:
    """``live``: items by generation; ``rows`` of the journal, and ``live_rows`` of them."""

    def __init__(self, connection: sqlite3.Connection, segments: Sequence[Segment]) -> None:
        """Counts everything. ``segments`` by ascending labels."""
        self._segments = tuple(segments)
        self._first = np.array([segment.min_label for segment in segments], np.uint64)
        dead = [items.count_dead(connection, segment.min_label, segment.max_label) for segment in segments]
        self.live = {segment.generation: segment.count - gone for segment, gone in zip(segments, dead, strict=True)}
        self.rows, dead_rows = journal.count(connection)
        self.live_rows = self.rows - dead_rows
        self._deleted = sum(dead) + dead_rows

    @property
    def counts(self) -> Counts:
        delta = sum(self.live[segment.generation] for segment in self._segments if segment.role is Role.DELTA)
        return Counts(sum(self.live.values()) + self.live_rows, self._deleted, delta + self.live_rows)

    def added(self, rows: int) -> None:
        """New rows of the journal."""
        self.rows += rows
        self.live_rows += rows

    def died(self, labels: NDArray[np.uint64]) -> None:
        """Labels (n,), each live until now."""
        self._deleted += len(labels)
        places = np.searchsorted(self._first, labels, side="right") - 1
        for place, count in zip(*np.unique(places, return_counts=True), strict=True):
            segment = self._segments[place] if place >= 0 else None
            mine = labels[places == place]
            inside = 0 if segment is None else int((mine <= segment.max_label).sum())
            if segment is not None:
                self.live[segment.generation] -= inside
            self.live_rows -= int(count) - inside
