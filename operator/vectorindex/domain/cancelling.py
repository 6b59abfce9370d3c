"""Stopping a run: whatever has not been done by now is not done, and the status says who has done what.

Pods are told, since a start may still be on its way to them, and since only they know what they have done. A run that
is stopped never waits for a pod that does not answer: what runs there is found by the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vectorindex.api.common import PodResult, PodState
from vectorindex.api.reasons import Reason
from vectorindex.domain.run import Call, End, Frame, Next, Replies, Verb, Work, ended, waiting
from vectorindex.domain.verdicts import Verdict, enumerate_names
from vectorindex.wire.operations import OperationStatus

POLL = 1.0
"""Seconds until a pod that is about to cancel is asked again."""


def cancel_work(frame: Frame, rows: Iterable[PodResult], operation: Callable[[str], str]) -> End | Work | None:
    """What to do if the run is to be cancelled, otherwise None. ``operation``: the name of a pod's operation."""
    if not frame.run.spec.cancel:
        return None
    if frame.run.status.start_time is None:
        return End(Reason.CANCELLED, "cancelled before any pod was called")
    return stop_work(frame, rows, operation)


def stop_work(frame: Frame, rows: Iterable[PodResult], operation: Callable[[str], str]) -> Work:
    """Tell every pod that has not done its part. ``operation``: the name of a pod's operation."""
    done = {row.name for row in rows if row.state is PodState.SUCCEEDED}
    return Work(
        tuple(
            Call(member.name, member.address, Verb.CANCEL, operation(member.name))
            for member in frame.members
            if member.address is not None and member.name not in done
        )
    )


def cancelled(rows: Iterable[PodResult], replies: Replies) -> Next:
    """What has come of a cancelled run. ``rows``: by the replies."""
    return stopped(rows, replies, Verdict(Reason.CANCELLED, "cancelled"))


def stopped(rows: Iterable[PodResult], replies: Replies, why: Verdict) -> Next:
    """What has come of :func:`stop_work`. ``rows``: by the replies."""
    busy = [pod for pod, reply in replies.items() if isinstance(reply, OperationStatus) and not reply.state.finished]
    if busy:
        return waiting(Verdict(Reason.RUNNING, f"cancelling: {enumerate_names(busy)}"), POLL)
    rows = tuple(rows)
    done = [row.name for row in rows if row.state is PodState.SUCCEEDED]
    silent = [row.name for row in rows if row.state is PodState.UNREACHABLE]
    other = [row.name for row in rows if row.state not in (PodState.SUCCEEDED, PodState.UNREACHABLE)]
    parts = [why.message]
    parts += [f"done on {enumerate_names(done)}"] if done else []
    parts += [f"not done on {enumerate_names(other)}"] if other else []
    parts += [f"no answer from {enumerate_names(silent)}: what runs there is cancelled later"] if silent else []
    return ended(End(why.reason, "; ".join(parts)))
