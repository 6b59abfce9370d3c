"""Dry runs, and deletes with a limit: every pod is asked before the first one is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.given import MEMBERS, NOW, begun, delete_run, deleted, index, member
from vectorindex.api import IndexDelete
from vectorindex.api.common import Condition
from vectorindex.domain.delete import DeleteSnapshot, build_request, decide, summarize
from vectorindex.domain.members import NoAnswer
from vectorindex.domain.run import Refused, Replies, RunSummary, Verb, Work
from vectorindex.wire.operations import DeletePreview, pack_bitmap

IDS = ("a", "b", "c")


def run(status: dict[str, Any] | None = None, **spec: Any) -> IndexDelete:
    digest = build_request(delete_run(**spec), IDS).digest
    return delete_run(begun(requestDigest=digest) | (status or {}), **spec)


def snapshot(of: IndexDelete, **changes: Any) -> DeleteSnapshot:
    fields: dict[str, Any] = {"now": NOW, "run": of, "index": index(), "members": MEMBERS, "last_write": NOW}
    return DeleteSnapshot(**fields | {"request": build_request(of, IDS)} | changes)


def preview(ordinal: int, *found: bool, live: int = 10, **changes: Any) -> DeletePreview:
    volume = f"volume-of-vi-{ordinal}"
    seen = DeletePreview(volume_id=volume, live=live, deleted=sum(found), bitmap=pack_bitmap(found))
    return seen.model_copy(update=changes)


ALL: Replies = {
    "vi-0": preview(0, True, False, False),
    "vi-1": preview(1, True, True, False),
    "vi-2": preview(2, False, False, False),
}


def verbs(of: IndexDelete, **changes: Any) -> list[Verb]:
    work = decide(snapshot(of, **changes))
    assert isinstance(work, Work)
    return [call.verb for call in work.calls]


def stated(summary: RunSummary[Any]) -> Condition:
    condition: Condition | None = summary.status.condition("Succeeded")
    assert condition is not None
    return condition


@pytest.mark.parametrize(
    ("spec", "status", "verb"),
    [
        pytest.param({}, {}, Verb.START, id="no limit"),
        pytest.param({"dryRun": True}, {}, Verb.PREVIEW, id="dry run"),
        pytest.param({"maxDeletePercent": 50}, {}, Verb.PREVIEW, id="limit"),
        pytest.param({"maxDeletePercent": 0}, {}, Verb.PREVIEW, id="limit of nothing"),
        pytest.param({"maxDeletePercent": 50}, {"previewTime": NOW.isoformat()}, Verb.START, id="let go"),
        pytest.param(
            {"maxDeletePercent": 50, "dryRun": True}, {"previewTime": NOW.isoformat()}, Verb.PREVIEW, id="dry for ever"
        ),
    ],
)
def test_pods_are_asked_before_they_are_told(spec: dict[str, Any], status: dict[str, Any], verb: Verb) -> None:
    assert verbs(run(status, **spec)) == [verb] * 3


def test_the_limit_goes_with_the_request() -> None:
    work = decide(snapshot(run({"previewTime": NOW.isoformat()}, maxDeletePercent=30)))
    assert isinstance(work, Work)
    assert {call.body.request.to_json()["max_delete_percent"] for call in work.calls if call.body} == {30}


def test_a_delete_within_its_limit_is_let_go_by_a_status_that_says_so() -> None:
    summary = summarize(snapshot(run(maxDeletePercent=20)), Work(()), ALL)
    assert summary.again == 0.0
    assert summary.status.preview_time == NOW
    assert (stated(summary).status, stated(summary).reason) == ("Unknown", "Running")
    assert [pod.state for pod in summary.status.pods] == ["Pending"] * 3
    assert summary.status.deleted_count is None
    assert verbs(delete_run(summary.status.to_dict(), maxDeletePercent=20)) == [Verb.START] * 3


def test_one_pod_that_would_lose_too_much_is_enough() -> None:
    summary = summarize(snapshot(run(maxDeletePercent=19)), Work(()), ALL)
    assert summary.again is None
    assert stated(summary).reason == "DeleteLimitExceeded"
    words = "pod vi-1: 2 of 10 items (20 %) would go, spec.maxDeletePercent is 19; nothing was deleted"
    assert stated(summary).message == words
    assert (summary.status.preview_time, summary.status.deleted_count) == (None, None)


@pytest.mark.parametrize("spec", [{"maxDeletePercent": 50}, {"dryRun": True}], ids=["limit", "dry run"])
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(NoAnswer("connection refused"), id="down"),
        pytest.param(preview(1, True, volume_id="another"), id="another volume"),
    ],
)
def test_a_pod_that_does_not_answer_holds_the_delete(spec: dict[str, Any], reply: Any) -> None:
    summary = summarize(snapshot(run(**spec)), Work(()), {**ALL, "vi-1": reply})
    assert summary.again is not None
    assert stated(summary).reason == "PodsUnreachable"
    assert "vi-1" in stated(summary).message
    assert summary.status.preview_time is None
    assert summary.status.pods[1].state == "Unreachable"


def test_a_pod_that_is_down_is_not_asked() -> None:
    down = (member(0), member(1, NoAnswer("connection refused"), ready=False), member(2))
    seen = snapshot(run(maxDeletePercent=50), members=down)
    summary = summarize(seen, decide(seen), {"vi-0": ALL["vi-0"], "vi-2": ALL["vi-2"]})
    assert stated(summary).reason == "PodsUnreachable"
    assert "nothing is deleted before every pod has said what would go" in stated(summary).message


def test_a_dry_run_ends_with_the_figures_of_the_delete() -> None:
    summary = summarize(snapshot(run(dryRun=True, returnNotFound=True)), Work(()), ALL)
    status = summary.status
    assert summary.again is None
    assert (stated(summary).status, stated(summary).reason) == ("True", "DryRun")
    assert stated(summary).message == "would delete 2 items on 3 pods; nothing was deleted"
    assert (status.deleted_count, status.not_found_count, status.not_found) == (2, 1, ("c",))
    assert [(pod.deleted_count, pod.not_found_count) for pod in status.pods] == [(1, 2), (2, 1), (0, 3)]
    assert (status.progress_percent, status.preview_time) == (100, None)


def test_a_dry_run_fails_where_the_delete_would() -> None:
    summary = summarize(snapshot(run(dryRun=True, maxDeletePercent=10)), Work(()), ALL)
    assert stated(summary).reason == "DeleteLimitExceeded"


def test_a_preview_that_is_refused_stops_the_run() -> None:
    summary = summarize(snapshot(run(maxDeletePercent=50)), Work(()), {**ALL, "vi-1": Refused("bad")})
    assert (stated(summary).reason, stated(summary).message) == ("Stopping", "pod vi-1: it refuses the request: bad")


def test_a_dry_run_that_is_cancelled_tells_the_pods_nothing() -> None:
    of = run(dryRun=True, cancel=True)
    assert verbs(of) == []
    assert stated(summarize(snapshot(of), Work(()), {})).reason == "Cancelled"


def test_once_it_is_let_go_it_is_a_delete_as_any_other() -> None:
    replies: Replies = {f"vi-{ordinal}": deleted(ordinal, True, True, False) for ordinal in range(3)}
    summary = summarize(snapshot(run({"previewTime": NOW.isoformat()}, maxDeletePercent=20)), Work(()), replies)
    assert (stated(summary).reason, summary.status.deleted_count) == ("Completed", 2)
