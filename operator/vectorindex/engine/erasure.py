"""Whether the bytes of deleted items are gone from the volume: a pure decision over what else is found there.

The claim: no file of the index holds a byte of the vector or the ID of an item that was deleted, or replaced, before
the seal of the last rebuild or optimize. Snapshots of the index on the same volume count as its files. The swap takes
away the segments that held such items; what can still hold them is a :class:`Trace`, and while there is one the claim
is not made and says why. So it may come later than the operation's end, and go again when something is put there.

What the claim does not say: exports, and copies that were taken elsewhere, are their owner's; blocks that the file
system or the disk has freed are overwritten when they come to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Seal:
    """The moment that a build starts from; what was deleted before is not in its files. Seconds since 1970, the LSN of
    the last write, and the first generation of the builds to come. ``erased``: it is gone elsewhere too, durably."""

    time: float
    lsn: int
    generation: int
    erased: bool = False


@dataclass(frozen=True)
class SnapshotTrace:
    """A folder among the index's snapshots. ``sealed``: seal of the last rebuild or optimize before it, None: there was
    none; ``created`` is None for what is no whole snapshot (it is being made or removed, or cannot be read)."""

    name: str
    created: float | None
    sealed: float | None


@dataclass(frozen=True)
class Traces:
    """What was found. ``tombstones``: items deleted up to the seal that a segment still holds; ``session``: whether an
    ingest session has files; ``leftovers``: files of builds that began before the seal and have no part in the index;
    ``strangers``: what lies in its folder and is none of ours."""

    tombstones: int
    session: bool
    leftovers: tuple[str, ...]
    strangers: tuple[str, ...]
    snapshots: Sequence[SnapshotTrace]


@dataclass(frozen=True)
class Erasure:
    """``before``: seconds since 1970; of items deleted before it nothing is left. None: that cannot be said, because
    ``blocked``, or (both None) because there has been no rebuild or optimize."""

    before: float | None
    blocked: str | None


NOTHING_SEALED = Erasure(None, None)


def why_not(seal: Seal, traces: Traces) -> str | None:
    """The first cause that stands against the claim, and what to do about it; None: nothing does."""
    if traces.tombstones:
        return f"{traces.tombstones:,} items that were deleted before are in a segment that came later; run it again"
    if traces.session:
        return "an ingest session is open; finalize it"
    for name in traces.leftovers:
        return f"file {name} is left from a build that ended; restart the sidecar, which removes it"
    for name in traces.strangers:
        return f"file {name} in the index's folder is none of the index's, and is kept; move it elsewhere"
    for snapshot in traces.snapshots:
        if snapshot.created is None:
            return f"snapshot {snapshot.name} is being made or removed, or is damaged; wait, or remove it"
        if snapshot.sealed is None or snapshot.sealed < seal.time:
            day = datetime.fromtimestamp(snapshot.created, UTC).date()
            return f"snapshot {snapshot.name} of {day} may hold deleted items; remove it"
    return None


def rfc3339(seconds: float) -> str:
    """A time in seconds since 1970, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
