"""What the replies of pods mean, the same for all kinds of runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from vectorindex.api.common import PodResult, PodState
from vectorindex.api.reasons import Reason
from vectorindex.domain.members import KeyPending, Member, NoAnswer
from vectorindex.domain.run import End, Refused, Replies, Reply, updated
from vectorindex.domain.verdicts import Verdict
from vectorindex.wire.operations import ALREADY_APPLIED, DeletePreview, OperationState, OperationStatus

POD_STATES = {
    OperationState.QUEUED: PodState.RUNNING,
    OperationState.RUNNING: PodState.RUNNING,
    OperationState.SUCCEEDED: PodState.SUCCEEDED,
    OperationState.FAILED: PodState.FAILED,
    OperationState.CANCELLED: PodState.CANCELLED,
}

FAILURES = {
    reason.value: reason
    for reason in (
        Reason.RECALL_REGRESSED,
        Reason.INVALID_REQUEST,
        Reason.INSUFFICIENT_MEMORY,
        Reason.INSUFFICIENT_STORAGE,
        Reason.INDEX_CORRUPT,
        Reason.BUILD_FAILED,
        Reason.RESTART_LIMIT_EXCEEDED,
        Reason.DELETE_LIMIT_EXCEEDED,
        Reason.OPERATION_ID_CONFLICT,
    )
}
"""The reasons of failed operations that conditions state as they are."""
_REASONS = {reason.value: reason for reason in Reason}

Row = TypeVar("Row", bound=PodResult)


def trusted(members: Iterable[Member], replies: Replies) -> Replies:
    """The replies, less those of another volume than the one whose identity was looked at."""
    checked: dict[str, Reply] = dict(replies)
    for member in members:
        reply = checked.get(member.name)
        if isinstance(reply, OperationStatus | DeletePreview) and reply.volume_id != member.volume:
            checked[member.name] = NoAnswer("was replaced meanwhile")
    return checked


def failure_reason(reply: OperationStatus) -> Reason:
    """The reason of a failed operation. A newer sidecar may have others."""
    return FAILURES.get(reply.reason, Reason.OPERATION_FAILED)


def success_reason(reply: OperationStatus) -> str | None:
    """What a row says beside that the pod has done its part."""
    return Reason.ALREADY_APPLIED.value if reply.reason == ALREADY_APPLIED else None


def already_applied(rows: Iterable[PodResult]) -> bool:
    """Every pod that takes part had done it before."""
    taking_part = [row for row in rows if row.state is not PodState.GONE]
    return bool(taking_part) and all(row.reason == Reason.ALREADY_APPLIED for row in taking_part)


def completed(rows: Iterable[PodResult], operation_id: str | None, message: str) -> End:
    """The end of a run that every pod has done, or had done before."""
    if not already_applied(rows):
        return End(Reason.COMPLETED, message, succeeded=True)
    before = f"operationID {operation_id} was applied before on every pod, and nothing was changed"
    return End(Reason.ALREADY_APPLIED, f"{before}; then: {message}", succeeded=True)


def failed_row(row: Row, reply: OperationStatus) -> Row:
    """The row of a pod whose operation failed."""
    return updated(row, reason=failure_reason(reply).value, message=reply.message or reply.reason)


def refused_row(before: Row, reply: Refused, *, quote: bool) -> Row:
    """The row of a pod that takes no such operation; it is not asked again. ``quote``: the pod's own words may be
    shown."""
    if reply.other:
        reason, message = Reason.REQUEST_CHANGED, "it has accepted another request of this run"
    else:
        reason = Reason.OPERATION_FAILED
        message = f"it refuses the request{f': {reply.message}' if quote else ''}"
    return updated(before, state=PodState.FAILED, reason=reason.value, message=message)


def silent_row(member: Member, before: Row, reply: Reply | None) -> Row:
    """The row of a pod that was not called, or gave no answer. What it has done stays, and what was cancelled, since
    that is why the run stops."""
    answer = reply if reply is not None else member.answer
    if before.state in (PodState.SUCCEEDED, PodState.CANCELLED) or not isinstance(answer, NoAnswer):
        return before
    reason = Reason.KEY_PENDING if isinstance(answer, KeyPending) else None
    return updated(before, state=PodState.UNREACHABLE, reason=reason, message=answer.message)


def failure(row: PodResult) -> Verdict | None:
    """Why this pod ends the run, None if it has not failed."""
    if row.state is not PodState.FAILED:
        return None
    return Verdict(_REASONS.get(row.reason or "", Reason.OPERATION_FAILED), f"pod {row.name}: {row.message}")


def gone(row: Row) -> Row:
    """The row of a pod that was removed for good: its ordinal is none of the index's any more, or there was no such pod
    for a minute."""
    if row.state is PodState.SUCCEEDED:
        return row
    message = "the index has fewer replicas now" if row.missing_time is None else "there was no such pod for a minute"
    return row.model_copy(update={"state": PodState.GONE, "message": f"removed: {message}"})
