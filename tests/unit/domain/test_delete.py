"""An IndexDelete: what is done next, and what the pods' answers come to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.domain.given import (
    MEMBERS,
    NOW,
    UID,
    ago,
    begun,
    delete_run,
    deleted,
    index,
    member,
    missing,
    run_status,
)
from vectorindex.api import IndexDelete
from vectorindex.api.indexdelete import IndexDeleteStatus
from vectorindex.api.reasons import Reason
from vectorindex.domain.delete import DeleteSnapshot, Request, build_request, decide, summarize
from vectorindex.domain.ids import Missing
from vectorindex.domain.members import KeyPending, Member, NoAnswer, WrongIdentity
from vectorindex.domain.run import Begin, End, Refused, Verb, Wait, Work
from vectorindex.domain.verdicts import Verdict
from vectorindex.wire.operations import OperationState, OperationStatus

DIGEST = build_request(delete_run(), ("a", "b", "c")).digest
CONFIRMED = {"name": "vi-0", "state": "Succeeded", "volumeID": "volume-of-vi-0", "deletedCount": 3, "notFoundCount": 0}


def snapshot(run: IndexDelete, **changes: Any) -> DeleteSnapshot:
    fields: dict[str, Any] = {
        "now": NOW,
        "run": run,
        "index": index(),
        "members": MEMBERS,
        "last_write": None,
        "request": build_request(run, run.spec.external_ids or ("a", "b", "c")),
    }
    return DeleteSnapshot(**fields | changes)


def started(cancel: bool = False, **status: Any) -> IndexDelete:
    return delete_run(begun(requestDigest=DIGEST, **status), cancel=cancel)


NO_CONFIG_MAP = Missing(Reason.CONFIG_MAP_NOT_FOUND, "ConfigMap names does not exist")
NO_INDEX: dict[str, Any] = {"index": None, "members": ()}
ANOTHER_INDEX = {"index": index().model_copy(update={"metadata": index().metadata.model_copy(update={"uid": "other"})})}


@pytest.mark.parametrize(
    ("run", "changes", "decision", "reason", "words"),
    [
        pytest.param(
            delete_run(), NO_INDEX, Wait, "IndexNotFound", "vi does not exist", id="index missing, first look"
        ),
        pytest.param(
            delete_run(run_status(since=59)), NO_INDEX, Wait, "IndexNotFound", "", id="index missing for 59 s"
        ),
        pytest.param(
            delete_run(run_status(since=60)), NO_INDEX, End, "IndexNotFound", "within 60 s", id="index missing for 60 s"
        ),
        pytest.param(started(), NO_INDEX, End, "IndexDeleted", "was deleted", id="index deleted meanwhile"),
        pytest.param(started(), ANOTHER_INDEX, End, "IndexDeleted", UID, id="index created again"),
        pytest.param(
            delete_run(), {"request": NO_CONFIG_MAP}, Wait, "ConfigMapNotFound", "names", id="ConfigMap missing"
        ),
        pytest.param(
            delete_run(run_status(since=61)),
            {"request": NO_CONFIG_MAP},
            End,
            "InvalidRequest",
            "names",
            id="ConfigMap missing for 61 s",
        ),
        pytest.param(
            delete_run(),
            {"request": Verdict(Reason.INVALID_REQUEST, "holds no ID")},
            End,
            "InvalidRequest",
            "holds no ID",
            id="bad IDs",
        ),
        pytest.param(delete_run(cancel=True), {}, End, "Cancelled", "before any pod", id="cancelled before the start"),
    ],
)
def test_what_keeps_a_delete_from_its_work(
    run: IndexDelete, changes: dict[str, Any], decision: type[Verdict], reason: str, words: str
) -> None:
    decided = decide(snapshot(run, **changes))
    assert isinstance(decided, decision)
    assert decided.reason == reason
    assert words in decided.message


def test_the_digest_is_written_before_the_first_call() -> None:
    seen = snapshot(delete_run())
    assert decide(seen) == Begin()
    status = summarize(seen, Begin(), {}).status
    assert (status.request_digest, status.start_time, status.index_uid) == (DIGEST, NOW, UID)
    assert [pod.state for pod in status.pods] == ["Pending"] * 3


def test_every_pod_that_answers_as_this_index_is_called_ready_or_not() -> None:
    members = (member(0, ready=False), member(1, WrongIdentity("answers as another one")), missing(2))
    work = decide(snapshot(started(), members=members))
    assert isinstance(work, Work)
    assert [(call.pod, call.verb, call.operation) for call in work.calls] == [("vi-0", Verb.START, "uid-of-run")]


def test_a_pod_that_confirmed_is_asked_not_sent_the_ids_again() -> None:
    work = decide(snapshot(started(pods=[CONFIRMED])))
    assert isinstance(work, Work)
    assert [call.verb for call in work.calls] == [Verb.LOOK, Verb.START, Verb.START]


def test_counts_are_of_items_not_of_copies() -> None:
    run = delete_run(begun(requestDigest=DIGEST), returnNotFound=True)
    replies = {
        "vi-0": deleted(0, True, False, False),
        "vi-1": deleted(1, True, True, False),
        "vi-2": deleted(2, False, False, False),
    }
    status = summarize(snapshot(run), Work(()), replies).status
    assert (status.deleted_count, status.not_found_count, status.not_found) == (2, 1, ("c",))
    assert status.not_found_truncated is False
    assert [pod.deleted_count for pod in status.pods] == [1, 2, 0]
    assert (status.progress_percent, status.completion_time) == (100, NOW)


def test_at_most_a_hundred_missing_ids_are_listed() -> None:
    ids = [f"id-{number}" for number in range(150)]
    digest = build_request(delete_run(), tuple(ids)).digest
    run = delete_run(begun(requestDigest=digest), returnNotFound=True, externalIDs=ids)
    replies = {f"vi-{ordinal}": deleted(ordinal, *[False] * 150) for ordinal in range(3)}
    status = summarize(snapshot(run), Work(()), replies).status
    assert status.not_found == tuple(ids[:100])
    assert status.not_found_truncated is True


def failed(ordinal: int, reason: str, message: str = "it says why") -> OperationStatus:
    return deleted(ordinal, True, True, True, state=OperationState.FAILED, reason=reason, message=message, result=None)


@pytest.mark.parametrize(
    ("replies", "reason", "words", "again"),
    [
        pytest.param({}, "PodsUnreachable", "0 of 3 pods confirmed", True, id="nobody answers"),
        pytest.param(
            {"vi-0": deleted(0, True, True, True), "vi-1": NoAnswer("connection refused")},
            "PodsUnreachable",
            "vi-1 (connection refused)",
            True,
            id="one pod is down",
        ),
        pytest.param(
            {"vi-0": deleted(0, True, True, True), **dict.fromkeys(("vi-1", "vi-2"), KeyPending.because("unknown"))},
            "KeyPending",
            "vi-2 (does not accept the operator's token yet (unknown)",
            True,
            id="two pods do not know the key yet",
        ),
        pytest.param(
            {"vi-0": KeyPending.because("unknown"), "vi-1": NoAnswer("connection refused")},
            "PodsUnreachable",
            "vi-1 (connection refused)",
            True,
            id="one does not know the key, one is down",
        ),
        pytest.param(
            {f"vi-{n}": deleted(n, True, True, True) for n in range(3)},
            "Completed",
            "3 items on 3 pods",
            False,
            id="all",
        ),
        pytest.param(
            {
                **{f"vi-{n}": deleted(n, True, True, True) for n in range(2)},
                "vi-2": deleted(2, state=OperationState.RUNNING, result=None),
            },
            "Running",
            "2 of 3 pods confirmed",
            True,
            id="one pod is at work",
        ),
        pytest.param(
            {"vi-1": Refused("has another", other=True)},
            "Stopping",
            "vi-1: it has accepted another request of this run",
            True,
            id="another request",
        ),
        pytest.param({"vi-1": Refused("bad")}, "Stopping", "vi-1: it refuses the request: bad", True, id="refused"),
        pytest.param({"vi-2": failed(2, "IndexCorrupt")}, "Stopping", "vi-2: it says why", True, id="failed"),
        pytest.param(
            {f"vi-{n}": deleted(n, True, True, True, volume_id="new") for n in range(3)},
            "PodsUnreachable",
            "was replaced meanwhile",
            True,
            id="other volumes than those that were looked at",
        ),
    ],
)
def test_what_the_answers_come_to(replies: dict[str, Any], reason: str, words: str, again: bool) -> None:
    summary = summarize(snapshot(started()), Work(()), replies)
    condition = summary.status.condition("Succeeded")
    assert condition is not None
    assert condition.reason == reason
    assert words in condition.message
    assert (summary.again is not None) is again
    assert (summary.status.completion_time is None) is again


def after_a_failure(replies: dict[str, Any]) -> IndexDeleteStatus:
    """The status at the end, where the pods that did not fail have deleted, or are told not to: vi-0 and vi-1 have."""
    first = summarize(snapshot(started()), Work(()), replies)
    assert first.again == 0.0
    seen = snapshot(delete_run(first.status.to_dict()), last_write=NOW)
    work = decide(seen)
    assert isinstance(work, Work)
    assert {(call.pod, call.verb) for call in work.calls} == {
        (f"vi-{ordinal}", Verb.CANCEL) for ordinal in range(3) if f"vi-{ordinal}" not in replies
    }
    told = {
        "vi-0": deleted(0, True, False, False),
        "vi-1": deleted(1, True, True, False),
        "vi-2": deleted(2, state=OperationState.CANCELLED, result=None),
    }
    return summarize(seen, work, {call.pod: told[call.pod] for call in work.calls}).status


@pytest.mark.parametrize(
    ("replies", "reason", "message", "count"),
    [
        pytest.param(
            {"vi-1": Refused("has another", other=True)},
            "RequestChanged",
            "pod vi-1: it has accepted another request of this run; done on vi-0; not done on vi-1, vi-2",
            1,
            id="another request",
        ),
        pytest.param(
            {"vi-2": failed(2, "DeleteLimitExceeded", "3 of 4 items would go")},
            "DeleteLimitExceeded",
            "pod vi-2: 3 of 4 items would go; done on vi-0, vi-1; not done on vi-2",
            2,
            id="too much in its transaction",
        ),
        pytest.param(
            {"vi-2": failed(2, "NewReason")},
            "OperationFailed",
            "pod vi-2: it says why; done on vi-0, vi-1; not done on vi-2",
            2,
            id="unknown reason",
        ),
    ],
)
def test_a_pod_that_fails_stops_the_run_which_names_who_has_deleted(
    replies: dict[str, Any], reason: str, message: str, count: int
) -> None:
    status = after_a_failure(replies)
    condition = status.condition("Succeeded")
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == ("False", reason, message)
    assert (status.deleted_count, status.not_found_count) == (count, None)


@pytest.mark.parametrize("members", [MEMBERS[:1], (MEMBERS[0], member(1, NoAnswer("down")))], ids=["gone", "down"])
def test_why_a_run_is_stopped_is_known_even_when_the_pod_is_no_more(members: tuple[Member, ...]) -> None:
    step = summarize(snapshot(started(), members=MEMBERS[:2]), Work(()), {"vi-1": failed(1, "IndexCorrupt")})
    for _ in range(2):
        seen = snapshot(delete_run(step.status.to_dict()), members=members)
        step = summarize(seen, decide(seen), {"vi-0": deleted(0, state=OperationState.RUNNING, result=None)})
        condition = step.status.condition("Succeeded")
        assert condition is not None
        assert condition.reason == "Stopping"
        assert condition.message.startswith("pod vi-1: it says why; ")


def test_the_content_of_a_config_map_is_not_quoted_from_a_refusal() -> None:
    source = {"configMapKeyRef": {"name": "names", "key": "ids"}}
    run = delete_run(begun(requestDigest=DIGEST), externalIDsFrom=source)
    status = summarize(snapshot(run), Work(()), {"vi-0": Refused("'secret' is no ID")}).status
    assert "secret" not in str(status.to_dict())


def test_a_pod_that_was_removed_for_good_stays_listed_as_gone() -> None:
    rows = [CONFIRMED, {"name": "vi-1", "state": "Unreachable"}, {"name": "vi-2", "state": "Unreachable"}]
    seen = snapshot(started(pods=rows), members=MEMBERS[:1])
    status = summarize(seen, Work(()), {"vi-0": deleted(0, True, True, True)}).status
    assert [(pod.name, pod.state) for pod in status.pods] == [("vi-0", "Succeeded"), ("vi-1", "Gone"), ("vi-2", "Gone")]
    condition = status.condition("Succeeded")
    assert condition is not None
    assert condition.reason == "Completed"


def test_what_a_pod_confirmed_stands_when_it_goes_down() -> None:
    status = summarize(snapshot(started(pods=[CONFIRMED])), Work(()), {"vi-0": NoAnswer("connection refused")}).status
    assert (status.pods[0].state, status.pods[0].deleted_count) == ("Succeeded", 3)


@pytest.mark.parametrize(
    ("replies", "ended", "words"),
    [
        pytest.param(
            {"vi-1": deleted(1, state=OperationState.CANCELLED, result=None), "vi-2": deleted(2, True, True, True)},
            True,
            ["done on vi-0, vi-2", "not done on vi-1"],
            id="one had done it already",
        ),
        pytest.param(
            {"vi-1": NoAnswer("connection refused"), "vi-2": deleted(2, state=OperationState.CANCELLED, result=None)},
            True,
            ["done on vi-0", "not done on vi-2", "no answer from vi-1"],
            id="one does not answer",
        ),
        pytest.param(
            {"vi-1": deleted(1, state=OperationState.RUNNING, result=None)},
            False,
            ["until it is cancelled on vi-1"],
            id="not yet",
        ),
    ],
)
def test_cancelling_names_who_has_done_it(replies: dict[str, Any], ended: bool, words: list[str]) -> None:
    run = delete_run(begun(reason="Stopping", requestDigest=DIGEST, pods=[CONFIRMED]), cancel=True)
    seen = snapshot(run, last_write=NOW - timedelta(seconds=10))
    work = decide(seen)
    assert isinstance(work, Work)
    assert [(call.pod, call.verb) for call in work.calls] == [(f"vi-{ordinal}", Verb.CANCEL) for ordinal in range(3)]
    status = summarize(seen, work, replies).status
    condition = status.condition("Succeeded")
    assert condition is not None
    assert (condition.reason == "Cancelled") is ended
    assert all(each in condition.message for each in words)


@pytest.mark.parametrize(
    "request_now",
    [
        pytest.param(build_request(delete_run(), tuple(map(str, range(100)))), id="more IDs"),
        pytest.param(build_request(delete_run(), ("a",)), id="IDs changed"),
        pytest.param(NO_CONFIG_MAP, id="IDs removed"),
        pytest.param(Verdict(Reason.INVALID_REQUEST, "holds no ID"), id="IDs are malformed now"),
    ],
)
@pytest.mark.parametrize("cancel", [False, True], ids=["not cancelled", "cancelled too"])
def test_ids_that_change_stop_the_run_which_names_who_has_deleted(request_now: Request | Verdict, cancel: bool) -> None:
    seen = snapshot(started(pods=[CONFIRMED], cancel=cancel), request=request_now)
    work = decide(seen)
    assert isinstance(work, Work)
    assert [(call.pod, call.verb) for call in work.calls] == [(f"vi-{ordinal}", Verb.CANCEL) for ordinal in range(3)]
    # vi-1 had deleted, and its answer was lost.
    replies = {
        "vi-0": deleted(0, True, True, True),
        "vi-1": deleted(1, True, True, True),
        "vi-2": deleted(2, state=OperationState.CANCELLED, result=None),
    }
    status = summarize(seen, work, replies).status
    condition = status.condition("Succeeded")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "Cancelled" if cancel else "RequestChanged")
    assert condition.message.endswith("; done on vi-0, vi-1; not done on vi-2")
    assert (status.deleted_count, status.not_found_count) == (3, None)


@pytest.mark.parametrize(
    ("request_now", "names"),
    [
        pytest.param(build_request(delete_run(), ("a", "b", "c")), ("c",), id="as it was"),
        pytest.param(build_request(delete_run(), tuple(map(str, range(100)))), None, id="more IDs"),
        pytest.param(NO_CONFIG_MAP, None, id="IDs removed"),
    ],
)
def test_what_every_pod_has_done_is_completed_whatever_the_ids_are_by_now(
    request_now: Request | Verdict, names: tuple[str, ...] | None
) -> None:
    """The status that would have said so was not written, and what was asked for is known to the pods only."""
    run = delete_run(begun(requestDigest=DIGEST, pods=[CONFIRMED]), returnNotFound=True)
    seen = snapshot(run, request=request_now)
    replies = {f"vi-{ordinal}": deleted(ordinal, True, ordinal == 1, False) for ordinal in range(3)}
    status = summarize(seen, decide(seen), replies).status
    condition = status.condition("Succeeded")
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "Completed")
    assert condition.message == "deleted 2 items on 3 pods; 1 ID not found on any"
    assert (status.deleted_count, status.not_found_count, status.not_found) == (2, 1, names)


@pytest.mark.parametrize(
    ("replies", "count", "words"),
    [
        pytest.param({"vi-0": deleted(0, True, True, True)}, 3, "", id="its pod says so again"),
        pytest.param({}, 3, "; deleted at least 3 items", id="its pod is down"),
        pytest.param(
            {"vi-0": NoAnswer("down"), "vi-2": deleted(2, True, False, False)},
            3,
            "; deleted at least 3 items",
            id="another one says less",
        ),
    ],
)
def test_what_a_pod_deleted_counts_at_the_end_although_it_is_down(
    replies: dict[str, Any], count: int, words: str
) -> None:
    run = delete_run(begun(reason="Stopping", requestDigest=DIGEST, pods=[CONFIRMED]), cancel=True)
    seen = snapshot(run, last_write=NOW - timedelta(seconds=10))
    summary = summarize(seen, decide(seen), replies)
    condition = summary.status.condition("Succeeded")
    assert condition is not None
    assert (condition.reason, summary.again, summary.status.deleted_count) == ("Cancelled", None, count)
    assert condition.message.partition("; deleted at least ")[1:] == words.partition("; deleted at least ")[1:]
    assert summary.status.not_found_count is None


def test_conditions_of_a_run_under_way_and_done() -> None:
    def stated(status: Any) -> dict[str, str]:
        return {condition.type: condition.status.value for condition in status.conditions}

    waiting = summarize(snapshot(started()), Work(()), {}).status
    messages = {condition.type: condition.message for condition in waiting.conditions}
    assert messages["Reconciling"] == messages["Succeeded"] != ""
    assert messages["Ready"] == messages["Stalled"] == ""
    assert stated(waiting) == {"Ready": "False", "Reconciling": "True", "Stalled": "False", "Succeeded": "Unknown"}
    kept = waiting.condition("Succeeded")
    assert kept is not None
    assert kept.last_transition_time.isoformat() == ago(10)  # still Unknown
    failed_one = after_a_failure({"vi-0": Refused("bad")})
    assert stated(failed_one) == {"Ready": "False", "Reconciling": "False", "Stalled": "True", "Succeeded": "False"}


@pytest.mark.parametrize(
    ("before", "status", "reason"),
    [(3, "True", "AlreadyApplied"), (2, "True", "Completed"), (0, "True", "Completed")],
    ids=["every pod", "some pods", "no pod"],
)
def test_what_every_pod_has_done_before_is_told_from_what_was_done_now(before: int, status: str, reason: str) -> None:
    run = delete_run(begun(requestDigest=DIGEST), operationID="release-7")
    replies = {
        f"vi-{n}": deleted(n, True, True, False, reason="AlreadyApplied" if n < before else "") for n in range(3)
    }
    ended = summarize(snapshot(run), Work(()), replies).status
    condition = ended.condition("Succeeded")
    assert condition is not None
    assert (condition.status, condition.reason) == (status, reason)
    assert (ended.deleted_count, ended.not_found_count) == (2, 1)
    assert ("release-7" in condition.message) is (before == 3)


def test_the_name_that_a_user_gave_goes_with_the_request() -> None:
    request = build_request(delete_run(operationID="release-7"), ("a", "b", "c"))
    assert request.body.to_json()["operationID"] == "release-7"
    assert request.digest == DIGEST


def test_repeated_ids_count_once() -> None:
    once, twice = (build_request(delete_run(), ids) for ids in (("a", "b"), ("a", "b", "a")))
    assert isinstance(once, Request)
    assert once == twice
