"""The operations API: named by the caller, durable, idempotent.

``PUT …/operations/{id}`` with the same body any number of times is one operation. Bodies are compared by
:func:`request_digest`, never by their bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field

from vectorindex.wire.base import WireModel
from vectorindex.wire.identity import GraphParameters


class OperationKind(StrEnum):
    """``FINALIZE`` is never sent: the sidecar lists so the end of an application's ingest session."""

    DELETE = "Delete"
    REBUILD = "Rebuild"
    OPTIMIZE = "Optimize"
    FINALIZE = "Finalize"


class OperationState(StrEnum):
    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def finished(self) -> bool:
        return self in (OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED)


class FailureReason(StrEnum):
    """Why an operation failed; the operator shows it as the reason of the condition."""

    RECALL_REGRESSED = "RecallRegressed"
    INVALID_REQUEST = "InvalidRequest"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INSUFFICIENT_STORAGE = "InsufficientStorage"
    INDEX_CORRUPT = "IndexCorrupt"
    BUILD_FAILED = "BuildFailed"
    RESTART_LIMIT_EXCEEDED = "RestartLimitExceeded"
    DELETE_LIMIT_EXCEEDED = "DeleteLimitExceeded"
    OPERATION_ID_CONFLICT = "OperationIDConflict"


ALREADY_APPLIED = "AlreadyApplied"
"""The reason of an operation that succeeded because one of the same ``operationID`` had: nothing was changed, and the
result is that one's."""


class ObjectReference(WireModel):
    """The Kubernetes object that an operation is run for."""

    name: str
    uid: str


class DeleteRequest(WireModel):
    """``max_delete_percent`` of the live items may go; where it would be more, the delete fails and nothing goes."""

    external_ids: tuple[str, ...] = Field(min_length=1)
    max_delete_percent: int | None = Field(default=None, ge=0, le=100)


class Verification(WireModel):
    """How a new graph is judged before it serves: recall@``k`` on ``samples`` queries. ``min_recall_percent`` unset:
    measured, never refused."""

    samples: int = Field(default=200, ge=1, le=10_000)
    k: int = Field(default=10, ge=1, le=1_000)
    min_recall_percent: int | None = Field(default=None, ge=0, le=100)


class RebuildRequest(WireModel):
    """The new graph has the parameters that ``params`` sets; what that leaves unset as ``index_params`` sets it, which
    is what the index asks of every rebuild; and the rest stays as it is. ``index_params`` is not compared: the same
    object is no other request because its index was changed."""

    params: GraphParameters = GraphParameters()
    index_params: GraphParameters = GraphParameters()
    verify: Verification = Verification()


class OptimizeRequest(WireModel):
    """The graphs keep their parameters, so there is nothing to ask for but how they are judged."""

    verify: Verification = Verification()


class _Body(WireModel):
    """``operation_id`` names what is done beyond the life of the object: what succeeded once under it on a volume is
    not done again there, and is no name for anything else."""

    operation_id: str | None = Field(
        default=None, alias="operationID", min_length=1, max_length=128, pattern="^[-._:/@A-Za-z0-9]+$"
    )
    object: ObjectReference


class DeleteBody(_Body):
    kind: Literal[OperationKind.DELETE] = OperationKind.DELETE
    request: DeleteRequest


class RebuildBody(_Body):
    kind: Literal[OperationKind.REBUILD] = OperationKind.REBUILD
    request: RebuildRequest = RebuildRequest()


class OptimizeBody(_Body):
    kind: Literal[OperationKind.OPTIMIZE] = OperationKind.OPTIMIZE
    request: OptimizeRequest = OptimizeRequest()


BuildBody = RebuildBody | OptimizeBody
OperationBody = DeleteBody | BuildBody


class DeleteResult(WireModel):
    """Counts over the distinct IDs of the request. ``bitmap``: base64 of one bit for each distinct ID in order of
    first appearance, least significant bit first, 1 where the ID was deleted; so the counts of pods that differ can be
    united."""

    deleted: int
    not_found: int
    bitmap: str


class DeletePreview(WireModel):
    """What a delete would do: ``deleted`` of ``live`` items would go; ``bitmap`` as in :class:`DeleteResult`. Nothing
    is recorded, and another write may come before the delete."""

    volume_id: str
    live: int
    deleted: int
    bitmap: str


class BeforeAfter(WireModel):
    before: int
    after: int


class Recall(WireModel):
    """recall@k against exact search, 0..1, through the old and the new graph with the same ``n`` queries. ``kind``:
    RecentQueries, a sample of those that were searched, or where there were too few MovedItems, made from the items."""

    before: float
    after: float
    n: int
    k: int
    kind: str


class Computations(WireModel):
    """Distances that a query computes on average, in the old and the new graphs, with the same queries."""

    before: float
    after: float


class ParametersInForce(WireModel):
    m: int = Field(alias="M")
    ef_construction: int
    ef_search: int
    rng_seed: int


class GraphResult(WireModel):
    """What a rebuild or an optimize did. ``vectors``: live items; ``bytes``: the files of the index; ``links_repaired``
    were put across the gaps of deleted items, or to make items reachable; ``seconds``: by phase, with ``threads`` at
    work. ``recall`` and ``computations`` are None when there was nothing to measure them on, or nothing has changed.
    ``erased_before``: of items that were deleted or replaced before it no byte is left in any file of the index; None,
    and then ``erasure_blocked`` says why, when that could not be said at the end."""

    vectors: BeforeAfter
    bytes: BeforeAfter
    recall: Recall | None = None
    computations: Computations | None = None
    links_repaired: int = 0
    unreachable: BeforeAfter
    parameters: ParametersInForce
    seconds: dict[str, float] = Field(default_factory=dict)
    threads: int = 1
    erased_before: AwareDatetime | None = None
    erasure_blocked: str | None = None


class OperationStatus(WireModel):
    """An operation as the sidecar answers it. ``kind`` is None for one that was cancelled before it arrived;
    ``progress`` is in percent; ``remaining_seconds``: about how long it still runs, None while that is unknown;
    ``restarts`` counts how often the sidecar took it up again after its own restart."""

    id: str
    kind: OperationKind | None = None
    state: OperationState
    reason: str = ""
    message: str = ""
    progress: int = Field(default=0, ge=0, le=100)
    remaining_seconds: int | None = None
    restarts: int = 0
    volume_id: str
    object: ObjectReference | None = None
    result: DeleteResult | GraphResult | None = None


class OperationList(WireModel):
    volume_id: str
    operations: tuple[OperationStatus, ...] = ()


def distinct(ids: Iterable[str]) -> tuple[str, ...]:
    """Each ID once, in order of first appearance."""
    return tuple(dict.fromkeys(ids))


def request_digest(body: OperationBody) -> str:
    """SHA-256 (hex) of the request as compact UTF-8 JSON with sorted keys, without defaults and ``index_params``, and
    with each ID once."""
    request = body.request
    if isinstance(request, DeleteRequest):
        request = request.model_copy(update={"external_ids": distinct(request.external_ids)})
    asked = request.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"index_params"})
    content = {"kind": body.kind, "request": asked}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pack_bitmap(found: Iterable[bool]) -> str:
    """The wire form of one bit per distinct ID, see :class:`DeleteResult`."""
    data = bytearray()
    for position, bit in enumerate(found):
        if position % 8 == 0:
            data.append(0)
        if bit:
            data[-1] |= 1 << position % 8
    return base64.b64encode(bytes(data)).decode()


def unpack_bitmap(bitmap: str, count: int) -> list[bool]:
    """The inverse of :func:`pack_bitmap` for ``count`` IDs. Raises ValueError if the bitmap is not of that length."""
    data = base64.b64decode(bitmap, validate=True)
    if len(data) != (count + 7) // 8:
        raise ValueError(f"a bitmap of {len(data)} bytes does not describe {count} IDs")
    return [bool(data[position // 8] >> position % 8 & 1) for position in range(count)]
