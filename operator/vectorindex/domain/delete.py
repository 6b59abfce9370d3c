"""An IndexDelete: which pods to call, and what their answers come to.

Invariant: the run is done when every pod of the index confirmed it in the same reconcile. A pod that confirmed earlier
is asked again, and gives its first answer again: so the counts are those of distinct items over all pods, and need not
be kept anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vectorindex.api import IndexDelete
from vectorindex.api.common import PodState
from vectorindex.api.indexdelete import MAX_NOT_FOUND, DeletePodResult, IndexDeleteStatus
from vectorindex.api.reasons import Reason
from vectorindex.domain.ids import IDs, Missing
from vectorindex.domain.members import Member
from vectorindex.domain.replies import POD_STATES, gone, refusal, silent_row, trusted
from vectorindex.domain.run import (
    Begin,
    Call,
    Decision,
    End,
    Frame,
    Next,
    Replies,
    Reply,
    RunSummary,
    Verb,
    Wait,
    Work,
    ended,
    index_trouble,
    next_fields,
    retry_after,
    updated,
    wait_or_end,
    waiting,
)
from vectorindex.domain.stopping import (
    cancel_asked,
    cancelled_at_once,
    look_by_deadline,
    past_deadline,
    stop_work,
    stopped,
)
from vectorindex.domain.verdicts import Policy, Verdict, counted, enumerate_names, first_violation
from vectorindex.wire.operations import (
    DeleteBody,
    DeleteRequest,
    DeleteResult,
    ObjectReference,
    OperationState,
    OperationStatus,
    distinct,
    request_digest,
    unpack_bitmap,
)

POLL = 0.5
"""Seconds until a pod that is at work on a delete is asked again."""


@dataclass(frozen=True)
class Request:
    """What the pods are asked for, and its digest."""

    body: DeleteBody
    digest: str


def build_request(run: IndexDelete, ids: IDs) -> Request:
    reference = ObjectReference(name=run.metadata.name, uid=run.metadata.uid)
    body = DeleteBody(object=reference, request=DeleteRequest(external_ids=distinct(ids)))
    return Request(body, request_digest(body))


@dataclass(frozen=True)
class DeleteSnapshot(Frame):
    """All that is looked at. ``request``: what is to be deleted, or what is wrong with that."""

    run: IndexDelete
    request: Request | Verdict


def decide(snapshot: DeleteSnapshot) -> Decision:
    """The next step of a run that has not ended."""
    trouble: Decision | None = first_violation(TROUBLES, snapshot)
    if trouble is not None:
        return trouble
    assert isinstance(snapshot.request, Request)  # anything else is a trouble
    status = snapshot.run.status
    if status.request_digest is None:
        return Begin()
    confirmed = _succeeded(status.pods)
    return Work(
        tuple(
            Call(
                member.name,
                member.address,
                Verb.LOOK if member.name in confirmed else Verb.START,
                snapshot.run.metadata.uid,
                snapshot.request.body,
            )
            for member in snapshot.members
            if member.address is not None
        )
    )


def summarize(snapshot: DeleteSnapshot, decision: Decision, replies: Replies) -> RunSummary[IndexDeleteStatus]:
    """The status after the step that was decided on."""
    changes: dict[str, object] = {}
    match decision:
        case End():
            step = ended(decision)
        case Wait():
            step = waiting(decision, decision.again)
        case Begin():
            assert isinstance(snapshot.request, Request)
            calling = Verdict(Reason.RUNNING, f"calling {counted(len(snapshot.members), 'pod')}")
            step = waiting(calling, 0.0)
            changes = {
                "start_time": snapshot.now,
                "request_digest": snapshot.request.digest,
                "pods": _rows(snapshot, {}),
                "progress_percent": 0,
            }
        case Work():
            replies = trusted(snapshot.members, replies)
            rows = _rows(snapshot, replies)
            why = _why_to_stop(snapshot)
            done = not _has_changed(snapshot) and _all_confirmed(snapshot, replies)
            step = (
                _judge(snapshot, replies)
                if why is None or done
                else stopped(snapshot, _to_stop(snapshot), rows, replies, why)
            )
            asked = sum(row.state is not PodState.GONE for row in rows)
            changes = {"pods": rows, "progress_percent": 100 * len(_succeeded(rows)) // max(1, asked)}
            if step.again is None:
                changes |= _counts(snapshot, replies, complete=step.reason is Reason.COMPLETED)
    status = updated(snapshot.run.status, **next_fields(snapshot, step), **changes)
    return RunSummary(status, look_by_deadline(snapshot, step.again))


def _cancelled_at_once(snapshot: DeleteSnapshot) -> End | None:
    return cancelled_at_once(snapshot)


def _stop(snapshot: DeleteSnapshot) -> Work | None:
    return None if _why_to_stop(snapshot) is None else stop_work(snapshot, _to_stop(snapshot))


def _to_stop(snapshot: DeleteSnapshot) -> dict[str, str]:
    """The operations by pod, also of those that have deleted: they say so again, and are counted."""
    return {member.name: snapshot.run.metadata.uid for member in snapshot.members}


def _why_to_stop(snapshot: DeleteSnapshot) -> Verdict | None:
    return first_violation(WHY_TO_STOP, snapshot)


def _request_changed(snapshot: DeleteSnapshot) -> Verdict | None:
    return CHANGED if _has_changed(snapshot) else None


def _has_changed(snapshot: DeleteSnapshot) -> bool:
    """The request is not the one that the first pod was called with."""
    digest = snapshot.run.status.request_digest
    return digest is not None and not (isinstance(snapshot.request, Request) and snapshot.request.digest == digest)


CHANGED = Verdict(
    Reason.REQUEST_CHANGED,
    "the IDs changed after the run had begun: create a new IndexDelete for the IDs as they are now",
)


def _request(snapshot: DeleteSnapshot) -> End | Wait | None:
    match snapshot.request:
        case Missing():
            return wait_or_end(snapshot, snapshot.request, Reason.INVALID_REQUEST)
        case Verdict(reason, message):
            return End(reason, message)
        case _:
            return None


WHY_TO_STOP: tuple[Policy[DeleteSnapshot, Verdict | None], ...] = (cancel_asked, _request_changed, past_deadline)
TROUBLES: tuple[Policy[DeleteSnapshot, Decision | None], ...] = (_cancelled_at_once, _stop, index_trouble, _request)


def _all_confirmed(snapshot: DeleteSnapshot, replies: Replies) -> bool:
    answers = [replies.get(member.name) for member in snapshot.members]
    return bool(answers) and all(
        isinstance(answer, OperationStatus) and answer.state is OperationState.SUCCEEDED for answer in answers
    )


def _judge(snapshot: DeleteSnapshot, replies: Replies) -> Next:
    """What the answers of the pods mean for the run."""
    for member in snapshot.members:
        reply = replies.get(member.name)
        if (end := refusal(member.name, reply, quote=snapshot.run.spec.external_ids is not None)) is not None:
            return ended(end)
    answers = [replies.get(member.name) for member in snapshot.members]
    finished = [answer for answer in answers if isinstance(answer, OperationStatus) and answer.state.finished]
    so_far = f"{len(finished)} of {counted(len(answers), 'pod')} confirmed"
    silent = [member for member in snapshot.members if not isinstance(replies.get(member.name), OperationStatus)]
    if silent:
        message = f"waiting for {enumerate_names(_complaint(member, replies) for member in silent)}; {so_far}"
        return waiting(Verdict(Reason.PODS_UNREACHABLE, message), retry_after(snapshot))
    if len(finished) < len(answers):
        return waiting(Verdict(Reason.RUNNING, so_far), POLL)
    found = _found(finished, _distinct_count(snapshot))
    message = f"deleted {counted(sum(found), 'item')} on {counted(len(answers), 'pod')}"
    if missing := len(found) - sum(found):
        message += f"; {counted(missing, 'ID')} not found on any"
    return ended(End(Reason.COMPLETED, message, succeeded=True))


def _complaint(member: Member, replies: Replies) -> str:
    reply = replies.get(member.name, member.answer)
    return f"{member.name} ({getattr(reply, 'message', '')})"


def _distinct_count(snapshot: DeleteSnapshot) -> int:
    assert isinstance(snapshot.request, Request)
    return len(snapshot.request.body.request.external_ids)


def _found(answers: Iterable[OperationStatus], count: int) -> list[bool]:
    """For each distinct ID, whether any pod deleted it."""
    found = [False] * count
    for answer in answers:
        assert isinstance(answer.result, DeleteResult)
        found = [one or other for one, other in zip(found, unpack_bitmap(answer.result.bitmap, count), strict=True)]
    return found


def _counts(snapshot: DeleteSnapshot, replies: Replies, *, complete: bool) -> dict[str, object]:
    """The counts over all pods that have confirmed; what was found nowhere is known only when all have."""
    confirmed = [
        reply
        for reply in replies.values()
        if isinstance(reply, OperationStatus) and isinstance(reply.result, DeleteResult)
    ]
    if not confirmed or _has_changed(snapshot) or not isinstance(snapshot.request, Request):
        return {}  # the bitmaps speak of IDs that are not known any more
    ids = snapshot.request.body.request.external_ids
    found = _found(confirmed, len(ids))
    counts: dict[str, object] = {"deleted_count": sum(found)}
    if complete:
        counts["not_found_count"] = len(ids) - sum(found)
        if snapshot.run.spec.return_not_found:
            missing = [name for name, present in zip(ids, found, strict=True) if not present]
            counts["not_found"] = tuple(missing[:MAX_NOT_FOUND])
            counts["not_found_truncated"] = len(missing) > MAX_NOT_FOUND
    return counts


def _succeeded(rows: Iterable[DeletePodResult]) -> list[str]:
    return [row.name for row in rows if row.state is PodState.SUCCEEDED]


def _rows(snapshot: DeleteSnapshot, replies: Replies) -> tuple[DeletePodResult, ...]:
    """Each pod's part; pods that were removed for good stay listed."""
    old = {row.name: row for row in snapshot.run.status.pods}
    if snapshot.index is None:
        return tuple(old.values())
    rows = [
        _row(member, old.pop(member.name, DeletePodResult(name=member.name, state=PodState.PENDING)), replies)
        for member in snapshot.members
    ]
    return (*rows, *map(gone, old.values()))


def _row(member: Member, before: DeletePodResult, replies: Replies) -> DeletePodResult:
    reply: Reply | None = replies.get(member.name)
    if not isinstance(reply, OperationStatus):
        return silent_row(member, before, reply)
    result = reply.result if isinstance(reply.result, DeleteResult) else None
    return DeletePodResult(
        name=member.name,
        state=POD_STATES[reply.state],
        message=reply.message or None,
        volume_id=reply.volume_id,
        deleted_count=result.deleted if result else None,
        not_found_count=result.not_found if result else None,
    )
