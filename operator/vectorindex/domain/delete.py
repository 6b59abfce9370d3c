"""An IndexDelete: which pods to call, and what their answers come to.

Invariant: the run is done when every pod of the index confirmed it in the same reconcile. A pod that confirmed earlier
is asked again, and gives its first answer again: so the counts are those of distinct items over all pods, and need not
be kept anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vectorindex.api import IndexDelete
from vectorindex.api.common import MAX_PODS, PodState
from vectorindex.api.indexdelete import DeletePodResult, IndexDeleteStatus
from vectorindex.api.reasons import Reason
from vectorindex.domain.conditions import TRUE
from vectorindex.domain.delete_preview import dry_run_end, limit_exceeded, may_go, preview_is_due
from vectorindex.domain.delete_rows import asked_for, bitmaps, counts, delete_row, found_anywhere
from vectorindex.domain.ids import IDs, Missing
from vectorindex.domain.members import NO_POD, KeyPending, Member
from vectorindex.domain.missing import dated
from vectorindex.domain.replies import completed, failure, gone, trusted
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
    cancelled_by_somebody,
    cancelled_on,
    look_in_time,
    past_deadline,
    stop_work,
    stopped,
)
from vectorindex.domain.verdicts import Policy, Verdict, counted, enumerate_names, first_violation
from vectorindex.wire.operations import (
    DeleteBody,
    DeletePreview,
    DeleteRequest,
    ObjectReference,
    OperationState,
    OperationStatus,
    distinct,
    request_digest,
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
    request = DeleteRequest(external_ids=distinct(ids), max_delete_percent=run.spec.max_delete_percent)
    body = DeleteBody(object=reference, operation_id=run.spec.operation_id, request=request)
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
    uid, body, confirmed = snapshot.run.metadata.uid, snapshot.request.body, _succeeded(status.pods)

    def verb(member: Member) -> Verb:
        if preview_is_due(snapshot.run):
            return Verb.PREVIEW
        return Verb.LOOK if member.name in confirmed else Verb.START

    return Work(
        tuple(
            Call(member.endpoint, verb(member), uid, body) for member in snapshot.members if member.endpoint is not None
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
            done = _first_failure(rows) is None and _all_confirmed(snapshot, replies)
            if why is None or done:
                step = _judge(snapshot, rows, replies)
            else:
                step = stopped(snapshot, _to_stop(snapshot), rows, replies, why)
            asked = sum(row.state is not PodState.GONE for row in rows)
            changes = {"pods": rows, "progress_percent": 100 * len(_succeeded(rows)) // max(1, asked)}
            if step.succeeded is TRUE:
                changes |= counts(_found(snapshot, replies), _names_to_list(snapshot))
            elif step.again is None:
                step, changes["deleted_count"] = _with_count_so_far(snapshot, step, rows, replies)
            elif why is None and preview_is_due(snapshot.run) and may_go(snapshot.run, snapshot.members, replies):
                changes["preview_time"] = snapshot.now
    status = updated(snapshot.run.status, **next_fields(snapshot, step), **changes)
    status = updated(status, pods=dated(status.pods, snapshot.members))
    return RunSummary(status, look_in_time(snapshot, step.again))


def _cancelled_at_once(snapshot: DeleteSnapshot) -> End | None:
    return cancelled_at_once(snapshot)


def _stop(snapshot: DeleteSnapshot) -> Work | None:
    return None if _why_to_stop(snapshot) is None else stop_work(snapshot, _to_stop(snapshot))


def _to_stop(snapshot: DeleteSnapshot) -> dict[str, str]:
    """The operations that have not failed, by pod, also of those that have deleted: they say so again, and are
    counted. A dry run has none."""
    failed = {row.name for row in snapshot.run.status.pods if row.state is PodState.FAILED}
    members = () if snapshot.run.spec.dry_run else snapshot.members
    return {member.name: snapshot.run.metadata.uid for member in members if member.name not in failed}


def _why_to_stop(snapshot: DeleteSnapshot) -> Verdict | None:
    return first_violation(WHY_TO_STOP, snapshot)


def _failed(snapshot: DeleteSnapshot) -> Verdict | None:
    return _first_failure(snapshot.run.status.pods)


def _first_failure(rows: Iterable[DeletePodResult]) -> Verdict | None:
    return next((why for why in map(failure, rows) if why is not None), None)


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


def _no_pod(snapshot: DeleteSnapshot) -> Wait | None:
    """Nobody can say yet what is to be deleted where."""
    if snapshot.members or snapshot.run.status.request_digest is not None:
        return None
    return Wait(Reason.PODS_UNREACHABLE, NO_POD, retry_after(snapshot))


def _request(snapshot: DeleteSnapshot) -> End | Wait | None:
    match snapshot.request:
        case Missing():
            return wait_or_end(snapshot, snapshot.request, Reason.INVALID_REQUEST)
        case Verdict(reason, message):
            return End(reason, message)
        case _:
            return None


WHY_TO_STOP: tuple[Policy[DeleteSnapshot, Verdict | None], ...] = (
    cancel_asked,
    _failed,
    _request_changed,
    past_deadline,
    cancelled_by_somebody,
)
TROUBLES: tuple[Policy[DeleteSnapshot, Decision | None], ...] = (
    _cancelled_at_once,
    _stop,
    index_trouble,
    _request,
    _no_pod,
)


def _all_confirmed(snapshot: DeleteSnapshot, replies: Replies) -> bool:
    answers = [replies.get(member.name) for member in snapshot.members]
    return bool(answers) and all(
        isinstance(answer, OperationStatus) and answer.state is OperationState.SUCCEEDED for answer in answers
    )


def _judge(snapshot: DeleteSnapshot, rows: tuple[DeletePodResult, ...], replies: Replies) -> Next:
    """What the answers of the pods mean for the run. ``rows``: by the replies."""
    if (why := _first_failure(rows) or cancelled_on(rows)) is not None:
        return waiting(Verdict(Reason.STOPPING, why.message), 0.0)
    if not snapshot.members:
        return waiting(Verdict(Reason.PODS_UNREACHABLE, f"{NO_POD} any more"), retry_after(snapshot))
    if preview_is_due(snapshot.run):
        return _judge_preview(snapshot, replies)
    answers = [replies.get(member.name) for member in snapshot.members]
    finished = [answer for answer in answers if isinstance(answer, OperationStatus) and answer.state.finished]
    so_far = f"{len(finished)} of {counted(len(answers), 'pod')} confirmed"
    if (silence := _silence(snapshot, replies, OperationStatus, so_far)) is not None:
        return waiting(silence, retry_after(snapshot))
    if len(finished) < len(answers):
        return waiting(Verdict(Reason.RUNNING, so_far), POLL)
    found = _found(snapshot, replies)
    message = f"deleted {counted(sum(found), 'item')} on {counted(len(answers), 'pod')}"
    if missing := len(found) - sum(found):
        message += f"; {counted(missing, 'ID')} not found on any"
    return ended(completed(rows, snapshot.run.spec.operation_id, message))


def _judge_preview(snapshot: DeleteSnapshot, replies: Replies) -> Next:
    if (end := limit_exceeded(snapshot.run, replies)) is not None:
        return ended(end)
    nothing = "nothing is deleted before every pod has said what would go"
    if (silence := _silence(snapshot, replies, DeletePreview, nothing)) is not None:
        return waiting(silence, retry_after(snapshot))
    if snapshot.run.spec.dry_run:
        return ended(dry_run_end(_found(snapshot, replies), snapshot.members))
    pods = counted(len(snapshot.members), "pod")
    return waiting(Verdict(Reason.RUNNING, f"{pods} would delete within the limit: calling them"), 0.0)


def _silence(snapshot: DeleteSnapshot, replies: Replies, wanted: type[Reply], meanwhile: str) -> Verdict | None:
    """Which pods gave no answer of that type; None: all did."""
    silent = {
        member.name: replies.get(member.name, member.answer)
        for member in snapshot.members
        if not isinstance(replies.get(member.name), wanted)
    }
    if not silent:
        return None
    only_keys = all(isinstance(answer, KeyPending) for answer in silent.values())
    reason = Reason.KEY_PENDING if only_keys else Reason.PODS_UNREACHABLE
    pods = enumerate_names(f"{name} ({getattr(answer, 'message', '')})" for name, answer in silent.items())
    return Verdict(reason, f"waiting for {pods}; {meanwhile}")


def _ids(snapshot: DeleteSnapshot) -> tuple[str, ...] | None:
    """The distinct IDs that the pods were asked for; None when they are not known any more."""
    if _has_changed(snapshot) or not isinstance(snapshot.request, Request):
        return None
    return snapshot.request.body.request.external_ids


def _found(snapshot: DeleteSnapshot, replies: Replies) -> list[bool]:
    """For each distinct ID that the pods were asked for, whether any had it, as far as they have answered. How many
    these are, each pod that has deleted knows too."""
    ids = _ids(snapshot)
    return found_anywhere(bitmaps(replies), asked_for(replies) if ids is None else len(ids))


def _names_to_list(snapshot: DeleteSnapshot) -> tuple[str, ...] | None:
    """The IDs of which those are to be listed that no pod had; None: list none."""
    return _ids(snapshot) if snapshot.run.spec.return_not_found else None


def _with_count_so_far(
    snapshot: DeleteSnapshot, step: Next, rows: tuple[DeletePodResult, ...], replies: Replies
) -> tuple[Next, int | None]:
    """The end of a run that has not succeeded, and how many items were deleted all the same; None: none, as far as it
    is known. Of a pod that gives no answer only its own count is known, which items these were is not."""
    done = () if snapshot.run.spec.dry_run else [row for row in rows if row.state is PodState.SUCCEEDED]
    if not done:
        return step, None
    answered = {row.name: replies[row.name] for row in done if isinstance(replies.get(row.name), OperationStatus)}
    count = max(sum(_found(snapshot, answered)), *(row.deleted_count or 0 for row in done))
    if len(answered) == len(done):
        return step, count
    return replace(step, message=f"{step.message}; deleted at least {counted(count, 'item')}"), count


def _succeeded(rows: Iterable[DeletePodResult]) -> list[str]:
    return [row.name for row in rows if row.state is PodState.SUCCEEDED]


def _rows(snapshot: DeleteSnapshot, replies: Replies) -> tuple[DeletePodResult, ...]:
    """Each pod's part; pods that were removed for good stay listed, as many as there is room for. As they are written
    once the run's index is no more."""
    old = {row.name: row for row in snapshot.run.status.pods}
    if not snapshot.index_is_there:
        return tuple(old.values())
    asked = len(_ids(snapshot) or ())
    rows = []
    for member in snapshot.members:
        before = old.pop(member.name, DeletePodResult(name=member.name, state=PodState.PENDING))
        rows.append(delete_row(snapshot.run, asked, member, before, replies.get(member.name)))
    return (*rows, *(row if failure(row) else gone(row) for row in old.values()))[:MAX_PODS]
