"""What changes a view that a searcher serves: the one message of every upsert, delete and flush, and of the catching up
of a searcher that was loaded while they went on.

Immutable and picklable. Labels are never reused and a flush takes the lowest of the tail, so that a change says with
one number which rows leave it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.rows import Rows
from vectorindex.engine.segments import Segment, ViewSpec


@dataclass(frozen=True, eq=False)
class ViewChange:
    """``added`` segments come, and those of the generations ``dropped`` go; rows of the tail up to the label
    ``flushed_through`` leave it (-1: none), and ``rows`` are new in it; ``died`` (n,) are dead, also in what comes."""

    rows: Rows
    died: NDArray[np.uint64]
    added: tuple[Segment, ...] = ()
    dropped: tuple[int, ...] = ()
    flushed_through: int = -1

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not (len(self.rows) or len(self.died) or self.added or self.dropped or self.flushed_through >= 0)


def difference(old: ViewSpec, new: ViewSpec) -> ViewChange:
    """What makes the view ``new`` of ``old``, an earlier state of the same index. What is dead in a segment that comes
    is among what died, also where it was dead in the tail before."""
    before = {segment.generation for segment in old.segments}
    after = {segment.generation for segment in new.segments}
    flushed_through = -1
    if not np.isin(old.tail.labels, new.tail.labels).all():
        flushed_through = int(new.tail.labels[0]) - 1 if len(new.tail) else int(old.tail.labels[-1])
    added = tuple(segment for segment in new.segments if segment.generation not in before)
    dead_in_them = [new.dead[(new.dead >= segment.min_label) & (new.dead <= segment.max_label)] for segment in added]
    return ViewChange(
        rows=new.tail.take(~np.isin(new.tail.labels, old.tail.labels)),
        died=np.unique(np.concatenate([np.setdiff1d(new.dead, old.dead), *dead_in_them])),
        added=added,
        dropped=tuple(sorted(before - after)),
        flushed_through=flushed_through,
    )
