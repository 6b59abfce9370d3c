"""Whether an index needs a rebuild, and why: a pure function of its counts, parameters and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vectorindex.engine.params import Parameters


class RebuildReason(StrEnum):
    DELETED_RATIO = "DeletedRatio"
    DELTA_RATIO = "DeltaRatio"
    PARAMETERS_CHANGED = "ParametersChanged"


@dataclass(frozen=True)
class Counts:
    """``live``: items that a search can find; ``deleted``: tombstones still in a graph; ``delta``: live items outside
    the main segment."""

    live: int
    deleted: int
    delta: int


@dataclass(frozen=True)
class Thresholds:
    """``deleted_percent`` of all items in the graphs, ``delta_percent`` of the live ones; neither counts below
    ``min_items`` such items."""

    deleted_percent: int = 20
    delta_percent: int = 10
    min_items: int = 1_000


@dataclass(frozen=True)
class DesiredParameters:
    """What the next rebuild should use; None asks for nothing."""

    m: int | None = None
    ef_construction: int | None = None


def rebuild_reasons(
    counts: Counts, in_force: Parameters, thresholds: Thresholds, desired: DesiredParameters
) -> tuple[RebuildReason, ...]:
    """Every reason that holds, in the order of the enum; empty when the index is fine, or holds nothing at all."""
    stored = counts.live + counts.deleted
    if stored == 0:
        return ()
    reasons = []
    if _reached(counts.deleted, stored, thresholds.deleted_percent, thresholds.min_items):
        reasons.append(RebuildReason.DELETED_RATIO)
    if _reached(counts.delta, counts.live, thresholds.delta_percent, thresholds.min_items):
        reasons.append(RebuildReason.DELTA_RATIO)
    if _differs(desired.m, in_force.m) or _differs(desired.ef_construction, in_force.ef_construction):
        reasons.append(RebuildReason.PARAMETERS_CHANGED)
    return tuple(reasons)


def _reached(part: int, whole: int, percent: int, min_items: int) -> bool:
    return part > 0 and part >= min_items and part * 100 >= percent * whole


def _differs(desired: int | None, in_force: int) -> bool:
    return desired is not None and desired != in_force
