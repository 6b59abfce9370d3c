"""An IndexRebuild or an IndexOptimize: what it waits for, what it asks of its pods, and what the answers come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.domain.building import FAILED, at_once, called, row, snapshot, started
from tests.unit.domain.given import (
    MEMBERS,
    NOW,
    at_work,
    begun,
    index,
    member,
    optimize_run,
    rebuild_run,
    rebuilt,
    state,
)
from vectorindex.api.builds import BuildStatus
from vectorindex.domain.build import decide, summarize
from vectorindex.domain.members import KeyPending, NoAnswer
from vectorindex.domain.rollout import Rollout
from vectorindex.domain.run import Begin, BuildRun, End, Refused, Replies, Wait, Work
from vectorindex.wire.operations import GraphResult, OperationState, OptimizeBody, RebuildBody

EARLIER = optimize_run(name="earlier")
DOWN = (member(0), member(1, NoAnswer("connection refused"), ready=False), member(2))


@pytest.mark.parametrize(
    ("run", "changes", "decision", "reason", "words"),
    [
        pytest.param(
            rebuild_run(), {"ahead": EARLIER}, Wait, "Queued", "IndexOptimize earlier", id="another one first"
        ),
        pytest.param(
            optimize_run(), {"ahead": rebuild_run(name="r")}, Wait, "Queued", "IndexRebuild r", id="of the other kind"
        ),
        pytest.param(
            optimize_run(),
            {"members": DOWN},
            Wait,
            "IndexNotReady",
            "vi-1 connection refused",
            id="optimize, a pod is down",
        ),
        pytest.param(
            rebuild_run(), {"members": DOWN}, Wait, "IndexNotReady", "vi-1 connection refused", id="a pod is down"
        ),
        pytest.param(
            rebuild_run(),
            {"members": (member(0, ready=False),)},
            Wait,
            "IndexNotReady",
            "vi-0 is not ready",
            id="not ready",
        ),
        pytest.param(
            optimize_run(),
            {"rollout": Rollout(rolling=True)},
            Wait,
            "IndexNotReady",
            "waiting until VectorIndex vi is Ready: pods of the previous template are being replaced",
            id="a rollout",
        ),
        pytest.param(
            rebuild_run(), {"rollout": Rollout(pending=True)}, Wait, "IndexNotReady", "added or removed", id="scaling"
        ),
        pytest.param(
            rebuild_run(params={"m": 32}),
            {"index": index(hnsw={"m": 16})},
            End,
            "InvalidRequest",
            "params.m is 32, but VectorIndex vi sets 16: change VectorIndex.spec.hnsw.m",
            id="a contradiction",
        ),
        pytest.param(
            rebuild_run(params={"efConstruction": 7}),
            {"index": index(hnsw={"efConstruction": 8}), "ahead": EARLIER},
            End,
            "InvalidRequest",
            "hnsw.efConstruction",
            id="a contradiction does not wait for its turn",
        ),
        pytest.param(
            optimize_run(),
            {"index": index(suspend=True)},
            Wait,
            "Suspended",
            "VectorIndex vi is suspended",
            id="suspended",
        ),
        pytest.param(
            rebuild_run(),
            {"index": index(suspend=True), "ahead": EARLIER},
            Wait,
            "Suspended",
            "until its spec.suspend is false",
            id="suspended, and not the first",
        ),
        pytest.param(rebuild_run(cancel=True), {"ahead": EARLIER}, End, "Cancelled", "before any pod", id="cancelled"),
        pytest.param(
            started("Succeeded", "Pending", "Pending"),
            {"members": DOWN},
            Wait,
            "IndexNotReady",
            "vi-1 is next, as soon as all pods serve: vi-1 connection refused",
            id="a pod is down before its turn",
        ),
    ],
)
def test_what_a_build_waits_for(
    run: BuildRun, changes: dict[str, Any], decision: type[Wait] | type[End], reason: str, words: str
) -> None:
    decided = decide(snapshot(run, **changes))
    assert isinstance(decided, decision)
    assert decided.reason == reason
    assert words in decided.message


@pytest.mark.parametrize(
    ("params", "hnsw"),
    [
        pytest.param({"m": 16}, {"m": 16}, id="the same value"),
        pytest.param({"m": 16}, {"efConstruction": 8}, id="another field"),
        pytest.param({"m": 16}, None, id="the index sets nothing"),
        pytest.param(None, {"m": 16}, id="the run sets nothing"),
    ],
)
def test_no_contradiction(params: dict[str, int] | None, hnsw: dict[str, int] | None) -> None:
    seen = snapshot(rebuild_run(params=params), index=index(hnsw=hnsw))
    assert decide(seen) == Begin()


def test_the_pods_that_exist_are_recorded_at_the_start() -> None:
    status = summarize(snapshot(rebuild_run()), Begin(), {}).status
    assert [(pod.name, pod.state) for pod in status.pods] == [(f"vi-{n}", "Pending") for n in range(3)]
    assert status.start_time == NOW


@pytest.mark.parametrize(
    ("states", "pods"),
    [
        pytest.param(("Pending", "Pending", "Pending"), ["vi-0"], id="the first"),
        pytest.param(("Running", "Pending", "Pending"), ["vi-0"], id="the one at work is asked"),
        pytest.param(("Succeeded", "Pending", "Pending"), ["vi-1"], id="the next"),
        pytest.param(("Succeeded", "Succeeded", "Unreachable"), ["vi-2"], id="one that did not answer"),
        pytest.param(("Succeeded", "Succeeded", "Succeeded"), [], id="none is left"),
    ],
)
def test_one_pod_after_the_other(states: tuple[str, ...], pods: list[str]) -> None:
    assert called(decide(snapshot(started(*states)))) == pods


def test_a_pod_on_another_volume_has_not_done_its_part() -> None:
    replaced = member(0, state("vi-0", volume_id="a new one"))
    run = started("Succeeded", "Succeeded", "Pending")
    assert called(decide(snapshot(run, members=(replaced, *MEMBERS[1:])))) == ["vi-0"]


def test_a_pod_that_never_answered_waits_for_the_others_again() -> None:
    members = (member(0), member(1), member(2, NoAnswer("connection refused")))
    lost = started("Unreachable", "Pending", "Pending")
    assert isinstance(decide(snapshot(lost, members=members)), Wait)
    at_it = rebuild_run(begun(pods=[row(0, "Unreachable", attempt=1), row(1, "Pending"), row(2, "Pending")]))
    assert called(decide(snapshot(at_it, members=members))) == ["vi-0"]


def test_a_pod_that_takes_no_start_now_is_asked_again_later() -> None:
    lost = {"vi-0": NoAnswer("the operation cannot be recorded (HTTP status 503)")}
    summary = summarize(snapshot(started()), Work(()), lost)
    assert summary.again == 1.0
    condition = summary.status.condition("Succeeded")
    assert condition is not None
    assert condition.reason == "PodsUnreachable"
    assert called(decide(snapshot(rebuild_run(summary.status.to_dict())))) == ["vi-0"]


def test_a_pod_at_work_is_waited_for_even_when_others_are_down() -> None:
    members = (member(0), member(1), member(2, NoAnswer("connection refused")))
    assert called(decide(snapshot(started("Running", "Pending", "Pending"), members=members))) == ["vi-0"]


def test_parameters_of_the_run_and_of_the_index_are_joined_as_they_are_when_it_begins() -> None:
    spec: dict[str, Any] = {"params": {"m": 32}, "verify": {"samples": 50, "k": 5, "minRecallPercent": 90}}
    wanted = index(hnsw={"efConstruction": 400, "efSearch": 99, "seed": 7})
    status = summarize(snapshot(rebuild_run(**spec), index=wanted), Begin(), {}).status
    for later in (wanted, index(hnsw={"m": 48, "efConstruction": 8, "efSearch": 98}), index()):
        decision = decide(snapshot(rebuild_run(status.to_dict(), **spec), index=later))
        assert isinstance(decision, Work)
        [call] = decision.calls
        assert call.operation == "uid-of-run.1"
        assert isinstance(call.body, RebuildBody)
        assert call.body.request.to_json() == {
            "params": {"M": 32},
            "index_params": {"ef_construction": 400, "rng_seed": 7},
            "verify": {"samples": 50, "k": 5, "min_recall_percent": 90},
        }


def test_a_pod_that_has_another_request_of_the_run_is_told_to_stop_too() -> None:
    run = started("Succeeded", "Running", "Pending")
    step = summarize(snapshot(run, last_write=NOW), Work(()), {"vi-1": Refused("another request", other=True)})
    for reply in (at_work(1, 10), at_work(1, 10, state=OperationState.CANCELLED)):
        seen = snapshot(rebuild_run(step.status.to_dict()), last_write=NOW)
        assert called(decide(seen)) == ["vi-1", "vi-2"]
        replies = {"vi-1": reply, "vi-2": at_work(2, 0, state=OperationState.CANCELLED)}
        step = summarize(seen, decide(seen), replies)
        condition = step.status.condition("Succeeded")
        assert condition is not None
        assert condition.message.startswith("pod vi-1: it has accepted another request of this run; ")
        assert condition.reason == ("RequestChanged" if reply.state.finished else "Stopping")
    assert step.again is None


def test_an_optimize_asks_for_no_parameters() -> None:
    rows = [row(ordinal, "Pending") for ordinal in range(3)]
    run = optimize_run(begun(pods=rows), verify={"samples": 50, "minRecallPercent": 90})
    decision = decide(snapshot(run, index=index(hnsw={"m": 48, "efConstruction": 400})))
    assert isinstance(decision, Work)
    [call] = decision.calls
    assert call.operation == "uid-of-run.1"
    assert isinstance(call.body, OptimizeBody)
    assert call.body.request.to_json() == {"verify": {"samples": 50, "k": 10, "min_recall_percent": 90}}


def test_an_optimize_is_called_by_its_name() -> None:
    rows = [row(0, "Succeeded"), row(1, "Running", attempt=1), row(2, "Pending")]
    run = optimize_run(begun(pods=rows))
    said = [
        summarize(snapshot(run), Work(()), {"vi-1": reply}).status.condition("Succeeded")
        for reply in (at_work(1, 50), FAILED)
    ]
    assert [condition.message for condition in said if condition is not None] == [
        "optimizing pod vi-1 (2 of 3), 50 %",
        "pod vi-1: recall would fall",
    ]


@pytest.mark.parametrize(
    ("progress", "written", "answered", "shown", "words"),
    [
        pytest.param(0, None, None, None, "(1 of 3)", id="it has just begun"),
        pytest.param(3, None, None, None, "(1 of 3), 3 %", id="nothing is known of its pace"),
        pytest.param(45, 200, 123, 130, "(1 of 3), 45 %, about 2 minutes left", id="to two digits"),
        pytest.param(45, 200, 7, 7, "(1 of 3), 45 %, about 7 s left", id="seconds"),
        pytest.param(44, 200, 190, 200, "(1 of 3), 44 %, about 3 minutes left", id="no progress, nothing new"),
        pytest.param(44, None, 190, 190, "(1 of 3), 44 %, about 3 minutes left", id="known by now"),
        pytest.param(99, 5, None, None, "(1 of 3), 99 %", id="begun anew, so unknown again"),
    ],
)
def test_how_long_a_pod_still_takes(
    progress: int, written: int | None, answered: int | None, shown: int | None, words: str
) -> None:
    """44 % is what the status says so far."""
    before = row(0, "Running", attempt=1, progressPercent=44) | (
        {} if written is None else {"remainingSeconds": written}
    )
    run = rebuild_run(begun(pods=[before, row(1, "Pending"), row(2, "Pending")]))
    reply = at_work(0, progress, remaining_seconds=answered)
    status = summarize(snapshot(run), Work(()), {"vi-0": reply}).status
    assert status.pods[0].remaining_seconds == shown
    condition = status.condition("Succeeded")
    assert condition is not None
    assert condition.message == f"rebuilding pod vi-0 {words}"


@pytest.mark.parametrize(
    ("states", "replies", "reason", "words", "progress"),
    [
        pytest.param(
            ("Running", "Pending", "Pending"), {"vi-0": at_work(0, 61)}, "Running", "vi-0 (1 of 3)", 20, id="at work"
        ),
        pytest.param(
            ("Running", "Pending", "Pending"), {"vi-0": rebuilt(0)}, "Running", "next is pod vi-1", 33, id="one done"
        ),
        pytest.param(
            ("Succeeded", "Running", "Pending"),
            {"vi-1": NoAnswer("connection refused")},
            "PodsUnreachable",
            "vi-1 (2 of 3): connection refused",
            33,
            id="down in the middle",
        ),
        pytest.param(
            ("Succeeded", "Running", "Pending"),
            {"vi-1": KeyPending.because("unknown")},
            "KeyPending",
            "vi-1 (2 of 3): does not accept the operator's token yet (unknown)",
            33,
            id="it does not know the key yet",
        ),
        pytest.param(
            ("Succeeded", "Running", "Pending"),
            {"vi-1": FAILED},
            "Stopping",
            "pod vi-1: recall would fall",
            50,
            id="refused by its recall",
        ),
        pytest.param(
            ("Pending", "Pending", "Pending"),
            {"vi-0": Refused("too large")},
            "Stopping",
            "pod vi-0: it refuses the request: too large",
            0,
            id="refused",
        ),
        pytest.param(
            ("Succeeded", "Succeeded", "Running"),
            {"vi-2": rebuilt(2)},
            "Completed",
            "rebuilt 3 pods; recall 0.9000 before, 0.9500 after",
            100,
            id="all done",
        ),
    ],
)
def test_what_the_answer_comes_to(
    states: tuple[str, ...], replies: Replies, reason: str, words: str, progress: int
) -> None:
    status = summarize(snapshot(started(*states)), Work(()), replies).status
    condition = status.condition("Succeeded")
    assert condition is not None
    assert condition.reason == reason
    assert words in condition.message
    assert status.progress_percent == progress


@pytest.mark.parametrize(
    ("since", "written"),
    [
        pytest.param(1, False, id="just written"),
        pytest.param(2, True, id="due"),
        pytest.param(-3_600, True, id="the API server's clock is an hour ahead"),
    ],
)
def test_progress_alone_is_written_from_time_to_time(since: float, written: bool) -> None:
    run = rebuild_run(summarize(snapshot(started("Running")), Work(()), {"vi-0": at_work(0, 10)}).status.to_dict())
    seen = snapshot(run, last_write=NOW - timedelta(seconds=since))
    status = summarize(seen, decide(seen), {"vi-0": at_work(0, 20)}).status
    assert status.pods[0].progress_percent == (20 if written else 10)


def test_what_is_left_is_looked_at_again_and_nothing_after_the_end() -> None:
    run = started("Running", "Pending", "Pending")
    assert summarize(snapshot(started()), Work(()), {"vi-0": at_work(0, 0)}).again == 0.2
    assert summarize(snapshot(run), Work(()), {"vi-0": rebuilt(0)}).again == 0.0
    ended = summarize(snapshot(started("Succeeded", "Succeeded", "Running")), Work(()), {"vi-2": rebuilt(2)})
    assert ended.again is None
    assert ended.status.completion_time == NOW


def test_figures_over_pods() -> None:
    status = summarize(snapshot(started("Running", "Pending", "Pending")), Work(()), {"vi-0": rebuilt(0, 0.97)}).status
    for ordinal, recall in ((1, 0.93), (2, 1.0)):
        run = rebuild_run(status.to_dict())
        status = summarize(snapshot(run), Work(()), {f"vi-{ordinal}": rebuilt(ordinal, recall)}).status
    assert (status.vectors_before, status.vectors_after) == (102, 92)  # the most of any pod
    assert (status.bytes_before, status.bytes_after, status.bytes_reclaimed) == (3_000, 2_700, 300)  # sums
    assert status.duration_seconds == 4  # the longest, rounded up
    assert (status.recall_before, status.recall_after) == ("0.9000", "0.9300")  # the lowest
    assert (status.computations_before, status.computations_after) == (900, 703)
    assert (status.links_repaired, status.unreachable_before, status.unreachable_after) == (42, 2, 0)
    assert status.parameters is not None
    assert status.parameters.m == 16


ERASED = datetime(2026, 11, 20, 10, 0, 30, 900_000, UTC)
BLOCKED = "an ingest session is open; finalize it"


@pytest.mark.parametrize(
    ("pods", "erased", "blocked"),
    [
        pytest.param([{"erased_before": ERASED}], "2026-11-20T10:00:30Z", None, id="never later than the pod said"),
        pytest.param(
            [{"erased_before": ERASED}, {"erased_before": ERASED - timedelta(hours=1)}],
            "2026-11-20T09:00:30Z",
            None,
            id="the earliest",
        ),
        pytest.param(
            [{"erased_before": ERASED}, {"erasure_blocked": BLOCKED}], None, f"pod vi-1: {BLOCKED}", id="one cannot say"
        ),
        pytest.param([{"erased_before": ERASED}, None], None, None, id="one is not done yet"),
    ],
)
def test_what_is_erased_is_what_is_erased_on_every_pod(
    pods: list[dict[str, Any] | None], erased: str | None, blocked: str | None
) -> None:
    status: BuildStatus = started("Running", *["Pending"] * (len(pods) - 1)).status
    members = tuple(member(ordinal) for ordinal in range(len(pods)))
    for ordinal, said in enumerate(pods):
        reply = at_work(ordinal, 50)
        if said is not None:
            done = rebuilt(ordinal)
            assert isinstance(done.result, GraphResult)
            reply = done.model_copy(update={"result": done.result.model_copy(update=said)})
        run = rebuild_run(status.to_dict())
        status = summarize(snapshot(run, members=members), Work(()), {f"vi-{ordinal}": reply}).status
    shown = status.to_dict()
    assert shown.get("erasedBefore") == erased
    assert shown.get("erasureBlocked") == blocked


def test_parameters_are_shown_only_where_pods_agree() -> None:
    status = summarize(snapshot(started("Running", "Pending", "Pending")), Work(()), {"vi-0": rebuilt(0)}).status
    status = summarize(snapshot(rebuild_run(status.to_dict())), Work(()), {"vi-1": rebuilt(1, m=32)}).status
    assert status.parameters is None


@pytest.mark.parametrize(("before", "reason"), [(3, "AlreadyApplied"), (2, "Completed")])
def test_what_every_pod_has_done_before_is_told_from_what_was_done_now(before: int, reason: str) -> None:
    run = started(*("Running",) * 3, operationID="release-7")
    replies = {f"vi-{n}": rebuilt(n, reason="AlreadyApplied" if n < before else "") for n in range(3)}
    summary = summarize(snapshot(run, index=at_once(3)), Work(()), replies)
    condition = summary.status.condition("Succeeded")
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", reason)
    assert summary.status.recall_after == "0.9500"
    assert (summary.status.pods[0].recall_sample, summary.status.pods[0].recall_queries) == ("MovedItems", 10)
    work = decide(snapshot(run))
    assert isinstance(work, Work)
    assert {call.body.operation_id for call in work.calls if call.body is not None} == {"release-7"}


def test_an_index_without_items_has_no_recall() -> None:
    reply = rebuilt(0)
    assert reply.result is not None
    reply = reply.model_copy(update={"result": reply.result.model_copy(update={"recall": None})})
    status = summarize(snapshot(started("Running", "Succeeded", "Succeeded")), Work(()), {"vi-0": reply}).status
    assert status.recall_after is None
    condition = status.condition("Succeeded")
    assert condition is not None
    assert condition.message == "rebuilt 3 pods"
