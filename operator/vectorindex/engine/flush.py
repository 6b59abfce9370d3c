"""What a flush takes: a pure decision.

It takes the lowest rows of the journal, as many as lie below the next block of labels that is not the journal's, so
that the ranges of two segments never overlap. With them it takes the delta segments right before them as long as the
next one is not larger than what follows it. So the sizes of the deltas at least double from the newest to the oldest:
there are about log2 of them, and a row is written again as often (the logarithmic method of Bentley and Saxe).
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


@dataclass(frozen=True)
class FlushPlan:
    """The journal's rows up to the label ``through``, and the delta segments ``merged``, by ascending labels."""

    through: int
    merged: tuple[Segment, ...]


def rows_of_a_flush(dimensions: int) -> int:
    """How many rows a tail holds before it is flushed: every search reads all of them."""
    return max(FEWEST_ROWS, min(FLUSH_ROWS, FLUSH_BYTES // (4 * dimensions)))


def choose_flush(
    segments: Sequence[Segment],
    live: Mapping[int, int],
    labels: NDArray[np.uint64],
    live_rows: int,
    sealed: Collection[int],
    reserved: int | None,
) -> FlushPlan | None:
    """``segments`` by ascending labels, ``live``: items by generation; ``labels`` (n,) ascending and ``live_rows`` of
    the journal; ``sealed``: generations that a running build replaces; ``reserved``: the first label of a session that
    is being built. None: there is nothing to flush."""
    if not len(labels):
        return None
    first = int(labels[0])
    blocks = [segment.min_label for segment in segments] + ([] if reserved is None else [reserved])
    bound = min((block for block in blocks if block > first), default=None)
    below = labels if bound is None else labels[labels < bound]
    through = int(below[-1])
    merged: list[Segment] = []
    total = live_rows if bound is None else min(live_rows, len(below))
    for segment in reversed([segment for segment in segments if segment.max_label < first]):
        apart = reserved is not None and segment.max_label < reserved < first
        if segment.role is Role.MAIN or segment.generation in sealed or apart or live[segment.generation] > total:
            break
        merged.append(segment)
        total += live[segment.generation]
    return FlushPlan(through, tuple(reversed(merged)))
