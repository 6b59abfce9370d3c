"""The simulated sidecars and their clock: what is on a volume survives, and every operation is done once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from vectorindex.dataplane import errors as dataplane
from vectorindex.wire.operations import (
    ALREADY_APPLIED,
    BeforeAfter,
    Computations,
    DeleteBody,
    DeletePreview,
    DeleteRequest,
    DeleteResult,
    FailureReason,
    GraphResult,
    OperationBody,
    OperationKind,
    OperationState,
    OperationStatus,
    ParametersInForce,
    RebuildBody,
    Recall,
    pack_bitmap,
    request_digest,
)
from vectorindex.wire.state import Configuration, Counts, IndexState, PodIdentity

NAMESPACE = "default"
INDEX = "vi"
BUILD_SECONDS = 0.5
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Clock:
    seconds: float = 0.0

    def now(self) -> datetime:
        return (START + timedelta(seconds=self.seconds)).replace(microsecond=0)

    def monotonic(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Failing:
    """The first ``attempts`` of each build fail on a pod, ``after`` so many seconds."""

    attempts: int
    reason: FailureReason = FailureReason.BUILD_FAILED
    after: float = 0.3


def _digest(items: set[str]) -> str:
    """As a sidecar's: the same for the same items."""
    return sha256("\n".join(sorted(items)).encode()).hexdigest()[:16]


class Sidecar:
    """One pod's sidecar: what is on its volume survives; ``down`` says when it does not answer. One with items has
    served before. ``taken_out``: it was told not to serve although it did."""

    def __init__(
        self, pod: str, clock: Clock, items: set[str], down: Callable[[float], bool], failing: Failing | None = None
    ) -> None:
        self.pod, self.items = pod, set(items)
        self.index = pod.rpartition("-")[0]
        self.executed: Counter[str] = Counter()
        self.epoch = 0
        self.parameters = ParametersInForce(m=16, ef_construction=200, ef_search=64, rng_seed=0)
        self.ledger: dict[str, OperationStatus] = {}
        self._digests: dict[str, str] = {}
        self._bodies: dict[str, tuple[OperationBody, float]] = {}
        self._applied: dict[str, tuple[str, DeleteResult | GraphResult]] = {}
        self._clock, self._down, self._failing = clock, down, failing
        self.build_seconds = BUILD_SECONDS
        self.scheduled = True
        self.there: Callable[[float], bool] = lambda _seconds: True
        """Its Pod exists."""
        self.refuses_key: Callable[[float], bool] = lambda _seconds: False
        self.configuration = Configuration(serve=True) if items else Configuration()
        self.taken_out = False
        self._volume = f"volume-{pod}"
        self._writes = 0

    @property
    def up(self) -> bool:
        return self.scheduled and self.exists and not self._down(self._clock.seconds)

    @property
    def exists(self) -> bool:
        return self.there(self._clock.seconds)

    @property
    def keyless(self) -> bool:
        """It does not know the operator's key now."""
        return self.refuses_key(self._clock.seconds)

    def state(self, uid: str) -> IndexState:
        return IndexState(
            volume_id=self._volume,
            boot_id="boot",
            identity=PodIdentity(namespace=NAMESPACE, index=self.index, uid=uid, pod=self.pod),
            index_name=self.index,
            dimensions=8,
            metric="L2",
            sequence=self._writes + sum(self.executed.values()),
            digest=_digest(self.items),
            counts=Counts(live=len(self.items), deleted=0, delta=0),
            bytes=100 * len(self.items),
            parameters=self.parameters,
            configuration=self.configuration,
            operations=tuple(each for each in map(self.look, self.ledger) if not each.state.finished),
        )

    def admit(self, epoch: int) -> None:
        """As the fence does; the epoch is on the volume."""
        if epoch < self.epoch:
            raise dataplane.FencedError("it is over", epoch, self.epoch)
        self.epoch = epoch

    def configure(self, configuration: Configuration) -> None:
        self.taken_out |= self.configuration.serve is True and configuration.serve is not True
        self.configuration = configuration

    def write(self, items: set[str]) -> None:
        """The application adds items."""
        self.items |= items
        self._writes += 1

    def replace_volume(self) -> None:
        """The pod comes back on an empty volume."""
        self.items, self.configuration = set(), Configuration()
        self._volume, self._writes = f"{self._volume}-new", 0
        self.executed.clear()
        self.ledger.clear()

    def start(self, identifier: str, body: OperationBody) -> OperationStatus:
        if identifier in self.ledger:
            known = self._digests.get(identifier)
            if known not in (None, request_digest(body)):
                raise dataplane.OtherRequestError("another request", 409)
            return self.look(identifier)
        digest = self._digests[identifier] = request_digest(body)
        if body.operation_id is not None and body.operation_id in self._applied:
            first, result = self._applied[body.operation_id]
            self.ledger[identifier] = OperationStatus(
                id=identifier,
                kind=body.kind,
                state=OperationState.SUCCEEDED if first == digest else OperationState.FAILED,
                reason=ALREADY_APPLIED if first == digest else FailureReason.OPERATION_ID_CONFLICT,
                volume_id=self._volume,
                progress=100,
                object=body.object,
                result=result if first == digest else None,
            )
            return self.ledger[identifier]
        self._bodies[identifier] = (body, self._clock.seconds)
        self.ledger[identifier] = OperationStatus(
            id=identifier,
            kind=body.kind,
            state=OperationState.RUNNING,
            volume_id=self._volume,
            object=body.object,
        )
        if isinstance(body, DeleteBody):
            found = [name in self.items for name in body.request.external_ids]
            limit = body.request.max_delete_percent
            if limit is not None and 100 * sum(found) > limit * len(self.items):
                failed = {"state": OperationState.FAILED, "reason": FailureReason.DELETE_LIMIT_EXCEEDED}
                self.ledger[identifier] = self.ledger[identifier].model_copy(update=failed)
                return self.ledger[identifier]
            self.items -= set(body.request.external_ids)
            result = DeleteResult(deleted=sum(found), not_found=len(found) - sum(found), bitmap=pack_bitmap(found))
            self._finish(identifier, result)
        return self.ledger[identifier]

    def preview(self, request: DeleteRequest) -> DeletePreview:
        found = [name in self.items for name in request.external_ids]
        return DeletePreview(
            volume_id=self._volume, live=len(self.items), deleted=sum(found), bitmap=pack_bitmap(found)
        )

    def look(self, identifier: str) -> OperationStatus:
        if identifier not in self.ledger:
            raise dataplane.NotFoundError(identifier)
        record = self.ledger[identifier]
        if record.state.finished:
            return record
        body, began = self._bodies[identifier]
        elapsed = self._clock.seconds - began
        if self._failing is not None and int(identifier.rpartition(".")[2]) <= self._failing.attempts:
            if elapsed >= self._failing.after:
                failed = {"state": OperationState.FAILED, "reason": self._failing.reason, "message": "it fails"}
                self.ledger[identifier] = record.model_copy(update=failed)
            return self.ledger[identifier]
        if elapsed < self.build_seconds:
            return record.model_copy(update={"progress": int(100 * elapsed / self.build_seconds)})
        assert not isinstance(body, DeleteBody)
        if isinstance(body, RebuildBody):
            for wanted in (body.request.index_params, body.request.params):
                self.parameters = self.parameters.model_copy(update=wanted.model_dump(exclude_none=True))
        size = 100 * len(self.items)
        result = GraphResult(
            vectors=BeforeAfter(before=len(self.items), after=len(self.items)),
            bytes=BeforeAfter(before=size + 50, after=size),
            recall=Recall(before=0.9, after=0.95, n=10, k=10, kind="live"),
            computations=Computations(before=900, after=700),
            links_repaired=7,
            unreachable=BeforeAfter(before=1, after=0),
            parameters=self.parameters,
            seconds={"build": self.build_seconds},
        )
        self._finish(identifier, result)
        return self.ledger[identifier]

    def cancel(self, identifier: str) -> OperationStatus:
        record = self.ledger.get(identifier) or OperationStatus(
            id=identifier, kind=None, state=OperationState.QUEUED, volume_id=self._volume
        )
        if not record.state.finished:
            record = record.model_copy(update={"state": OperationState.CANCELLED})
        self.ledger[identifier] = record
        return record

    def _finish(self, identifier: str, result: DeleteResult | GraphResult) -> None:
        done = {"state": OperationState.SUCCEEDED, "progress": 100, "result": result}
        self.ledger[identifier] = self.ledger[identifier].model_copy(update=done)
        self.executed[self.ledger[identifier].kind or OperationKind.DELETE] += 1
        if (name := self._bodies[identifier][0].operation_id) is not None:
            self._applied[name] = (self._digests[identifier], result)
