"""A run whose index, pods or volumes are not those that it began with any more: it ends, once, and says why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.domain.building import FAILED, called, row, snapshot, started
from tests.unit.domain.given import (
    MEMBERS,
    NOW,
    RUN_UID,
    ago,
    at_work,
    begun,
    delete_run,
    deleted,
    index,
    member,
    rebuild_run,
    state,
)
from vectorindex.api import IndexRebuild
from vectorindex.domain import build, delete
from vectorindex.domain.delete import DeleteSnapshot, build_request
from vectorindex.domain.members import NoAnswer
from vectorindex.domain.run import Replies, RunSummary, Verb, Work
from vectorindex.wire.operations import OperationState

IDS = ("a", "b", "c")
DIGEST = build_request(delete_run(), IDS).digest
ANOTHER = index().model_copy(update={"metadata": index().metadata.model_copy(update={"uid": "other"})})
NO_INDEX: dict[str, Any] = {"index": None, "members": ()}
CREATED_AGAIN: dict[str, Any] = {"index": ANOTHER, "members": ()}
CANCELLED = {"state": OperationState.CANCELLED}


def step(seen: build.BuildSnapshot, replies: Replies | None = None) -> RunSummary[Any]:
    return build.summarize(seen, build.decide(seen), replies or {})


def deleting(status: dict[str, Any], **changes: Any) -> DeleteSnapshot:
    run = delete_run(status, cancel=changes.pop("cancel", False))
    frame = {"now": NOW, "index": index(), "members": MEMBERS, "last_write": NOW, "request": build_request(run, IDS)}
    return DeleteSnapshot(**{**frame, **changes}, run=run)


def stated(summary: RunSummary[Any]) -> tuple[str, str]:
    condition = summary.status.condition("Succeeded")
    assert condition is not None
    return condition.status, condition.reason


@pytest.mark.parametrize("changes", [NO_INDEX, CREATED_AGAIN], ids=["deleted", "created again"])
@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param({"cancel": True}, "Cancelled", id="cancelled"),
        pytest.param({"activeDeadlineSeconds": 1}, "DeadlineExceeded", id="past its deadline"),
        pytest.param({}, "IndexDeleted", id="neither"),
    ],
)
def test_a_run_whose_index_is_gone_has_not_succeeded(
    changes: dict[str, Any], spec: dict[str, Any], reason: str
) -> None:
    run = started("Succeeded", "Running", "Pending", **spec)
    summary = step(snapshot(run, **changes))
    assert (*stated(summary), summary.again) == ("False", reason, None)
    states = [pod.state for pod in summary.status.pods]
    assert (states[0], "Gone" in states) == ("Succeeded", False)


def test_the_rows_of_a_cancelled_delete_whose_index_was_created_again_stay() -> None:
    rows = [row(0, "Succeeded", deletedCount=3), {"name": "vi-1", "state": "Pending"}]
    seen = deleting(begun(requestDigest=DIGEST, pods=rows), cancel=True, **CREATED_AGAIN)
    summary = delete.summarize(seen, delete.decide(seen), {})
    assert (*stated(summary), summary.again) == ("False", "Cancelled", None)
    assert [pod.state for pod in summary.status.pods] == ["Succeeded", "Pending"]


def test_a_build_that_failed_ends_although_the_pod_is_no_more() -> None:
    seen = snapshot(started("Succeeded", "Succeeded", "Running"), last_write=NOW)
    summary = step(seen, {"vi-2": FAILED.model_copy(update={"volume_id": "volume-of-vi-2"})})
    assert (*stated(summary), summary.again) == ("Unknown", "Stopping", 0.0)
    fewer = snapshot(rebuild_run(summary.status.to_dict()), members=MEMBERS[:2], last_write=NOW)
    summary = step(fewer)
    assert (*stated(summary), summary.again) == ("False", "RecallRegressed", None)


def test_a_delete_that_failed_ends_although_the_pod_is_no_more() -> None:
    failed = {"state": OperationState.FAILED, "reason": "DeleteLimitExceeded", "message": "too many", "result": None}
    replies: Replies = {**{f"vi-{n}": deleted(n, True, True, False) for n in range(2)}, "vi-2": deleted(2, **failed)}
    summary = delete.summarize(deleting(begun(requestDigest=DIGEST)), Work(()), replies)
    assert (*stated(summary), summary.again) == ("Unknown", "Stopping", 0.0)
    fewer = deleting(summary.status.to_dict(), members=MEMBERS[:2])
    summary = delete.summarize(fewer, delete.decide(fewer), {name: replies[name] for name in ("vi-0", "vi-1")})
    assert (*stated(summary), summary.again) == ("False", "DeleteLimitExceeded", None)
    assert summary.status.deleted_count == 2


REPLACED = (member(0, state("vi-0", volume_id="a new one")), *MEMBERS[1:])


def replaced(**spec: Any) -> IndexRebuild:
    rows = [row(0, "Succeeded", attempt=2, vectorsAfter=90), row(1, "Succeeded"), row(2, "Succeeded")]
    return rebuild_run(begun(pods=rows), **spec)


def test_what_a_pod_has_done_on_another_volume_is_not_shown_any_more() -> None:
    lost = step(snapshot(replaced(), members=REPLACED), {"vi-0": NoAnswer("connection refused")})
    assert (*stated(lost), lost.again) == ("Unknown", "PodsUnreachable", 1.0)
    assert (lost.status.pods[0].state, lost.status.pods[0].vectors_after) == ("Unreachable", None)
    seen = snapshot(rebuild_run(lost.status.to_dict()), members=REPLACED)
    assert called(build.decide(seen)) == ["vi-0"]


def test_a_pod_that_begins_anew_on_another_volume_is_cancelled_too() -> None:
    seen = snapshot(replaced(cancel=True), members=REPLACED)
    work = build.decide(seen)
    assert isinstance(work, Work)
    assert [(call.pod, call.verb, call.operation) for call in work.calls] == [("vi-0", Verb.CANCEL, f"{RUN_UID}.1")]
    summary = step(seen, {"vi-0": at_work(0, 0, volume_id="a new one", **CANCELLED)})
    assert (*stated(summary), summary.again) == ("False", "Cancelled", None)
    assert [pod.state for pod in summary.status.pods] == ["Cancelled", "Succeeded", "Succeeded"]


def test_why_a_run_stops_is_known_even_when_the_pod_where_somebody_cancelled_it_goes_silent() -> None:
    rows = [row(0, "Cancelled", attempt=1), row(1, "Running", attempt=1), row(2, "Pending")]
    run = rebuild_run(begun("Stopping", pods=rows) | {"startTime": ago(60)})
    seen = snapshot(run, last_write=NOW - timedelta(seconds=10))
    summary = step(seen, {"vi-0": NoAnswer("no answer"), "vi-1": at_work(1, 10), "vi-2": at_work(2, 0, **CANCELLED)})
    assert stated(summary) == ("Unknown", "Stopping")
    assert summary.status.pods[0].state == "Cancelled"
