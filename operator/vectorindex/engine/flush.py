"""What a flush takes, and which deltas are merged: pure decisions.

A flush takes the lowest rows of the journal, as many as lie below the next block of labels that is not the journal's,
so that the ranges of two segments never overlap. With them it takes the delta segments right before them as long as the
next one is not larger than what follows it; a merge does the same from the last delta on, which a session may have
left. So the sizes of the deltas at least double from the newest to the oldest: there are about log2 of them, and a row
is written again as often (the logarithmic method of Bentley and Saxe). Beyond a bound deltas stay as they are until a
rebuild: to merge them would take as long as one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.segments import Role, Segment

FLUSH_ROWS = 4_096
FLUSH_BYTES = 16 * 2**20
FEWEST_ROWS = 64
TAILS = 4
"""So many times the rows of a flush may wait in the journal before upserts are refused."""
MERGED = 16
"""So many times the rows of a flush are merged into one delta at most."""


@dataclass(frozen=True)
class FlushPlan:
    """The journal's rows up to the label ``through``, and the delta segments ``merged``, by ascending labels."""

    through: int
    merged: tuple[Segment, ...]


def rows_of_a_flush(dimensions: int) -> int:
    """How many rows a tail holds before it is flushed: every search reads all of them."""
    return max(FEWEST_ROWS, min(FLUSH_ROWS, FLUSH_BYTES // (4 * dimensions)))


@dataclass(frozen=True, eq=False)
class Deltas:
    """What may be merged: ``segments`` by ascending labels, ``live``: items by generation; ``labels`` (n,) ascending of
    the journal; ``sealed``: generations that a running build replaces; ``reserved``: the first label of a session that
    is being built; ``most`` items in one delta."""

    segments: Sequence[Segment]
    live: Mapping[int, int]
    labels: NDArray[np.uint64]
    sealed: Collection[int] = ()
    reserved: int | None = None
    most: int = MERGED * FLUSH_ROWS

    def before(self, first: int, total: int) -> tuple[Segment, ...]:
        """Those that are merged with ``total`` items whose labels begin with ``first``."""
        merged: list[Segment] = []
        for segment in reversed([segment for segment in self.segments if segment.max_label < first]):
            count = self.live[segment.generation]
            if segment.role is Role.MAIN or segment.generation in self.sealed or self._apart(segment, first):
                break
            if count > total or total + count > self.most:
                break
            merged.append(segment)
            first, total = segment.min_label, total + count
        return tuple(reversed(merged))

    def _apart(self, segment: Segment, first: int) -> bool:
        """Whether labels lie between that are none of theirs."""
        rows = np.searchsorted(self.labels, np.array([segment.max_label, first], np.uint64))
        return bool(rows[0] != rows[1]) or (self.reserved is not None and segment.max_label < self.reserved < first)


def choose_flush(deltas: Deltas, live_rows: int) -> FlushPlan | None:
    """``live_rows`` of the journal. None: it is empty."""
    labels = deltas.labels
    if not len(labels):
        return None
    first = int(labels[0])
    blocks = [segment.min_label for segment in deltas.segments]
    blocks += [] if deltas.reserved is None else [deltas.reserved]
    bound = min((block for block in blocks if block > first), default=None)
    below = labels if bound is None else labels[labels < bound]
    return FlushPlan(int(below[-1]), deltas.before(first, min(live_rows, len(below))))


def choose_merge(deltas: Deltas) -> tuple[Segment, ...]:
    """The deltas that are to be one, by ascending labels; none when all are as they should be."""
    last = max(deltas.segments, key=lambda segment: segment.min_label, default=None)
    if last is None or last.role is Role.MAIN or last.generation in deltas.sealed:
        return ()
    before = deltas.before(last.min_label, deltas.live[last.generation])
    return (*before, last) if before else ()
