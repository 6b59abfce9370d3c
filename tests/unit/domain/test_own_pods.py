"""Runs on pods of the user's own, which come and go as they like."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.domain import building
from tests.unit.domain.building import called, row
from tests.unit.domain.given import (
    MEMBERS,
    NOW,
    OWN_PODS,
    ago,
    at_work,
    begun,
    delete_run,
    deleted,
    index,
    member,
    rebuild_run,
    run_status,
)
from vectorindex.domain import build, delete
from vectorindex.domain.delete import DeleteSnapshot, build_request
from vectorindex.domain.members import Member
from vectorindex.domain.missing import with_missing
from vectorindex.domain.run import Replies, RunSummary, Work

DIGEST = build_request(delete_run(), ("a", "b", "c")).digest
INDEX = index(**OWN_PODS)
TWO = MEMBERS[:2]


def deleting(members: tuple[Member, ...], *rows: dict[str, Any], **changes: Any) -> DeleteSnapshot:
    """A delete that has begun, with ``rows``; without any it has not."""
    status = begun(requestDigest=DIGEST, pods=list(rows)) if rows else run_status()
    run = delete_run(status, **changes)
    known = with_missing(members, run.status.pods, NOW)
    return DeleteSnapshot(NOW, run, INDEX, known, NOW, build_request(run, ("a", "b", "c")))


def rebuilding(members: tuple[Member, ...], *rows: dict[str, Any], **changes: Any) -> build.BuildSnapshot:
    run = rebuild_run(begun(pods=list(rows)) if rows else run_status(), **changes)
    known = with_missing(members, run.status.pods, NOW)
    return building.snapshot(run, index=INDEX, members=known, last_write=NOW)


def step(seen: DeleteSnapshot | build.BuildSnapshot, replies: Replies | None = None) -> RunSummary[Any]:
    """One step; a pod that is called answers as in ``replies``, if it does."""
    decision = delete.decide(seen) if isinstance(seen, DeleteSnapshot) else build.decide(seen)
    asked = called(decision) if isinstance(decision, Work) else []
    answered = {pod: reply for pod, reply in (replies or {}).items() if pod in asked}
    if isinstance(seen, DeleteSnapshot):
        return delete.summarize(seen, decision, answered)
    return build.summarize(seen, decision, answered)


def said(summary: RunSummary[Any]) -> tuple[str, str, str]:
    condition = summary.status.condition("Succeeded")
    assert condition is not None
    return condition.status, condition.reason, condition.message


def states(status: Any) -> dict[str, str]:
    return {each.name: each.state.value for each in status.pods}


FOUND: Replies = {f"vi-{ordinal}": deleted(ordinal, True, True, False) for ordinal in range(3)}
PENDING = tuple(row(ordinal, "Pending") for ordinal in range(3))
SUCCEEDED = row(2, "Succeeded", deletedCount=2, notFoundCount=1)


def test_a_delete_waits_for_a_pod_that_is_not_there_any_more() -> None:
    summary = step(deleting(TWO, *PENDING), FOUND)
    waiting = "waiting for vi-2 (does not exist any more); 2 of 3 pods confirmed"
    assert said(summary) == ("Unknown", "PodsUnreachable", waiting)
    assert states(summary.status) == {"vi-0": "Succeeded", "vi-1": "Succeeded", "vi-2": "Unreachable"}
    assert [each.missing_time for each in summary.status.pods] == [None, None, NOW]


def test_a_pod_that_has_deleted_and_is_not_there_any_more_is_waited_for_too() -> None:
    """It may come back, on a volume of before."""
    summary = step(deleting(TWO, *PENDING[:2], SUCCEEDED), FOUND)
    assert said(summary)[:2] == ("Unknown", "PodsUnreachable")
    assert (summary.status.pods[2].state, summary.status.pods[2].missing_time) == ("Succeeded", NOW)


@pytest.mark.parametrize(
    ("missing", "state"),
    [
        pytest.param(row(2, "Unreachable", missingTime=ago(60)), "Gone", id="it had not deleted"),
        pytest.param({**SUCCEEDED, "missingTime": ago(60)}, "Succeeded", id="it had deleted"),
    ],
)
def test_a_delete_is_done_without_a_pod_that_is_gone_for_a_minute(missing: dict[str, Any], state: str) -> None:
    summary = step(deleting(TWO, *PENDING[:2], missing), FOUND)
    assert said(summary)[:2] == ("True", "Completed")
    assert states(summary.status)["vi-2"] == state
    assert summary.status.deleted_count == 2


def test_what_a_pod_that_is_gone_says_for_people() -> None:
    summary = step(deleting(TWO, *PENDING[:2], row(2, "Unreachable", missingTime=ago(60))), FOUND)
    assert summary.status.pods[2].message == "removed: there was no such pod for a minute"


def test_a_run_looks_again_when_a_pod_is_gone_for_good() -> None:
    seen = deleting(TWO, *PENDING[:2], row(2, "Unreachable", missingTime=ago(57)))
    assert step(replace(seen, last_write=NOW - timedelta(seconds=57)), FOUND).again == 3.0


def test_a_pod_that_comes_back_is_asked_again() -> None:
    rows = (*PENDING[:2], row(2, "Unreachable", missingTime=ago(30)))
    seen = deleting(MEMBERS, *rows)
    assert called(delete.decide(seen)) == ["vi-0", "vi-1", "vi-2"]
    summary = step(seen, FOUND)
    assert said(summary)[:2] == ("True", "Completed")
    assert [each.missing_time for each in summary.status.pods] == [None] * 3


def test_a_pod_that_comes_back_after_it_was_gone_is_asked_as_long_as_the_delete_runs() -> None:
    seen = deleting(MEMBERS, *PENDING[:2], row(2, "Gone", missingTime=ago(90)))
    assert called(delete.decide(seen)) == ["vi-0", "vi-1", "vi-2"]


def test_a_pod_that_comes_while_a_delete_runs_deletes_too() -> None:
    seen = deleting(MEMBERS, *PENDING[:2])
    assert said(step(seen, {"vi-0": FOUND["vi-0"], "vi-1": FOUND["vi-1"]}))[:2] == ("Unknown", "PodsUnreachable")
    assert states(step(seen, FOUND).status)["vi-2"] == "Succeeded"


def test_a_delete_without_any_pod_does_not_begin() -> None:
    summary = step(deleting(()))
    assert said(summary) == ("Unknown", "PodsUnreachable", "no pod matches spec.podSelector")
    assert (summary.status.start_time, summary.status.request_digest) == (None, None)


@pytest.mark.parametrize("spec", [{}, {"dryRun": True}, {"maxDeletePercent": 50}], ids=str)
def test_a_delete_whose_pods_are_all_gone_is_not_done(spec: dict[str, Any]) -> None:
    digest = build_request(delete_run(**spec), ("a", "b", "c")).digest
    run = delete_run(begun(requestDigest=digest, pods=[row(0, "Unreachable", missingTime=ago(61))]), **spec)
    summary = step(DeleteSnapshot(NOW, run, INDEX, (), NOW, build_request(run, ("a", "b", "c"))))
    assert said(summary) == ("Unknown", "PodsUnreachable", "no pod matches spec.podSelector any more")
    assert states(summary.status) == {"vi-0": "Gone"}
    assert summary.status.preview_time is None


def test_a_cancelled_delete_whose_pods_are_all_gone_ends() -> None:
    summary = step(deleting((), row(0, "Unreachable", missingTime=ago(61)), cancel=True))
    assert said(summary)[:2] == ("False", "Cancelled")


def test_there_is_always_room_for_the_pods_that_are_there() -> None:
    gone = [{"name": f"old-{number}", "state": "Gone", "missingTime": ago(90)} for number in range(256)]
    summary = step(deleting(MEMBERS, *gone), FOUND)
    assert said(summary)[:2] == ("True", "Completed")
    assert len(summary.status.pods) == 256
    assert list(states(summary.status))[:3] == ["vi-0", "vi-1", "vi-2"]


def test_a_rebuild_does_not_begin_without_pods_nor_while_one_is_being_removed() -> None:
    summary = step(rebuilding(()))
    assert said(summary)[1:] == (
        "IndexNotReady",
        "waiting until VectorIndex vi is Ready: no pod matches spec.podSelector",
    )
    leaving = replace(member(2, ready=False), leaving=True)
    summary = step(rebuilding((*TWO, leaving)))
    assert said(summary)[1:] == ("IndexNotReady", "waiting until VectorIndex vi is Ready: vi-2 is being removed")


RUNNING = (row(0, "Succeeded"), row(1, "Running", attempt=1), row(2, "Pending"))


def test_a_pod_vanishes_while_it_rebuilds() -> None:
    present = (MEMBERS[0], MEMBERS[2])
    summary = step(rebuilding(present, *RUNNING))
    waiting = "waiting for pod vi-1 (2 of 3): does not exist any more"
    assert said(summary) == ("Unknown", "PodsUnreachable", waiting)
    assert (summary.status.pods[1].state, summary.status.pods[1].missing_time) == ("Unreachable", NOW)
    rows = [RUNNING[0], row(1, "Unreachable", attempt=1, missingTime=ago(60)), RUNNING[2]]
    seen = rebuilding(present, *rows)
    assert called(build.decide(seen)) == ["vi-2"]
    summary = step(seen, {"vi-2": at_work(2, 10)})
    assert states(summary.status) == {"vi-0": "Succeeded", "vi-1": "Gone", "vi-2": "Running"}


def test_a_pod_that_has_its_new_graph_and_vanishes_holds_the_others_up_for_a_minute_only() -> None:
    rows = [row(0, "Succeeded"), row(1, "Pending")]
    summary = step(rebuilding((MEMBERS[1],), *rows))
    assert said(summary)[1] == "IndexNotReady"
    assert summary.status.pods[0].missing_time == NOW
    seen = rebuilding((MEMBERS[1],), row(0, "Succeeded", missingTime=ago(60)), rows[1])
    assert called(build.decide(seen)) == ["vi-1"]


def test_a_rebuild_takes_the_pods_that_were_there_when_it_began() -> None:
    seen = rebuilding(MEMBERS, row(0, "Succeeded"), row(1, "Succeeded"))
    summary = step(seen)
    assert said(summary)[:2] == ("True", "Completed")
    assert list(states(summary.status)) == ["vi-0", "vi-1"]


def test_a_rebuild_whose_pods_are_all_gone_has_done_nothing() -> None:
    gone = [row(ordinal, "Unreachable", missingTime=ago(61)) for ordinal in range(2)]
    summary = step(rebuilding((MEMBERS[2],), *gone))
    assert said(summary)[:2] == ("False", "PodsGone")
    assert set(states(summary.status).values()) == {"Gone"}
    assert said(step(rebuilding((), *gone)))[:2] == ("False", "PodsGone")
    assert said(step(rebuilding((), *gone, cancel=True)))[:2] == ("False", "Cancelled")


def test_the_last_pods_of_a_rebuild_are_gone_but_one_has_done_its_part() -> None:
    rows = [row(0, "Succeeded", missingTime=ago(61)), row(1, "Pending", missingTime=ago(61))]
    summary = step(rebuilding((), *rows))
    assert said(summary)[:2] == ("True", "Completed")
    assert states(summary.status) == {"vi-0": "Succeeded", "vi-1": "Gone"}
