"""Stopping a run: whatever has not been done by now is not done, and the status says who has done what.

Pods are told, since a start may still be on its way to them, and since only they know what they have done. A run that
is stopped waits only some seconds for a pod that should answer and does not, and not at all for one that is down: what
runs there is found by the sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from vectorindex.api.common import PodResult, PodState
from vectorindex.api.reasons import ConditionType, Reason
from vectorindex.domain.missing import until_gone
from vectorindex.domain.pacing import passed
from vectorindex.domain.run import Call, End, Frame, Next, Replies, Verb, Work, ended, waiting
from vectorindex.domain.verdicts import Verdict, counted, enumerate_names
from vectorindex.wire.operations import OperationStatus

POLL = 1.0
"""Seconds until a pod that is about to cancel is asked again."""
PATIENCE = timedelta(seconds=5)
"""How long a pod is waited for whose container runs and which does not answer."""


def cancelled_at_once(frame: Frame) -> End | None:
    """The end of a run that is cancelled before it has begun."""
    if cancel_asked(frame) is not None and frame.run.status.start_time is None:
        return End(Reason.CANCELLED, "cancelled before any pod was called")
    return None


def cancel_asked(frame: Frame) -> Verdict | None:
    """An object that is being deleted, and that a finalizer of somebody's keeps, asks for it too."""
    if frame.run.spec.cancel:
        return Verdict(Reason.CANCELLED, "cancelled")
    if frame.run.metadata.deletion_timestamp is not None:
        return Verdict(Reason.CANCELLED, "cancelled, since the object is being deleted")
    return None


def cancelled_by_somebody(frame: Frame) -> Verdict | None:
    """An operation was cancelled, as far as the status says. To be looked at last: what the run itself cancelled, for
    another reason, is found so too."""
    return cancelled_on(frame.run.status.pods)


def cancelled_on(rows: Iterable[PodResult]) -> Verdict | None:
    pods = [row.name for row in rows if row.state is PodState.CANCELLED]
    return Verdict(Reason.CANCELLED, f"the operation was cancelled on pod {enumerate_names(pods)}") if pods else None


def past_deadline(frame: Frame) -> Verdict | None:
    left = until_deadline(frame)
    if left is None or left > timedelta(0):
        return None
    seconds = frame.run.spec.active_deadline_seconds or 0
    return Verdict(
        Reason.DEADLINE_EXCEEDED, f"not done within {counted(seconds, 'second')} (spec.activeDeadlineSeconds)"
    )


def until_deadline(frame: Frame) -> timedelta | None:
    """What is left of the time that a run has; None while that does not count, or if it has no limit."""
    began, seconds = frame.run.status.start_time, frame.run.spec.active_deadline_seconds
    if began is None or seconds is None:
        return None
    return began + timedelta(seconds=seconds) - frame.now


def look_in_time(frame: Frame, again: float | None) -> float | None:
    """``again``, or less, so that neither the deadline is missed nor that a pod is gone."""
    if again is None:
        return None
    deadline = until_deadline(frame)
    others = (until_gone(frame.members, frame.now), None if deadline is None else deadline.total_seconds())
    return min([again, *(other for other in others if other is not None and other > 0)])


Operations = Mapping[str, str]
"""Operations that are to be stopped, by pod."""


def stop_work(frame: Frame, operations: Operations) -> Work:
    """Cancel them on every pod that answers. What a pod has done it keeps, and says so again."""
    return Work(
        tuple(
            Call(member.endpoint, Verb.CANCEL, operations[member.name])
            for member in frame.members
            if member.endpoint is not None and member.name in operations
        )
    )


def stopped(frame: Frame, operations: Operations, rows: Iterable[PodResult], replies: Replies, why: Verdict) -> Next:
    """What has come of :func:`stop_work`. ``rows``: by the replies."""
    busy = [pod for pod, reply in replies.items() if isinstance(reply, OperationStatus) and not reply.state.finished]
    silent = [
        member.name
        for member in frame.members
        if member.name in operations
        and member.pod is not None
        and member.pod.endpoint is not None
        and not isinstance(replies.get(member.name), OperationStatus)
    ]
    if busy or (silent and _is_patient(frame)):
        message = f"{why.message}; waiting until it is cancelled on {enumerate_names((*busy, *silent))}"
        return waiting(Verdict(Reason.STOPPING, message), POLL)
    rows = tuple(rows)
    done = [row.name for row in rows if row.state is PodState.SUCCEEDED]
    silent = [row.name for row in rows if row.state is PodState.UNREACHABLE]
    other = [row.name for row in rows if row.state not in (PodState.SUCCEEDED, PodState.UNREACHABLE)]
    parts = [why.message]
    parts += [f"done on {enumerate_names(done)}"] if done else []
    parts += [f"not done on {enumerate_names(other)}"] if other else []
    parts += [f"no answer from {enumerate_names(silent)}: what runs there is cancelled later"] if silent else []
    return ended(End(why.reason, "; ".join(parts)))


def _is_patient(frame: Frame) -> bool:
    """The run has been stopping only since a moment: its status says nothing else for long."""
    standing = frame.run.status.condition(ConditionType.SUCCEEDED)
    if standing is None or standing.reason != Reason.STOPPING or frame.last_write is None:
        return True
    return passed(frame.last_write, frame.now) < PATIENCE
