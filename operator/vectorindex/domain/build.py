"""An IndexRebuild or an IndexOptimize: when it may start, which pods are next, and what the answers come to.

Invariant: the first pod that fails for good stops the run: what is at work is cancelled, pods that have new graphs keep
them, and the others stay as they are. Whose turn it is: :mod:`vectorindex.domain.build_line`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vectorindex.api import VectorIndex
from vectorindex.api.builds import BuildPodResult, BuildStatus
from vectorindex.api.common import PodState
from vectorindex.api.reasons import Reason
from vectorindex.domain.attempts import attempt_of, attempt_to_call, final_failure
from vectorindex.domain.build_line import Line, has_begun, is_done, line_up
from vectorindex.domain.build_request import build_body, contradiction, pinned, wording
from vectorindex.domain.build_rows import Rows, figures, progress, row_answered, row_refused, without_progress
from vectorindex.domain.members import Member, place, troubles
from vectorindex.domain.missing import dated
from vectorindex.domain.pacing import look_after, progress_is_due
from vectorindex.domain.replies import completed, gone, silent_row, trusted
from vectorindex.domain.rollout import Rollout
from vectorindex.domain.run import (
    Begin,
    BuildRun,
    Call,
    Decision,
    End,
    Frame,
    Next,
    Refused,
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
from vectorindex.wire.operations import OperationStatus
from vectorindex.wire.text import seconds_text

TURN = 300.0
"""Seconds until a run that waits for another one, or for a change of its index, looks again; it is woken by both."""


@dataclass(frozen=True)
class BuildSnapshot(Frame):
    """All that is looked at. ``ahead``: the build of the same index that goes first, None: this one is first;
    ``rollout``: looked at before the run begins."""

    run: BuildRun
    ahead: BuildRun | None
    rollout: Rollout = field(default_factory=Rollout)


def waits_for_others(run: BuildRun, index: VectorIndex | None, ahead: BuildRun | None) -> bool:
    """No pod has a say in the next step: the run has not begun, and waits for another one, or until its index goes on.
    There may be many such runs, and each that asked a pod that hangs would wait for it."""
    suspended = index is not None and index.spec.suspend
    return run.status.start_time is None and (ahead is not None or suspended)


def decide(snapshot: BuildSnapshot) -> Decision:
    """The next step of a run that has not ended."""
    started = snapshot.run.status.start_time is not None
    trouble: Decision | None = first_violation(STARTED_TROUBLES if started else TROUBLES, snapshot)
    if trouble is not None:
        return trouble
    if not started:
        return Begin()
    line = _line(snapshot, _rows_now(snapshot))
    if line.due and line.held_by and not (line.at_work or line.later):
        following = f"{enumerate_names(row.name for row in line.due)} is next, as soon as all pods serve"
        message = f"{following}: {enumerate_names(line.held_by)}"
        return Wait(Reason.INDEX_NOT_READY, message, retry_after(snapshot))
    looks = _calls(snapshot, line.at_work, Verb.LOOK)
    return Work((*looks, *_calls(snapshot, line.begin_now, Verb.START)))


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
            changes |= pinned(snapshot.run, _index(snapshot))
        case Work():
            replies = trusted(snapshot.members, replies)
            rows = _rows(snapshot, replies)
            why = _why_to_stop(snapshot)
            step = (
                _judge(snapshot, rows)
                if why is None or _is_done(snapshot, rows)
                else stopped(snapshot, _to_stop(snapshot), rows, replies, why)
            )
            changes = {"pods": rows, "progress_percent": progress(rows), **figures(rows)}
    status = updated(snapshot.run.status, **next_fields(snapshot, step), **changes)
    status = updated(status, pods=dated(status.pods, snapshot.members))
    return RunSummary(_worth_writing(snapshot, status), look_in_time(snapshot, step.again))


def _worth_writing(snapshot: BuildSnapshot, status: BuildStatus) -> BuildStatus:
    """The status, or the one that stands, where only the progress differs and that is not due."""
    standing = snapshot.run.status
    if progress_is_due(snapshot.last_write, snapshot.now) or without_progress(status) != without_progress(standing):
        return status
    return standing


def _cancelled_at_once(snapshot: BuildSnapshot) -> End | None:
    return cancelled_at_once(snapshot)


def _stop(snapshot: BuildSnapshot) -> Work | None:
    return None if _why_to_stop(snapshot) is None else stop_work(snapshot, _to_stop(snapshot))


def _to_stop(snapshot: BuildSnapshot) -> dict[str, str]:
    """The operations that have neither succeeded nor failed, by pod, whether they have begun or not. A pod that refuses
    this request, since it has another one of that name, may be at work on that."""
    limit = snapshot.run.spec.backoff_limit

    def is_left(row: BuildPodResult) -> bool:
        failed = final_failure(row, limit)
        return row.state is not PodState.SUCCEEDED and (failed is None or failed.reason is Reason.REQUEST_CHANGED)

    return {row.name: _operation(snapshot, row) for row in _rows_now(snapshot) if is_left(row)}


def _contradiction(snapshot: BuildSnapshot) -> End | None:
    return contradiction(snapshot.run, _index(snapshot))


def _suspended(snapshot: BuildSnapshot) -> Wait | None:
    index = _index(snapshot)
    if not index.spec.suspend:
        return None
    message = f"VectorIndex {index.metadata.name} is suspended: waiting until its spec.suspend is false"
    return Wait(Reason.SUSPENDED, message, TURN)


def _turn(snapshot: BuildSnapshot) -> Wait | None:
    if snapshot.ahead is None:
        return None
    ahead = f"{snapshot.ahead.definition.kind} {snapshot.ahead.metadata.name}"
    return Wait(Reason.QUEUED, f"{ahead} of the same index goes first", TURN)


def _index_not_ready(snapshot: BuildSnapshot) -> Wait | None:
    going_on = snapshot.rollout.trouble
    waits = (*troubles(snapshot.members), *(() if going_on is None else (going_on,)))
    if not waits:
        return None
    name = _index(snapshot).metadata.name
    message = f"waiting until VectorIndex {name} is Ready: {enumerate_names(waits)}"
    return Wait(Reason.INDEX_NOT_READY, message, retry_after(snapshot))


STARTED_TROUBLES: tuple[Policy[BuildSnapshot, Decision | None], ...] = (_stop, index_trouble)
TROUBLES: tuple[Policy[BuildSnapshot, Decision | None], ...] = (
    _cancelled_at_once,
    index_trouble,
    _contradiction,
    _suspended,
    _turn,
    _index_not_ready,
)


def _failed(snapshot: BuildSnapshot) -> Verdict | None:
    return _first_failure(snapshot, snapshot.run.status.pods)


WHY_TO_STOP: tuple[Policy[BuildSnapshot, Verdict | None], ...] = (
    cancel_asked,
    _failed,
    past_deadline,
    cancelled_by_somebody,
)


def _why_to_stop(snapshot: BuildSnapshot) -> Verdict | None:
    if snapshot.run.status.start_time is None:
        return None
    return first_violation(WHY_TO_STOP, snapshot)


def _is_done(snapshot: BuildSnapshot, rows: Rows) -> bool:
    """Every pod that is left has done its part."""
    if not snapshot.index_is_there or _first_failure(snapshot, rows) is not None:
        return False
    return _line(snapshot, rows).empty and _all_are_gone(rows) is None


def _first_failure(snapshot: BuildSnapshot, rows: Rows) -> Verdict | None:
    verdicts = (final_failure(row, snapshot.run.spec.backoff_limit) for row in rows)
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _judge(snapshot: BuildSnapshot, rows: Rows) -> Next:
    """What the rows, by the answers of the pods, mean for the run."""
    if (why := _first_failure(snapshot, rows) or cancelled_on(rows)) is not None:
        return waiting(Verdict(Reason.STOPPING, why.message), 0.0)
    line = _line(snapshot, rows)
    if line.empty:
        return ended(_all_are_gone(rows) or _completed(snapshot.run, rows))

    def places(some: Rows) -> str:
        return enumerate_names(_place(rows, row) for row in some)

    running = tuple(row for row in line.at_work if row.state is PodState.RUNNING)
    silent = tuple(row for row in (*line.at_work, *line.begin_now) if row.state is PodState.UNREACHABLE)
    following = tuple(row for row in line.begin_now if row.state is not PodState.UNREACHABLE)
    steps = [
        (_silence(row), f"waiting for {_place(rows, row)}: {row.message}", retry_after(snapshot)) for row in silent
    ]
    for row in line.later:
        assert row.retry_time is not None
        failed = f"{_place(rows, row)} failed {attempt_of(row, snapshot.run.spec.backoff_limit)}: {row.message}"
        left = (row.retry_time - snapshot.now).total_seconds()
        steps.append((Reason.RETRYING, f"{failed}; the next one begins at {row.retry_time:%H:%M:%S} UTC", left))
    if running:
        at_it = enumerate_names(f"{_place(rows, row)}{_how_far(row)}" for row in running)
        soonest = min(look_after(row.start_time, snapshot.now) for row in running)
        steps.append((Reason.RUNNING, f"{wording(snapshot.run).doing} {at_it}", soonest))
    if following or not steps:
        steps.append((Reason.RUNNING, f"next is {places(following or line.due)}", 0.0))
    message = "; ".join(words for _, words, _ in steps)
    return waiting(Verdict(steps[0][0], message), min(again for *_, again in steps))


def _silence(row: BuildPodResult) -> Reason:
    return Reason.KEY_PENDING if row.reason == Reason.KEY_PENDING else Reason.PODS_UNREACHABLE


def _how_far(row: BuildPodResult) -> str:
    """``, 45 %, about 2 minutes left``, as far as it is known."""
    progress = f", {row.progress_percent} %" if row.progress_percent else ""
    left = f", about {seconds_text(row.remaining_seconds)} left" if row.remaining_seconds is not None else ""
    return progress + left


def _all_are_gone(rows: Rows) -> End | None:
    """Nothing was done: that is no success."""
    if any(row.state is not PodState.GONE for row in rows):
        return None
    return End(Reason.PODS_GONE, "every pod that the run began with was removed before it had done its part")


def _completed(run: BuildRun, rows: Rows) -> End:
    return completed(rows, run.spec.operation_id, _what_was_done(run, rows))


def _what_was_done(run: BuildRun, rows: Rows) -> str:
    over_all = figures(rows)
    message = f"{wording(run).done} {counted(sum(row.state is PodState.SUCCEEDED for row in rows), 'pod')}"
    if over_all["recall_after"] is not None:
        message += f"; recall {over_all['recall_before']} before, {over_all['recall_after']} after"
    return message


def _place(rows: Rows, row: BuildPodResult) -> str:
    return f"pod {row.name} ({1 + rows.index(row)} of {len(rows)})"


def _line(snapshot: BuildSnapshot, rows: Rows) -> Line:
    return line_up(rows, snapshot.members, _index(snapshot).spec.maintenance.max_concurrent_pods, snapshot.now)


def _rows_now(snapshot: BuildSnapshot) -> Rows:
    """The rows in order of names. A pod that the index has not any more is Gone, unless it is why the run is being
    stopped; one that was done, and has another volume now, has its turn anew. As they are written once the run's index
    is no more."""
    rows = tuple(sorted(snapshot.run.status.pods, key=lambda row: place(row.name)))
    if not snapshot.index_is_there:
        return rows
    members = {member.name: member for member in snapshot.members}
    return tuple(_row_now(snapshot, row, members.get(row.name)) for row in rows)


def _row_now(snapshot: BuildSnapshot, row: BuildPodResult, member: Member | None) -> BuildPodResult:
    if member is None:
        return row if final_failure(row, snapshot.run.spec.backoff_limit) else gone(row)
    if row.state is PodState.SUCCEEDED and not is_done(row, member):
        return BuildPodResult(name=row.name, state=PodState.PENDING)
    return row


def _rows(snapshot: BuildSnapshot, replies: Replies) -> Rows:
    members = {member.name: member for member in snapshot.members}
    rows = []
    for row in _rows_now(snapshot):
        match replies.get(row.name):
            case _ if final_failure(row, snapshot.run.spec.backoff_limit):
                rows.append(row)  # it is why the run is being stopped
            case OperationStatus() as reply:
                rows.append(row_answered(row, reply, snapshot.run, snapshot.now))
            case Refused() as reply:
                rows.append(row_refused(row, reply))
            case reply if reply is not None or has_begun(row):
                rows.append(silent_row(members[row.name], row, reply) if row.name in members else row)
            case _:
                rows.append(row)
    return tuple(rows)


def _calls(snapshot: BuildSnapshot, rows: Rows, verb: Verb) -> tuple[Call, ...]:
    members = {member.name: member for member in snapshot.members}
    body = build_body(snapshot.run)
    return tuple(
        Call(endpoint, verb, _operation(snapshot, row), body)
        for row in rows
        if (endpoint := members[row.name].endpoint) is not None
    )


def _operation(snapshot: BuildSnapshot, row: BuildPodResult) -> str:
    return f"{snapshot.run.metadata.uid}.{attempt_to_call(row)}"


def _index(snapshot: BuildSnapshot) -> VectorIndex:
    assert snapshot.index is not None  # a missing one is a trouble that comes first
    return snapshot.index
