"""Deadlines: when a run ends that is not done, for both kinds of snapshots."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.domain.given import MEMBERS, NOW, ago, at_work, begun, delete_run, deleted, index, rebuild_run, rebuilt
from vectorindex.domain import build, delete
from vectorindex.domain.delete import DeleteSnapshot, build_request
from vectorindex.domain.members import NoAnswer
from vectorindex.domain.run import Begin, Replies, Run, RunSummary, Verb, Work
from vectorindex.wire.operations import OperationState

IDS = ("a", "b", "c")
DIGEST = build_request(delete_run(), IDS).digest
ROWS = [
    {"name": "vi-0", "state": "Succeeded", "volumeID": "volume-of-vi-0", "attempt": 1, "vectorsAfter": 90},
    {"name": "vi-1", "state": "Running", "volumeID": "volume-of-vi-1", "attempt": 1},
    {"name": "vi-2", "state": "Pending"},
]
FRAME: dict[str, Any] = {"now": NOW, "index": index(), "members": MEMBERS, "last_write": NOW - timedelta(seconds=10)}


def rebuilding(limit: int | None, began: float) -> build.BuildSnapshot:
    spec: dict[str, Any] = {} if limit is None else {"activeDeadlineSeconds": limit}
    run = rebuild_run(begun("Stopping", pods=ROWS) | {"startTime": ago(began)}, **spec)
    return build.BuildSnapshot(**FRAME, run=run, ahead=None)


def deleting(limit: int | None, began: float) -> DeleteSnapshot:
    spec: dict[str, Any] = {} if limit is None else {"activeDeadlineSeconds": limit}
    rows = [{"name": "vi-0", "state": "Succeeded", "volumeID": "volume-of-vi-0", "deletedCount": 3}]
    run = delete_run(begun("Stopping", pods=rows, requestDigest=DIGEST) | {"startTime": ago(began)}, **spec)
    return DeleteSnapshot(**FRAME, run=run, request=build_request(run, IDS))


def end(summary: RunSummary[Any]) -> tuple[str, str]:
    condition = summary.status.condition("Succeeded")
    assert condition is not None
    assert summary.again is None
    return condition.reason, condition.message


@pytest.mark.parametrize(
    ("limit", "began", "stops"),
    [
        pytest.param(60, 59, False, id="just before"),
        pytest.param(60, 60, True, id="reached"),
        pytest.param(None, 86_399, False, id="a day is the default"),
        pytest.param(None, 86_400, True, id="a day has passed"),
    ],
)
def test_a_build_is_stopped_at_its_deadline(limit: int | None, began: float, stops: bool) -> None:
    work = build.decide(rebuilding(limit, began))
    assert isinstance(work, Work)
    verbs = [(call.pod, call.verb) for call in work.calls]
    assert verbs == ([("vi-1", Verb.CANCEL), ("vi-2", Verb.CANCEL)] if stops else [("vi-1", Verb.LOOK)])


@pytest.mark.parametrize(
    ("limit", "began", "stops"),
    [(60, 59, False), (60, 60, True), (None, 1_000_000, False)],
    ids=["just before", "reached", "no limit"],
)
def test_a_delete_has_a_deadline_only_if_it_is_given_one(limit: int | None, began: float, stops: bool) -> None:
    work = delete.decide(deleting(limit, began))
    assert isinstance(work, Work)
    assert {call.verb for call in work.calls} == ({Verb.CANCEL} if stops else {Verb.LOOK, Verb.START})


def test_a_deadline_before_the_start_does_not_count() -> None:
    run = rebuild_run({"observedGeneration": 1}, created=1_000, activeDeadlineSeconds=1)
    assert build.decide(build.BuildSnapshot(**FRAME, run=run, ahead=None)) == Begin()


@pytest.mark.parametrize(
    ("replies", "reason", "message"),
    [
        pytest.param(
            {
                "vi-1": at_work(1, 40, state=OperationState.CANCELLED),
                "vi-2": at_work(2, 0, state=OperationState.CANCELLED),
            },
            "DeadlineExceeded",
            "not done within 60 seconds (spec.activeDeadlineSeconds); done on vi-0; not done on vi-1, vi-2",
            id="in the middle",
        ),
        pytest.param(
            {"vi-1": NoAnswer("connection refused"), "vi-2": at_work(2, 0, state=OperationState.CANCELLED)},
            "DeadlineExceeded",
            "not done within 60 seconds (spec.activeDeadlineSeconds); done on vi-0; not done on vi-2; "
            "no answer from vi-1: what runs there is cancelled later",
            id="a pod is down",
        ),
        pytest.param(
            {"vi-1": rebuilt(1), "vi-2": rebuilt(2)},
            "Completed",
            "rebuilt 3 pods; recall 0.9000 before, 0.9500 after",
            id="done all the same",
        ),
    ],
)
def test_a_build_at_its_deadline_says_who_has_done_it(replies: Replies, reason: str, message: str) -> None:
    seen = rebuilding(60, 61)
    assert end(build.summarize(seen, build.decide(seen), replies)) == (reason, message)


def test_a_delete_at_its_deadline_counts_what_was_deleted() -> None:
    seen = deleting(60, 61)
    replies: Replies = {
        "vi-0": deleted(0, True, True, False),
        "vi-1": NoAnswer("connection refused"),
        "vi-2": deleted(2, state=OperationState.CANCELLED, result=None),
    }
    summary = delete.summarize(seen, delete.decide(seen), replies)
    assert end(summary) == (
        "DeadlineExceeded",
        "not done within 60 seconds (spec.activeDeadlineSeconds); done on vi-0; not done on vi-2; no answer from vi-1: "
        "what runs there is cancelled later",
    )
    assert (summary.status.deleted_count, summary.status.not_found_count) == (2, None)


def test_a_delete_that_every_pod_has_done_by_its_deadline_is_completed() -> None:
    seen = deleting(60, 61)
    replies = {f"vi-{ordinal}": deleted(ordinal, True, True, False) for ordinal in range(3)}
    assert end(delete.summarize(seen, delete.decide(seen), replies))[0] == "Completed"


def test_the_deadline_is_not_slept_through() -> None:
    seen = rebuilding(60, 59)
    down = {"vi-1": NoAnswer("connection refused")}
    seen = build.BuildSnapshot(**{**vars(seen), "last_write": NOW - timedelta(seconds=59)})
    assert build.summarize(seen, build.decide(seen), down).again == 1.0
    waiting = deleting(60, 58)
    waiting = DeleteSnapshot(**{**vars(waiting), "last_write": NOW - timedelta(seconds=58)})
    assert delete.summarize(waiting, delete.decide(waiting), {}).again == 2.0


@pytest.mark.parametrize(
    ("reason", "since", "ends"),
    [
        pytest.param("Running", 3_600, False, id="the first time"),
        pytest.param("Stopping", 4, False, id="for four seconds"),
        pytest.param("Stopping", 5, True, id="for five seconds"),
        pytest.param("Stopping", -3_600, True, id="the API server's clock is an hour ahead"),
    ],
)
def test_an_answer_that_was_lost_is_waited_for_a_while(reason: str, since: float, ends: bool) -> None:
    """The pod is up, or nobody would have called it; so what it has done can be known."""
    rows = [{"name": "vi-0", "state": "Running", "attempt": 1, "volumeID": "volume-of-vi-0"}]
    run = rebuild_run(begun(reason, pods=rows), cancel=True)
    frame = {**FRAME, "last_write": NOW - timedelta(seconds=since)}
    seen = build.BuildSnapshot(**frame, run=run, ahead=None)
    summary = build.summarize(seen, build.decide(seen), {"vi-0": NoAnswer("no answer")})
    condition = summary.status.condition("Succeeded")
    assert condition is not None
    assert (condition.reason, summary.again) == (("Cancelled", None) if ends else ("Stopping", 1.0))


DELETION = {"deletion_timestamp": NOW}


def being_deleted(run: Run) -> Any:
    """Somebody else's finalizer keeps the object."""
    return run.model_copy(update={"metadata": run.metadata.model_copy(update=DELETION)})


def test_a_run_whose_object_is_being_deleted_is_cancelled() -> None:
    new = build.BuildSnapshot(**FRAME, run=being_deleted(rebuild_run()), ahead=None)
    assert end(build.summarize(new, build.decide(new), {})) == ("Cancelled", "cancelled before any pod was called")
    seen = rebuilding(None, 5)
    seen = replace(seen, run=being_deleted(seen.run))
    replies = {f"vi-{n}": at_work(n, 0, state=OperationState.CANCELLED) for n in (1, 2)}
    words = "cancelled, since the object is being deleted; done on vi-0; not done on vi-1, vi-2"
    assert end(build.summarize(seen, build.decide(seen), replies)) == ("Cancelled", words)
    begun_delete = deleting(None, 5)
    begun_delete = replace(begun_delete, run=being_deleted(begun_delete.run))
    work = delete.decide(begun_delete)
    assert isinstance(work, Work)
    assert {call.verb for call in work.calls} == {Verb.CANCEL}
