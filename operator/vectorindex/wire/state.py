"""What a pod says of its index (``GET …/state``), and what the operator sets on it (``PUT …/configuration``)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from vectorindex.wire.base import WireModel
from vectorindex.wire.identity import GraphParameters
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
    """Kept on the volume; the last one wins as a whole, so that what it leaves unset is unset. Then ``ef_search`` stays
    as it is in force, and for the rest the pod's own defaults count. ``desired_m`` and ``desired_ef_construction`` are
    what the next rebuild should use, compared with what is in force. ``serve``: whether the pod may be ready; unset on
    a volume that nobody has said it of, where a pod of a VectorIndex waits, and one that is run by hand serves."""

    ef_search: int | None = Field(default=None, ge=1, le=10_000)
    deleted_percent: int | None = Field(default=None, ge=1, le=100)
    delta_percent: int | None = Field(default=None, ge=1, le=100)
    min_items: int | None = Field(default=None, ge=0)
    threads: int | None = Field(default=None, ge=1, le=256)
    desired_m: int | None = Field(default=None, ge=2, le=512)
    desired_ef_construction: int | None = Field(default=None, ge=1, le=10_000)
    serve: bool | None = None


class MaintenanceFigures(WireModel):
    """What the need of a rebuild is judged by. ``deleted_percent``: of all ``stored`` items; ``delta_percent``: of the
    live ones. Each counts from its limit on, where there are at least ``min_items`` such items. ``wanted``: what the
    next rebuild should use, None where nothing is asked for; what is in force stands in the state."""

    stored: int
    deleted_percent: float
    deleted_limit_percent: int
    delta_percent: float
    delta_limit_percent: int
    min_items: int
    wanted: GraphParameters = GraphParameters()


class Estimate(WireModel):
    """What a run would take now, to two digits. ``memory_bytes``: at its peak, beside what is in use; ``disk_bytes``:
    of free space, for new files beside the old. ``measured``: the seconds are by the last run of its kind on this
    volume, otherwise by a model."""

    seconds: int
    memory_bytes: int
    disk_bytes: int
    measured: bool


class Estimates(WireModel):
    rebuild: Estimate
    optimize: Estimate


class IndexState(WireModel):
    """One pod's index. ``sequence`` grows by one with every acknowledged write; ``digest`` of the live items as of it,
    16 hexadecimal digits, is the same on every pod that holds the same IDs with the same vectors, whatever their order.
    ``volume_id`` names the volume and ``boot_id`` the process; a result counts only for the volume that gave it.
    ``segments``: graphs that a search asks;
    ``tail``: items that are in none of them yet. ``erased_before``: the seal of the last rebuild or optimize; of items
    that were deleted or replaced before it no byte is left in any file of the index, its snapshots on the volume
    included. None while ``erasure_blocked`` says what stands against it, or when neither has run."""

    volume_id: str
    boot_id: str
    identity: PodIdentity | None = None
    index_name: str
    dimensions: int
    metric: str
    sequence: int
    digest: str
    counts: Counts
    segments: int = 0
    tail: int = 0
    bytes: int
    erased_before: AwareDatetime | None = None
    erasure_blocked: str | None = None
    parameters: ParametersInForce
    configuration: Configuration = Configuration()
    needs_rebuild: bool = False
    reasons: tuple[MaintenanceReason, ...] = ()
    figures: MaintenanceFigures | None = None
    estimates: Estimates | None = None
    read_only: str | None = None
    operations: tuple[OperationStatus, ...] = ()
