"""An IndexRebuild: when it may start, which pod is next, and what the answers come to.

Invariants: of the rebuilds of one index one runs at a time, and of its pods one at a time, by ordinal; the next pod is
called only when every pod serves. What a pod has done is recorded with the volume that did it, and counts as long as
the pod has that volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from vectorindex.api import IndexRebuild, VectorIndex, names
from vectorindex.api.common import Parameters, PodState
from vectorindex.api.indexrebuild import IndexRebuildStatus, RebuildPodResult
from vectorindex.api.reasons import Reason
from vectorindex.domain.cancelling import cancel_work, cancelled
from vectorindex.domain.figures import agreed, in_force, largest, lowest_recall, recall_text, total
from vectorindex.domain.members import Member, troubles
from vectorindex.domain.replies import POD_STATES, gone, refusal, silent_row, trusted
from vectorindex.domain.run import (
    Begin,
    Call,
    Decision,
    End,
    Frame,
    Next,
    Replies,
    RunSummary,
    Verb,
    Wait,
    Work,
    ended,
    index_trouble,
    next_fields,
    retry_after,
    updated,
    waiting,
)
from vectorindex.domain.verdicts import Policy, Verdict, counted, enumerate_names, first_violation
from vectorindex.wire.identity import GraphParameters
from vectorindex.wire.operations import (
    ObjectReference,
    OperationStatus,
    RebuildBody,
    RebuildRequest,
    RebuildResult,
    Verification,
)

FIRST_LOOK, POLL = 0.5, 2.0
"""Seconds until the first look at a pod that has begun, which may be done already, and between two looks then; so often
its progress is written."""
TURN = 15.0
"""Seconds until a run that waits for another one looks again; it is woken when that one ends."""
ATTEMPT = 1


@dataclass(frozen=True)
class RebuildSnapshot(Frame):
    """All that is looked at. ``ahead``: the rebuild of the same index that goes first, None: this one is first."""

    run: IndexRebuild
    ahead: str | None


def first_in_line(rebuilds: Iterable[IndexRebuild]) -> IndexRebuild | None:
    """Whose turn it is, of all rebuilds of one index: what has started, then by creation, then by name."""

    def place(run: IndexRebuild) -> tuple[bool, datetime, str]:
        created = run.metadata.creation_timestamp or datetime.max.replace(tzinfo=UTC)
        return run.status.start_time is None, created, run.metadata.name

    return min((run for run in rebuilds if not run.status.finished), key=place, default=None)


def decide(snapshot: RebuildSnapshot) -> Decision:
    """The next step of a run that has not ended."""
    started = snapshot.run.status.start_time is not None
    trouble: Decision | None = first_violation(STARTED_TROUBLES if started else TROUBLES, snapshot)
    if trouble is not None:
        return trouble
    if not started:
        return Begin()
    active = _active(snapshot, _with_gone(snapshot))
    if active is None:
        return Work(())
    row, member = active
    if not _has_begun(row) and (waits := troubles(snapshot.members)):
        return Wait(
            Reason.INDEX_NOT_READY, f"{member.name} is next, as soon as all pods serve: {enumerate_names(waits)}", POLL
        )
    if member.address is None:
        return Work(())
    operation = _operation(snapshot)
    return Work((Call(member.name, member.address, Verb.LOOK, operation, _body(snapshot)),))


def summarize(snapshot: RebuildSnapshot, decision: Decision, replies: Replies) -> RunSummary[IndexRebuildStatus]:
    """The status after the step that was decided on."""
    changes: dict[str, object] = {}
    match decision:
        case End():
            step = ended(decision)
        case Wait():
            step = waiting(decision, decision.again)
        case Begin():
            rows = tuple(RebuildPodResult(name=member.name, state=PodState.PENDING) for member in snapshot.members)
            step = waiting(Verdict(Reason.RUNNING, f"rebuilding {counted(len(rows), 'pod')}"), 0.0)
            changes = {"start_time": snapshot.now, "pods": rows, "progress_percent": 0}
        case Work():
            replies = trusted(snapshot.members, replies)
            rows = _rows(snapshot, replies)
            step = cancelled(rows, replies) if snapshot.run.spec.cancel else _judge(snapshot, rows, replies)
            changes = {"pods": rows, "progress_percent": _progress(rows), **_figures(rows)}
    return RunSummary(updated(snapshot.run.status, **next_fields(snapshot, step), **changes), step.again)


def _cancel(snapshot: RebuildSnapshot) -> End | Work | None:
    return cancel_work(snapshot, snapshot.run.status.pods, lambda _pod: _operation(snapshot))


def _contradiction(snapshot: RebuildSnapshot) -> End | None:
    """The run asks for another value than the index fixes."""
    asked = snapshot.run.spec.params or Parameters()
    fixed = _index(snapshot).spec.hnsw or Parameters()
    for field, name in (("m", "m"), ("ef_construction", "efConstruction"), ("ef_search", "efSearch"), ("seed", "seed")):
        wanted, set_value = getattr(asked, field), getattr(fixed, field)
        if None not in (wanted, set_value) and wanted != set_value:
            return End(
                Reason.INVALID_REQUEST,
                f"params.{name} is {wanted}, but VectorIndex {_index(snapshot).metadata.name} sets {set_value}: "
                f"change VectorIndex.spec.hnsw.{name}, or leave params.{name} unset, and create a new IndexRebuild",
            )
    return None


def _turn(snapshot: RebuildSnapshot) -> Wait | None:
    if snapshot.ahead is None:
        return None
    return Wait(Reason.QUEUED, f"IndexRebuild {snapshot.ahead} of the same index goes first", TURN)


def _index_not_ready(snapshot: RebuildSnapshot) -> Wait | None:
    waits = troubles(snapshot.members)
    if not waits:
        return None
    name = _index(snapshot).metadata.name
    return Wait(Reason.INDEX_NOT_READY, f"waiting until VectorIndex {name} is Ready: {enumerate_names(waits)}", POLL)


STARTED_TROUBLES: tuple[Policy[RebuildSnapshot, Decision | None], ...] = (_cancel, index_trouble)
TROUBLES: tuple[Policy[RebuildSnapshot, Decision | None], ...] = (
    *STARTED_TROUBLES,
    _contradiction,
    _turn,
    _index_not_ready,
)


def _judge(snapshot: RebuildSnapshot, rows: tuple[RebuildPodResult, ...], replies: Replies) -> Next:
    """What the answer of the pod means for the run. ``rows``: by the replies."""
    for pod, reply in replies.items():
        if (end := refusal(pod, reply, quote=True)) is not None:
            rebuilt = [row.name for row in rows if row.state is PodState.SUCCEEDED]
            kept = f"; rebuilt, and kept: {enumerate_names(rebuilt)}" if rebuilt else "; no pod has a new graph"
            return ended(End(end.reason, end.message + kept))
    active = _active(snapshot, rows)
    if active is None:
        return ended(End(Reason.COMPLETED, _completed(rows), succeeded=True))
    row, member = active
    place = f"pod {member.name} ({1 + rows.index(row)} of {len(rows)})"
    if row.state is PodState.UNREACHABLE:
        verdict = Verdict(Reason.PODS_UNREACHABLE, f"waiting for {place}: {row.message}")
        return waiting(verdict, retry_after(snapshot))
    if row.state is PodState.RUNNING:
        known = any(old.name == row.name and old.state is PodState.RUNNING for old in snapshot.run.status.pods)
        return waiting(Verdict(Reason.RUNNING, f"rebuilding {place}"), POLL if known else FIRST_LOOK)
    return waiting(Verdict(Reason.RUNNING, f"next is {place}"), 0.0)


def _completed(rows: tuple[RebuildPodResult, ...]) -> str:
    figures = _figures(rows)
    message = f"rebuilt {counted(sum(row.state is PodState.SUCCEEDED for row in rows), 'pod')}"
    if figures["recall_after"] is not None:
        message += f"; recall {figures['recall_before']} before, {figures['recall_after']} after"
    return message


def _active(snapshot: RebuildSnapshot, rows: tuple[RebuildPodResult, ...]) -> tuple[RebuildPodResult, Member] | None:
    """The first pod that has not done its part on the volume that it has now; None: all have."""
    members = {member.name: member for member in snapshot.members}
    for row in rows:
        member = members.get(row.name)
        if member is not None and not (row.state is PodState.SUCCEEDED and _same_volume(row, member)):
            return row, member
    return None


def _has_begun(row: RebuildPodResult) -> bool:
    """The pod has answered that it is at work. One that never answered may be, but that shows in its turn."""
    return row.state is PodState.RUNNING or (row.state is PodState.UNREACHABLE and row.attempt is not None)


def _same_volume(row: RebuildPodResult, member: Member) -> bool:
    return member.volume is None or member.volume == row.volume_id


def _with_gone(snapshot: RebuildSnapshot) -> tuple[RebuildPodResult, ...]:
    """The rows in order of ordinals; a pod that the index should not have any more is Gone."""
    index = snapshot.run.spec.index_ref.name
    rows = sorted(snapshot.run.status.pods, key=lambda row: names.ordinal(index, row.name) or 0)
    if snapshot.index is None:
        return tuple(rows)
    present = {member.name for member in snapshot.members}
    return tuple(row if row.name in present else gone(row) for row in rows)


def _rows(snapshot: RebuildSnapshot, replies: Replies) -> tuple[RebuildPodResult, ...]:
    active = _active(snapshot, _with_gone(snapshot))
    members = {member.name: member for member in snapshot.members}
    rows = []
    for row in _with_gone(snapshot):
        reply = replies.get(row.name)
        if isinstance(reply, OperationStatus):
            rows.append(_row(row.name, reply))
        elif reply is not None or (active is not None and active[0].name == row.name):
            rows.append(silent_row(members[row.name], row, reply))
        else:
            rows.append(row)
    return tuple(rows)


def _row(name: str, reply: OperationStatus) -> RebuildPodResult:
    row = RebuildPodResult(
        name=name,
        state=POD_STATES[reply.state],
        message=reply.message or None,
        volume_id=reply.volume_id,
        attempt=ATTEMPT,
        progress_percent=reply.progress,
        restarts=reply.restarts,
    )
    if not isinstance(reply.result, RebuildResult):
        return row
    result = reply.result
    return updated(
        row,
        vectors_before=result.vectors.before,
        vectors_after=result.vectors.after,
        bytes_before=result.bytes.before,
        bytes_after=result.bytes.after,
        duration_seconds=math.ceil(sum(result.seconds.values())),
        recall_before=recall_text(result.recall.before) if result.recall else None,
        recall_after=recall_text(result.recall.after) if result.recall else None,
        unreachable_before=result.unreachable.before,
        unreachable_after=result.unreachable.after,
        parameters=in_force(result.parameters),
    )


def _progress(rows: tuple[RebuildPodResult, ...]) -> int:
    taking_part = [row for row in rows if row.state is not PodState.GONE]
    done = sum(100 if row.state is PodState.SUCCEEDED else row.progress_percent or 0 for row in taking_part)
    return done // max(1, len(taking_part))


def _figures(rows: tuple[RebuildPodResult, ...]) -> dict[str, object]:
    """The figures of the pods that have done their part, as those of the run."""
    done = [row for row in rows if row.state is PodState.SUCCEEDED]
    before, after = total(row.bytes_before for row in done), total(row.bytes_after for row in done)
    return {
        "vectors_before": largest(row.vectors_before for row in done),
        "vectors_after": largest(row.vectors_after for row in done),
        "bytes_before": before,
        "bytes_after": after,
        "bytes_reclaimed": before - after if before is not None and after is not None else None,
        "duration_seconds": largest(row.duration_seconds for row in done),
        "recall_before": lowest_recall(row.recall_before for row in done),
        "recall_after": lowest_recall(row.recall_after for row in done),
        "unreachable_before": largest(row.unreachable_before for row in done),
        "unreachable_after": largest(row.unreachable_after for row in done),
        "parameters": agreed(row.parameters for row in done),
    }


def _operation(snapshot: RebuildSnapshot) -> str:
    return f"{snapshot.run.metadata.uid}.{ATTEMPT}"


def _body(snapshot: RebuildSnapshot) -> RebuildBody:
    """What is set by the run or by the index is used, what neither sets stays as it is on the pod."""
    asked = snapshot.run.spec.params or Parameters()
    fixed = _index(snapshot).spec.hnsw or Parameters()
    verify = snapshot.run.spec.verify

    def either(first: int | None, second: int | None) -> int | None:
        return second if first is None else first

    return RebuildBody(
        object=ObjectReference(name=snapshot.run.metadata.name, uid=snapshot.run.metadata.uid),
        request=RebuildRequest(
            params=GraphParameters(
                m=either(asked.m, fixed.m),
                ef_construction=either(asked.ef_construction, fixed.ef_construction),
                ef_search=either(asked.ef_search, fixed.ef_search),
                rng_seed=either(asked.seed, fixed.seed),
            ),
            verify=Verification(samples=verify.samples, k=verify.k, min_recall_percent=verify.min_recall_percent),
        ),
    )


def _index(snapshot: RebuildSnapshot) -> VectorIndex:
    assert snapshot.index is not None  # a missing one is a trouble that comes first
    return snapshot.index
