"""An IndexRebuild or an IndexOptimize: when it may start, which pod is next, and what the answers come to.

Invariants: of the builds of one index, of both kinds, one runs at a time, and of its pods one at a time, by ordinal;
the next pod is called only when every pod serves. What a pod has done is recorded with the volume that did it, and
counts as long as the pod has that volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from vectorindex.api import VectorIndex, names
from vectorindex.api.builds import BuildPodResult, BuildStatus
from vectorindex.api.common import PodState
from vectorindex.api.reasons import Reason
from vectorindex.domain.build_request import build_body, contradiction, wording
from vectorindex.domain.cancelling import cancel_work, cancelled
from vectorindex.domain.figures import agreed, earliest, in_force, largest, lowest_recall, recall_text, total
from vectorindex.domain.members import Member, troubles
from vectorindex.domain.replies import POD_STATES, gone, refusal, silent_row, trusted
from vectorindex.domain.run import (
    Begin,
    BuildRun,
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
from vectorindex.wire.operations import GraphResult, OperationStatus
from vectorindex.wire.text import rounded, seconds_text

FIRST_LOOK, POLL = 0.5, 2.0
"""Seconds until the first look at a pod that has begun, which may be done already, and between two looks then; so often
its progress is written."""
TURN = 15.0
"""Seconds until a run that waits for another one looks again; it is woken when that one ends."""
ATTEMPT = 1


@dataclass(frozen=True)
class BuildSnapshot(Frame):
    """All that is looked at. ``ahead``: the build of the same index that goes first, None: this one is first."""

    run: BuildRun
    ahead: BuildRun | None


def first_in_line(builds: Iterable[BuildRun]) -> BuildRun | None:
    """Whose turn it is, of all builds of one index: what has started, then by creation, then by name (and kind)."""

    def place(run: BuildRun) -> tuple[bool, datetime, str, str]:
        created = run.metadata.creation_timestamp or datetime.max.replace(tzinfo=UTC)
        return run.status.start_time is None, created, run.metadata.name, run.definition.kind

    return min((run for run in builds if not run.status.finished), key=place, default=None)


def decide(snapshot: BuildSnapshot) -> Decision:
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
    return Work((Call(member.name, member.address, Verb.LOOK, operation, build_body(snapshot.run, _index(snapshot))),))


def summarize(snapshot: BuildSnapshot, decision: Decision, replies: Replies) -> RunSummary[BuildStatus]:
    """The status after the step that was decided on."""
    changes: dict[str, object] = {}
    match decision:
        case End():
            step = ended(decision)
        case Wait():
            step = waiting(decision, decision.again)
        case Begin():
            rows = tuple(BuildPodResult(name=member.name, state=PodState.PENDING) for member in snapshot.members)
            step = waiting(Verdict(Reason.RUNNING, f"{wording(snapshot.run).doing} {counted(len(rows), 'pod')}"), 0.0)
            changes = {"start_time": snapshot.now, "pods": rows, "progress_percent": 0}
        case Work():
            replies = trusted(snapshot.members, replies)
            rows = _rows(snapshot, replies)
            step = cancelled(rows, replies) if snapshot.run.spec.cancel else _judge(snapshot, rows, replies)
            changes = {"pods": rows, "progress_percent": _progress(rows), **_figures(rows)}
    return RunSummary(updated(snapshot.run.status, **next_fields(snapshot, step), **changes), step.again)


def _cancel(snapshot: BuildSnapshot) -> End | Work | None:
    return cancel_work(snapshot, snapshot.run.status.pods, lambda _pod: _operation(snapshot))


def _contradiction(snapshot: BuildSnapshot) -> End | None:
    return contradiction(snapshot.run, _index(snapshot))


def _turn(snapshot: BuildSnapshot) -> Wait | None:
    if snapshot.ahead is None:
        return None
    ahead = f"{snapshot.ahead.definition.kind} {snapshot.ahead.metadata.name}"
    return Wait(Reason.QUEUED, f"{ahead} of the same index goes first", TURN)


def _index_not_ready(snapshot: BuildSnapshot) -> Wait | None:
    waits = troubles(snapshot.members)
    if not waits:
        return None
    name = _index(snapshot).metadata.name
    return Wait(Reason.INDEX_NOT_READY, f"waiting until VectorIndex {name} is Ready: {enumerate_names(waits)}", POLL)


STARTED_TROUBLES: tuple[Policy[BuildSnapshot, Decision | None], ...] = (_cancel, index_trouble)
TROUBLES: tuple[Policy[BuildSnapshot, Decision | None], ...] = (
    *STARTED_TROUBLES,
    _contradiction,
    _turn,
    _index_not_ready,
)


def _judge(snapshot: BuildSnapshot, rows: tuple[BuildPodResult, ...], replies: Replies) -> Next:
    """What the answer of the pod means for the run. ``rows``: by the replies."""
    for pod, reply in replies.items():
        if (end := refusal(pod, reply, quote=True)) is not None:
            done = [row.name for row in rows if row.state is PodState.SUCCEEDED]
            words = f"{wording(snapshot.run).done}, and kept: {enumerate_names(done)}"
            kept = f"; {words}" if done else "; no pod has a new graph"
            return ended(End(end.reason, end.message + kept))
    active = _active(snapshot, rows)
    if active is None:
        return ended(End(Reason.COMPLETED, _completed(snapshot.run, rows), succeeded=True))
    row, member = active
    place = f"pod {member.name} ({1 + rows.index(row)} of {len(rows)})"
    if row.state is PodState.UNREACHABLE:
        verdict = Verdict(Reason.PODS_UNREACHABLE, f"waiting for {place}: {row.message}")
        return waiting(verdict, retry_after(snapshot))
    if row.state is PodState.RUNNING:
        known = any(old.name == row.name and old.state is PodState.RUNNING for old in snapshot.run.status.pods)
        message = f"{wording(snapshot.run).doing} {place}{_how_far(row)}"
        return waiting(Verdict(Reason.RUNNING, message), POLL if known else FIRST_LOOK)
    return waiting(Verdict(Reason.RUNNING, f"next is {place}"), 0.0)


def _how_far(row: BuildPodResult) -> str:
    """``, 45 %, about 2 minutes left``, as far as it is known."""
    progress = f", {row.progress_percent} %" if row.progress_percent else ""
    left = f", about {seconds_text(row.remaining_seconds)} left" if row.remaining_seconds is not None else ""
    return progress + left


def _completed(run: BuildRun, rows: tuple[BuildPodResult, ...]) -> str:
    figures = _figures(rows)
    message = f"{wording(run).done} {counted(sum(row.state is PodState.SUCCEEDED for row in rows), 'pod')}"
    if figures["recall_after"] is not None:
        message += f"; recall {figures['recall_before']} before, {figures['recall_after']} after"
    return message


def _active(snapshot: BuildSnapshot, rows: tuple[BuildPodResult, ...]) -> tuple[BuildPodResult, Member] | None:
    """The first pod that has not done its part on the volume that it has now; None: all have."""
    members = {member.name: member for member in snapshot.members}
    for row in rows:
        member = members.get(row.name)
        if member is not None and not (row.state is PodState.SUCCEEDED and _same_volume(row, member)):
            return row, member
    return None


def _has_begun(row: BuildPodResult) -> bool:
    """The pod has answered that it is at work. One that never answered may be, but that shows in its turn."""
    return row.state is PodState.RUNNING or (row.state is PodState.UNREACHABLE and row.attempt is not None)


def _same_volume(row: BuildPodResult, member: Member) -> bool:
    return member.volume is None or member.volume == row.volume_id


def _with_gone(snapshot: BuildSnapshot) -> tuple[BuildPodResult, ...]:
    """The rows in order of ordinals; a pod that the index should not have any more is Gone."""
    index = snapshot.run.spec.index_ref.name
    rows = sorted(snapshot.run.status.pods, key=lambda row: names.ordinal(index, row.name) or 0)
    if snapshot.index is None:
        return tuple(rows)
    present = {member.name for member in snapshot.members}
    return tuple(row if row.name in present else gone(row) for row in rows)


def _rows(snapshot: BuildSnapshot, replies: Replies) -> tuple[BuildPodResult, ...]:
    active = _active(snapshot, _with_gone(snapshot))
    members = {member.name: member for member in snapshot.members}
    rows = []
    for row in _with_gone(snapshot):
        reply = replies.get(row.name)
        if isinstance(reply, OperationStatus):
            rows.append(_row(row, reply))
        elif reply is not None or (active is not None and active[0].name == row.name):
            rows.append(silent_row(members[row.name], row, reply))
        else:
            rows.append(row)
    return tuple(rows)


def _row(before: BuildPodResult, reply: OperationStatus) -> BuildPodResult:
    row = BuildPodResult(
        name=before.name,
        state=POD_STATES[reply.state],
        message=reply.message or None,
        volume_id=reply.volume_id,
        attempt=ATTEMPT,
        progress_percent=reply.progress,
        remaining_seconds=_remaining(before, reply),
        restarts=reply.restarts,
    )
    if not isinstance(reply.result, GraphResult):
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
        computations_before=round(result.computations.before) if result.computations else None,
        computations_after=round(result.computations.after) if result.computations else None,
        links_repaired=result.links_repaired,
        unreachable_before=result.unreachable.before,
        unreachable_after=result.unreachable.after,
        parameters=in_force(result.parameters),
        erased_before=result.erased_before,
        erasure_blocked=result.erasure_blocked,
    )


def _remaining(before: BuildPodResult, reply: OperationStatus) -> int | None:
    """As long as the progress is what was written, so is this: a status is written when a run gets on."""
    if reply.remaining_seconds is None:
        return None
    if before.progress_percent == reply.progress and before.remaining_seconds is not None:
        return before.remaining_seconds
    return rounded(reply.remaining_seconds)


def _progress(rows: tuple[BuildPodResult, ...]) -> int:
    taking_part = [row for row in rows if row.state is not PodState.GONE]
    done = sum(100 if row.state is PodState.SUCCEEDED else row.progress_percent or 0 for row in taking_part)
    return done // max(1, len(taking_part))


def _figures(rows: tuple[BuildPodResult, ...]) -> dict[str, object]:
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
        "computations_before": largest(row.computations_before for row in done),
        "computations_after": largest(row.computations_after for row in done),
        "links_repaired": largest(row.links_repaired for row in done),
        "unreachable_before": largest(row.unreachable_before for row in done),
        "unreachable_after": largest(row.unreachable_after for row in done),
        "parameters": agreed(row.parameters for row in done),
        "erased_before": earliest(row.erased_before for row in rows if row.state is not PodState.GONE),
        "erasure_blocked": _erasure_blocked(done),
    }


def _erasure_blocked(done: list[BuildPodResult]) -> str | None:
    blocked = [f"pod {row.name}: {row.erasure_blocked}" for row in done if row.erasure_blocked is not None]
    return "; ".join(blocked) or None


def _operation(snapshot: BuildSnapshot) -> str:
    return f"{snapshot.run.metadata.uid}.{ATTEMPT}"


def _index(snapshot: BuildSnapshot) -> VectorIndex:
    assert snapshot.index is not None  # a missing one is a trouble that comes first
    return snapshot.index
