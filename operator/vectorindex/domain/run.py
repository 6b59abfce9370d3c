"""What all runs have in common: how they wait, start, call pods, and end.

A run goes: wait for what is missing → begin (a status that says so, before the first call) → work (calls of pods, which
may be repeated) → end. Each reconcile takes one such step from a fresh snapshot; a delete begins and works in one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Generic, TypeVar

from vectorindex.api import IndexDelete, IndexOptimize, IndexRebuild, VectorIndex
from vectorindex.api.common import ConditionStatus, RunStatus
from vectorindex.api.model import ApiModel
from vectorindex.api.reasons import ConditionType, Reason
from vectorindex.domain.conditions import FALSE, TRUE, UNKNOWN, build_conditions, run_facts
from vectorindex.domain.members import Member, NoAnswer
from vectorindex.domain.verdicts import Verdict
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.operations import DeletePreview, OperationBody, OperationStatus

GRACE = timedelta(seconds=60)
"""How long an index or a ConfigMap may be missing after the first status that said so."""
LOOK_AGAIN = 5.0
"""Seconds at most until something that is missing is looked for again."""
POLL_SHORTEST, POLL_LONGEST = 1.0, 15.0
"""Seconds until what did not answer, or was missing, is tried again: more, the longer nothing has changed."""


BuildRun = IndexRebuild | IndexOptimize
Run = IndexDelete | BuildRun


@dataclass(frozen=True)
class Frame:
    """The part of a snapshot that is the same for all kinds."""

    now: datetime
    """Whole seconds, as the API keeps times."""
    run: Run
    index: VectorIndex | None
    """None: there is none, by a GET."""
    members: tuple[Member, ...]
    """The pods of the index, and those that the run has listed and that are missing only since a moment; none while
    the index is not there, or no pod has a say."""
    last_write: datetime | None
    """When the status was last written."""

    @property
    def index_is_there(self) -> bool:
        """The index exists, and it is the one that the run began with."""
        return self.index is not None and self.run.status.index_uid in (None, self.index.metadata.uid)


@dataclass(frozen=True)
class End(Verdict):
    """The run ends now."""

    succeeded: bool = False


@dataclass(frozen=True)
class Wait(Verdict):
    """The run waits; ``again``: seconds until it is looked at again, if nothing happens before."""

    again: float = LOOK_AGAIN


@dataclass(frozen=True)
class Begin:
    """Everything that is needed is there: write what the run is about to do, then come back."""


class Verb(Enum):
    START = "start"
    LOOK = "look"
    """As START, but ask first: the pod has it already, as far as the status knows."""
    CANCEL = "cancel"
    PREVIEW = "preview"
    """What a delete would do; changes nothing."""


@dataclass(frozen=True)
class Call:
    """One call of a pod. ``body`` is None only where the verb is CANCEL."""

    endpoint: Endpoint
    verb: Verb
    operation: str
    body: OperationBody | None = None

    @property
    def pod(self) -> str:
        return self.endpoint.pod


@dataclass(frozen=True)
class Work:
    """Call these pods, all at once."""

    calls: tuple[Call, ...]


Decision = End | Wait | Begin | Work


@dataclass(frozen=True)
class Refused:
    """The pod refuses the operation as it is. ``other``: it has one of that name, with another request."""

    message: str
    other: bool = False


Reply = OperationStatus | DeletePreview | Refused | NoAnswer
Replies = Mapping[str, Reply]
"""What each pod that was called said, by its name."""


@dataclass(frozen=True)
class Next:
    """What a run's condition says next, and when to look again: None after its end."""

    succeeded: ConditionStatus
    reason: Reason
    message: str
    again: float | None


def ended(end: End) -> Next:
    return Next(TRUE if end.succeeded else FALSE, end.reason, end.message, None)


def waiting(verdict: Verdict, again: float) -> Next:
    return Next(UNKNOWN, verdict.reason, verdict.message, again)


AnyStatus = TypeVar("AnyStatus", bound=RunStatus)
Model = TypeVar("Model", bound=ApiModel)


@dataclass(frozen=True)
class RunSummary(Generic[AnyStatus]):
    """The status after this step, and the seconds until the next one: None when there is none."""

    status: AnyStatus
    again: float | None


def updated(model: Model, **changes: object) -> Model:
    """The model with other values for some fields, validated as the API would."""
    return type(model).model_validate({**dict(model), **changes})


def next_fields(frame: Frame, step: Next) -> dict[str, object]:
    """The fields of the status that follow from the next step, the same for all kinds."""
    generation = frame.run.metadata.generation
    status = frame.run.status
    facts = run_facts(step.succeeded, step.reason, step.message)
    return {
        "observed_generation": generation,
        "conditions": build_conditions(status, generation, frame.now, facts),
        "completion_time": None if step.succeeded is UNKNOWN else frame.now,
        "index_uid": status.index_uid or (frame.index.metadata.uid if frame.index is not None else None),
    }


def unreadable(generation: int, now: datetime, problem: str) -> RunStatus:
    """The status of a run that cannot be read: it has failed."""
    message = f"the operator cannot read this object: {problem}; create a new one"
    facts = run_facts(FALSE, Reason.INVALID_REQUEST, message)
    conditions = build_conditions(RunStatus(), generation, now, facts)
    return RunStatus(observed_generation=generation, conditions=conditions, completion_time=now)


def settled_fields(run: Run) -> dict[str, object]:
    """The fields of the status of a run that has ended: nothing but the generation changes any more."""
    generation = run.metadata.generation
    conditions = tuple(
        condition.model_copy(update={"observed_generation": generation}) for condition in run.status.conditions
    )
    return {"observed_generation": generation, "conditions": conditions}


def time_to_live(run: Run, now: datetime) -> float | None:
    """Seconds until the object of a run that has ended is to be deleted, 0 from then on; None: it stays."""
    ended, ttl = run.status.completion_time, run.spec.ttl_seconds_after_finished
    if ended is None or ttl is None:
        return None
    return max(0.0, (ended + timedelta(seconds=ttl) - now).total_seconds())


def index_trouble(frame: Frame) -> End | Wait | None:
    """The index is missing, or not the one that the run began with."""
    name, seen = frame.run.spec.index_ref.name, frame.run.status.index_uid
    if frame.index is None:
        if seen is not None:
            return End(Reason.INDEX_DELETED, f"VectorIndex {name} was deleted")
        missing = Verdict(Reason.INDEX_NOT_FOUND, f"VectorIndex {name} does not exist")
        return wait_or_end(frame, missing, Reason.INDEX_NOT_FOUND)
    if seen is not None and seen != frame.index.metadata.uid:
        message = f"VectorIndex {name} was deleted and created again (its UID was {seen})"
        return End(Reason.INDEX_DELETED, message)
    return None


def wait_or_end(frame: Frame, missing: Verdict, reason: Reason) -> End | Wait:
    """Wait for what is missing, but no longer than the grace after the first status; then fail with ``reason``."""
    left = GRACE - (frame.now - (first_status(frame.run.status) or frame.now))
    if left <= timedelta(0):
        waited = f"{missing.message}, and did not appear within {round(GRACE.total_seconds())} s"
        return End(reason, f"{waited}: create it, then a new {frame.run.definition.kind}")
    again = min(LOOK_AGAIN, retry_after(frame), left.total_seconds())
    return Wait(missing.reason, f"{missing.message}; waiting for it", again)


def first_status(status: RunStatus) -> datetime | None:
    """When the first status was written: Succeeded has been Unknown since then."""
    condition = status.condition(ConditionType.SUCCEEDED)
    return condition.last_transition_time if condition is not None and condition.status is UNKNOWN else None


def retry_after(frame: Frame) -> float:
    """Seconds until what did not answer, or was missing, is tried again."""
    quiet = (frame.now - (frame.last_write or frame.now)).total_seconds()
    return min(POLL_LONGEST, max(POLL_SHORTEST, quiet / 4))
