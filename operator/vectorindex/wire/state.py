"""What a pod says of its index (``GET …/state``), and what the operator sets on it (``PUT …/configuration``)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from vectorindex.wire.base import WireModel
from vectorindex.wire.operations import OperationStatus, ParametersInForce


class MaintenanceReason(StrEnum):
    """Why an index needs a rebuild."""

    DELETED_RATIO = "DeletedRatio"
    DELTA_RATIO = "DeltaRatio"
    PARAMETERS_CHANGED = "ParametersChanged"


class PodIdentity(WireModel):
    """Who answers: the index, the UID of its VectorIndex, and the pod. Unset when run by hand."""

    namespace: str
    index: str
    uid: str
    pod: str


class Counts(WireModel):
    """``live``: items that a search can find; ``deleted``: tombstones still in a graph; ``delta``: live items outside
    the main segment."""

    live: int
    deleted: int
    delta: int


class Configuration(WireModel):
    """Kept on the volume; the last one wins, and a field that is unset stays as it was. ``desired_m`` and
    ``desired_ef_construction`` are what the next rebuild should use, compared with what is in force."""

    ef_search: int | None = Field(default=None, ge=1, le=10_000)
    deleted_percent: int | None = Field(default=None, ge=1, le=100)
    delta_percent: int | None = Field(default=None, ge=1, le=100)
    min_items: int | None = Field(default=None, ge=0)
    threads: int | None = Field(default=None, ge=1, le=256)
    desired_m: int | None = Field(default=None, ge=2, le=512)
    desired_ef_construction: int | None = Field(default=None, ge=1, le=10_000)


class IndexState(WireModel):
    """One pod's index. ``sequence`` grows by one with every acknowledged write; ``volume_id`` names the volume and
    ``boot_id`` the process; a result counts only for the volume that gave it. ``segments``: graphs that a search asks;
    ``tail``: items that are in none of them yet."""

    volume_id: str
    boot_id: str
    identity: PodIdentity | None = None
    index_name: str
    dimensions: int
    metric: str
    sequence: int
    counts: Counts
    segments: int = 0
    tail: int = 0
    bytes: int
    parameters: ParametersInForce
    configuration: Configuration = Configuration()
    needs_rebuild: bool = False
    reasons: tuple[MaintenanceReason, ...] = ()
    read_only: str | None = None
    operations: tuple[OperationStatus, ...] = ()
