"""A build that fails on a pod: what is tried again, when, as which operation, and what ends the run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.domain.given import MEMBERS, NOW, ago, at_work, begun, index, member, rebuild_run, rebuilt
from vectorindex.api import IndexRebuild
from vectorindex.api.common import Condition
from vectorindex.domain.build import BuildSnapshot, decide, summarize
from vectorindex.domain.members import NoAnswer
from vectorindex.domain.run import Call, Refused, Replies, RunSummary, Verb, Wait, Work
from vectorindex.wire.operations import OperationState, OperationStatus

SERVES = {"name": "vi-1", "state": "Pending"}
DOWN = (member(0), member(1, NoAnswer("connection refused"), ready=False))


def snapshot(run: IndexRebuild, **changes: Any) -> BuildSnapshot:
    fields: dict[str, Any] = {
        "now": NOW,
        "run": run,
        "index": index(),
        "members": MEMBERS[:2],
        "last_write": None,
        "ahead": None,
    }
    return BuildSnapshot(**fields | changes)


def run_with(backoff_limit: int = 3, **row: Any) -> IndexRebuild:
    rows = [{"name": "vi-0", "volumeID": "volume-of-vi-0", **row}, SERVES]
    return rebuild_run(begun(pods=rows), backoffLimit=backoff_limit)


def failed(reason: str = "BuildFailed", attempt: int = 1) -> OperationStatus:
    answer = at_work(0, 40, id=f"uid-of-run.{attempt}", reason=reason, message="the builder ended")
    return answer.model_copy(update={"state": OperationState.FAILED})


def waits_for_attempt(number: int, left: float, **row: Any) -> IndexRebuild:
    retry = (NOW + timedelta(seconds=left)).isoformat()
    row = {"state": "Failed", "reason": "BuildFailed", "message": "the builder ended", **row}
    return run_with(attempt=number - 1, retryTime=retry, **row)


def after(run: IndexRebuild, replies: Replies) -> RunSummary[Any]:
    return summarize(snapshot(run), Work(()), replies)


def stated(summary: RunSummary[Any]) -> Condition:
    condition: Condition | None = summary.status.condition("Succeeded")
    assert condition is not None
    return condition


def calls(run: IndexRebuild, **changes: Any) -> list[tuple[str, Verb, str]]:
    work = decide(snapshot(run, **changes))
    assert isinstance(work, Work)
    return [(call.pod, call.verb, call.operation) for call in work.calls]


@pytest.mark.parametrize(("attempt", "least", "most"), [(1, 5, 10), (2, 10, 20), (3, 20, 40), (10, 180, 360)])
def test_a_failed_build_is_tried_again_after_a_time_that_doubles(attempt: int, least: float, most: float) -> None:
    run = run_with(state="Running", attempt=attempt, backoff_limit=20)
    summary = after(run, {"vi-0": failed(attempt=attempt)})
    [row, _] = summary.status.pods
    assert row.retry_time is not None
    left = (row.retry_time - NOW).total_seconds()
    assert least <= left <= most
    assert summary.again == left
    assert (row.state, row.attempt, row.reason) == ("Failed", attempt, "BuildFailed")
    assert stated(summary).reason == "Retrying"
    words = f"pod vi-0 (1 of 2) failed attempt {attempt} of 21: the builder ended; the next one begins at "
    assert stated(summary).message == f"{words}{row.retry_time:%H:%M:%S} UTC"


def test_pods_that_failed_together_do_not_come_back_together() -> None:
    times = set()
    for number in range(20):
        run = run_with(state="Running", attempt=4, backoff_limit=20)
        run = run.model_copy(update={"metadata": run.metadata.model_copy(update={"uid": f"run-{number}"})})
        times.add(after(run, {"vi-0": failed(attempt=4)}).status.pods[0].retry_time)
    assert len(times) > 10


@pytest.mark.parametrize(
    ("reason", "retried"),
    [
        ("BuildFailed", True),
        ("SomethingNew", True),
        ("RecallRegressed", False),
        ("InvalidRequest", False),
        ("InsufficientMemory", False),
        ("InsufficientStorage", False),
        ("IndexCorrupt", False),
        ("RestartLimitExceeded", False),
    ],
)
def test_what_would_fail_again_is_not_tried_again(reason: str, retried: bool) -> None:
    summary = after(run_with(state="Running", attempt=1), {"vi-0": failed(reason)})
    assert (summary.status.pods[0].retry_time is not None) is retried
    assert (stated(summary).reason == "Retrying") is retried


@pytest.mark.parametrize(("limit", "attempt", "last"), [(0, 1, True), (3, 3, False), (3, 4, True)])
def test_the_limit_counts_the_attempts_after_the_first(limit: int, attempt: int, last: bool) -> None:
    step = after(run_with(limit, state="Running", attempt=attempt), {"vi-0": failed(attempt=attempt)})
    assert (step.status.pods[0].retry_time is None) is last
    if last:
        run = rebuild_run(step.status.to_dict(), backoffLimit=limit)
        cancelled = at_work(1, 0, state=OperationState.CANCELLED)
        ended = summarize(snapshot(run), decide(snapshot(run)), {"vi-1": cancelled})
        assert ended.again is None
        assert (stated(ended).status, stated(ended).reason) == ("False", "BackoffLimitExceeded")
        words = f"pod vi-0 failed attempt {attempt} of {limit + 1}: the builder ended; not done on vi-0, vi-1"
        assert stated(ended).message == words


@pytest.mark.parametrize("limit", [0, 3])
def test_a_request_that_was_refused_is_no_attempt(limit: int) -> None:
    step = after(run_with(limit, state="Pending"), {"vi-0": Refused("too large")})
    run = rebuild_run(step.status.to_dict(), backoffLimit=limit)
    cancelled = at_work(1, 0, state=OperationState.CANCELLED)
    ended = summarize(snapshot(run), decide(snapshot(run)), {"vi-1": cancelled})
    assert (stated(ended).status, stated(ended).reason) == ("False", "OperationFailed")
    assert stated(ended).message.startswith("pod vi-0: it refuses the request: too large; ")


def test_the_next_attempt_is_another_operation_once_it_is_due() -> None:
    assert calls(waits_for_attempt(2, left=3)) == []
    assert calls(waits_for_attempt(2, left=0)) == [("vi-0", Verb.START, "uid-of-run.2")]
    begun = after(waits_for_attempt(2, left=0), {"vi-0": at_work(0, 1, id="uid-of-run.2")})
    [row, _] = begun.status.pods
    assert (row.state, row.attempt, row.retry_time, row.reason, row.start_time) == ("Running", 2, None, None, NOW)
    assert calls(rebuild_run(begun.status.to_dict())) == [("vi-0", Verb.LOOK, "uid-of-run.2")]


def test_an_attempt_whose_start_was_not_answered_is_started_again() -> None:
    """It may run, or not; the one before it would be reported as failed once more."""
    step = after(waits_for_attempt(2, left=0), {"vi-0": NoAnswer("connection reset")})
    assert (step.status.pods[0].state, step.status.pods[0].attempt) == ("Unreachable", 1)
    assert calls(rebuild_run(step.status.to_dict())) == [("vi-0", Verb.START, "uid-of-run.2")]


def test_the_next_attempt_begins_only_while_every_pod_serves() -> None:
    decision = decide(snapshot(waits_for_attempt(2, left=0), members=DOWN))
    assert isinstance(decision, Wait)
    assert decision.reason == "IndexNotReady"


def test_a_pod_that_waits_keeps_its_place_and_the_others_go_on() -> None:
    two = index(maintenance={"maxConcurrentPods": 2})
    assert calls(waits_for_attempt(2, left=5)) == []
    assert calls(waits_for_attempt(2, left=5), index=two) == [("vi-1", Verb.START, "uid-of-run.1")]


def test_what_has_succeeded_in_the_end_tells_nothing_of_the_failures() -> None:
    status = after(waits_for_attempt(2, left=0), {"vi-0": rebuilt(0)}).status
    [row, _] = status.pods
    assert (row.state, row.attempt, row.reason, row.retry_time) == ("Succeeded", 2, None, None)


def test_cancelling_reaches_the_attempt_that_may_have_begun() -> None:
    run = waits_for_attempt(2, left=-1)
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"cancel": True})})
    assert ("vi-0", Verb.CANCEL, "uid-of-run.2") in calls(run)


def test_the_last_look_at_an_attempt_is_not_forgotten_when_the_pod_is_gone() -> None:
    run = run_with(state="Running", attempt=2, startTime=ago(30))
    status = after(run, {"vi-0": NoAnswer("connection refused")}).status
    assert (status.pods[0].attempt, status.pods[0].start_time) == (2, NOW - timedelta(seconds=30))
    assert calls(rebuild_run(status.to_dict())) == [("vi-0", Verb.LOOK, "uid-of-run.2")]


def test_a_call_is_of_the_pods_own_attempt() -> None:
    rows = [
        {"name": "vi-0", "state": "Running", "attempt": 3, "volumeID": "volume-of-vi-0"},
        {"name": "vi-1", "state": "Running", "attempt": 1, "volumeID": "volume-of-vi-1"},
    ]
    work = decide(snapshot(rebuild_run(begun(pods=rows))))
    assert isinstance(work, Work)
    assert [each.operation for each in work.calls if isinstance(each, Call)] == ["uid-of-run.3", "uid-of-run.1"]
