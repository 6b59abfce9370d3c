"""What the replies of pods mean, the same for all kinds of runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from vectorindex.api.common import PodResult, PodState
from vectorindex.api.reasons import Reason
from vectorindex.domain.members import Member, NoAnswer
from vectorindex.domain.run import End, Refused, Replies, Reply
from vectorindex.wire.operations import OperationState, OperationStatus

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
    )
}
"""The reasons of failed operations that conditions state as they are."""

Row = TypeVar("Row", bound=PodResult)


def trusted(members: Iterable[Member], replies: Replies) -> Replies:
    """The replies, less those of another volume than the one whose identity was looked at."""
    checked: dict[str, Reply] = dict(replies)
    for member in members:
        reply = checked.get(member.name)
        if isinstance(reply, OperationStatus) and reply.volume_id != member.volume:
            checked[member.name] = NoAnswer("was replaced meanwhile")
    return checked


def refusal(pod: str, reply: Reply | None, *, quote: bool) -> End | None:
    """The end that a reply means for the run, or None. ``quote``: the pod's own words may be shown."""
    match reply:
        case Refused(_, other=True):
            return End(Reason.REQUEST_CHANGED, f"pod {pod} has accepted another request of this run")
        case Refused(message):
            return End(Reason.OPERATION_FAILED, f"pod {pod} refuses the request{f': {message}' if quote else ''}")
        case OperationStatus(state=OperationState.FAILED):
            reason = FAILURES.get(reply.reason, Reason.OPERATION_FAILED)
            return End(reason, f"pod {pod}: {reply.message or reply.reason}")
        case OperationStatus(state=OperationState.CANCELLED):
            return End(Reason.CANCELLED, f"the operation was cancelled on pod {pod}")
        case _:
            return None


def silent_row(member: Member, before: Row, reply: Reply | None) -> Row:
    """The row of a pod that gave no figures: not called, refused, or no answer. What it has done stays."""
    if before.state is PodState.SUCCEEDED:
        return before
    match reply if reply is not None else member.answer:
        case NoAnswer(message):
            return before.model_copy(update={"state": PodState.UNREACHABLE, "message": message})
        case Refused(message):
            return before.model_copy(update={"state": PodState.FAILED, "message": "refused the request"})
        case _:
            return before


def gone(row: Row) -> Row:
    """The row of a pod that was removed for good."""
    if row.state is PodState.SUCCEEDED:
        return row
    return row.model_copy(update={"state": PodState.GONE, "message": "removed: the index has fewer replicas now"})
