"""Between the engine's types and those of the wire."""

from __future__ import annotations

from datetime import UTC, datetime

from vectorindex.engine import ledger
from vectorindex.engine.ledger import OperationRecord
from vectorindex.engine.params import Parameters
from vectorindex.engine.policy import DesiredParameters, Thresholds
from vectorindex.wire.identity import GraphParameters
from vectorindex.wire.operations import (
    DeleteResult,
    GraphResult,
    ObjectReference,
    OperationKind,
    OperationState,
    OperationStatus,
    ParametersInForce,
)
from vectorindex.wire.state import Configuration

_RESULTS: dict[OperationKind, type[DeleteResult] | type[GraphResult]] = {
    OperationKind.DELETE: DeleteResult,
    OperationKind.REBUILD: GraphResult,
    OperationKind.OPTIMIZE: GraphResult,
}


def parameters_in_force(parameters: Parameters) -> ParametersInForce:
    return ParametersInForce(
        m=parameters.m,
        ef_construction=parameters.ef_construction,
        ef_search=parameters.ef_search,
        rng_seed=parameters.seed,
    )


def changed(parameters: Parameters, changes: GraphParameters) -> Parameters:
    """``parameters`` with what ``changes`` sets."""

    def pick(new: int | None, old: int) -> int:
        return old if new is None else new

    return Parameters(
        m=pick(changes.m, parameters.m),
        ef_construction=pick(changes.ef_construction, parameters.ef_construction),
        ef_search=pick(changes.ef_search, parameters.ef_search),
        seed=pick(changes.rng_seed, parameters.seed),
    )


def thresholds(configuration: Configuration, delta_ratio: float) -> Thresholds:
    """Those of the configuration; where it is silent, the defaults and the ``delta_ratio`` of the index's creation."""
    defaults = Thresholds(delta_percent=round(100 * delta_ratio))
    return Thresholds(
        deleted_percent=configuration.deleted_percent or defaults.deleted_percent,
        delta_percent=configuration.delta_percent or defaults.delta_percent,
        min_items=defaults.min_items if configuration.min_items is None else configuration.min_items,
    )


def desired(configuration: Configuration) -> DesiredParameters:
    return DesiredParameters(m=configuration.desired_m, ef_construction=configuration.desired_ef_construction)


def moment(seconds: float) -> datetime:
    """A time in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def operation_status(
    record: OperationRecord, volume_id: str, progress: int | None = None, remaining: int | None = None
) -> OperationStatus:
    """A record of the ledger as the API answers it; ``progress`` of the running attempt, if there is one, and the
    seconds ``remaining`` of it, if they are known."""
    # What it replaced is still being erased: it has not ended for anybody who asks.
    swapped = record.state is ledger.OperationState.SWAPPED
    state = OperationState.RUNNING if swapped else OperationState(record.state)
    kind = OperationKind(record.kind) if record.kind else None
    reference = ObjectReference(name=record.object_name, uid=record.object_uid) if record.object_uid else None
    model = _RESULTS.get(kind) if kind is not None else None
    return OperationStatus(
        id=record.id,
        kind=kind,
        state=state,
        reason=record.reason,
        message=record.message,
        progress=record.progress if progress is None else progress,
        remaining_seconds=remaining,
        restarts=record.restarts,
        volume_id=volume_id,
        object=reference,
        result=model.model_validate(record.result) if model and record.result is not None and not swapped else None,
    )
