"""Snapshots of an index on the volume that holds it: ``/v1/indexes/{index}/snapshots``."""

from __future__ import annotations

from pydantic import Field

from vectorindex.wire.base import WireModel
from vectorindex.wire.state import Counts

SNAPSHOT_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$"


class SnapshotRequest(WireModel):
    """``name`` becomes a folder below the volume's ``snapshots/{index}/``."""

    name: str = Field(pattern=SNAPSHOT_NAME)


class SnapshotStatus(WireModel):
    """A snapshot that is complete: the index as it was after the write ``sequence``, on the volume ``volume_id``.
    ``path`` is relative to the data folder, ``created`` is in seconds since 1970, ``bytes`` those of its files, which
    it shares with the index as far as the index has them still."""

    volume_id: str
    name: str
    path: str
    index_name: str
    dimensions: int
    metric: str
    sequence: int
    counts: Counts
    created: float
    bytes: int


class SnapshotList(WireModel):
    volume_id: str
    snapshots: tuple[SnapshotStatus, ...] = ()
