"""What a pod says of its index (``GET …/state``), and what the operator sets on it (``PUT …/configuration``)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

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
    """One pod's index. ``sequence`` grows with every acknowledged write; ``volume_id`` names the volume and
    ``boot_id`` the process; a result counts only for the volume that gave it. ``erased_before``: the seal of the last
    rebuild or optimize; of items that were deleted or replaced before it no byte is left in any file of the index, its
    snapshots on the volume included. None while ``erasure_blocked`` says what stands against it, or when neither has
    run."""

    volume_id: str
    boot_id: str
    identity: PodIdentity | None = None
    index_name: str
    dimensions: int
    metric: str
    sequence: int
    counts: Counts
    bytes: int
    erased_before: AwareDatetime | None = None
    erasure_blocked: str | None = None
    parameters: ParametersInForce
    configuration: Configuration = Configuration()
    needs_rebuild: bool = False
    reasons: tuple[MaintenanceReason, ...] = ()
    read_only: str | None = None
    operations: tuple[OperationStatus, ...] = ()
