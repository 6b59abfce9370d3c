"""Which pods of a build are at it, how often they are looked at, and whose turn it is among the builds of an index."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.domain.building import FAILED, at_once, called, row, snapshot, started
from tests.unit.domain.given import (
    MEMBERS,
    NOW,
    ago,
    at_work,
    begun,
    index,
    member,
    optimize_run,
    rebuild_run,
    rebuilt,
)
from vectorindex.domain.build import decide, summarize
from vectorindex.domain.build_line import first_in_line
from vectorindex.domain.members import Member, NoAnswer
from vectorindex.domain.run import BuildRun, Verb, Work
from vectorindex.wire.operations import OperationState, OperationStatus


@pytest.mark.parametrize(
    ("seconds", "again"),
    [(0, 0.2), (1, 0.25), (4, 1.0), (8, 2.0), (3_600, 2.0)],
)
def test_looks_are_the_rarer_the_longer_a_pod_is_at_it(seconds: float, again: float) -> None:
    rows = [row(0, "Running", attempt=1, startTime=ago(seconds)), row(1, "Pending"), row(2, "Pending")]
    summary = summarize(snapshot(rebuild_run(begun(pods=rows))), Work(()), {"vi-0": at_work(0, 1)})
    assert summary.again == again
    assert summary.status.pods[0].start_time == NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("since", "reply", "written"),
    [
        pytest.param(1, at_work(0, 7), False, id="only progress, and just written"),
        pytest.param(2, at_work(0, 7), True, id="only progress, two seconds later"),
        pytest.param(1, at_work(0, 7, restarts=1), True, id="something else"),
        pytest.param(1, rebuilt(0), True, id="done"),
    ],
)
def test_progress_alone_is_written_every_two_seconds(since: float, reply: OperationStatus, written: bool) -> None:
    before = summarize(snapshot(started()), Work(()), {"vi-0": at_work(0, 3)}).status
    seen = snapshot(rebuild_run(before.to_dict()), last_write=NOW - timedelta(seconds=since))
    summary = summarize(seen, Work(()), {"vi-0": reply})
    assert (summary.status != seen.run.status) is written
    assert summary.again is not None


@pytest.mark.parametrize(
    ("states", "number", "pods"),
    [
        pytest.param(("Pending", "Pending", "Pending"), 2, ["vi-0", "vi-1"], id="the first two"),
        pytest.param(("Pending", "Pending", "Pending"), 9, ["vi-0", "vi-1", "vi-2"], id="all"),
        pytest.param(("Running", "Pending", "Pending"), 2, ["vi-0", "vi-1"], id="one more"),
        pytest.param(("Running", "Running", "Pending"), 2, ["vi-0", "vi-1"], id="no more"),
        pytest.param(("Succeeded", "Running", "Pending"), 2, ["vi-1", "vi-2"], id="the next one after the first"),
        pytest.param(("Running", "Running", "Pending"), 1, ["vi-0", "vi-1"], id="fewer at a time than are at it"),
    ],
)
def test_so_many_pods_at_a_time_as_the_index_allows(states: tuple[str, ...], number: int, pods: list[str]) -> None:
    assert called(decide(snapshot(started(*states), index=at_once(number)))) == pods


def test_what_has_started_goes_on_when_the_index_is_suspended() -> None:
    suspended = index(suspend=True)
    assert called(decide(snapshot(started("Succeeded", "Pending", "Pending"), index=suspended))) == ["vi-1"]


def test_no_other_pod_begins_while_one_does_not_serve() -> None:
    swapping = (member(0), member(1, ready=False), member(2))
    seen = snapshot(started("Running", "Running", "Pending"), index=at_once(3), members=swapping)
    assert called(decide(seen)) == ["vi-0", "vi-1"]
    step = summarize(seen, Work(()), {"vi-0": rebuilt(0), "vi-1": at_work(1, 90)})
    assert step.again == 0.2  # and not at once, or it would be asked without end
    said = step.status.condition("Succeeded")
    assert said is not None
    assert said.message == "rebuilding pod vi-1 (2 of 3), 90 %"


def test_the_first_pod_that_fails_stops_those_at_work() -> None:
    seen = snapshot(started("Running", "Running", "Succeeded"), index=at_once(2))
    step = summarize(seen, Work(()), {"vi-0": at_work(0, 40), "vi-1": FAILED})
    assert step.again == 0.0
    run = rebuild_run(step.status.to_dict())
    work = decide(snapshot(run))
    assert isinstance(work, Work)
    assert [(call.pod, call.verb, call.operation) for call in work.calls] == [("vi-0", Verb.CANCEL, "uid-of-run.1")]
    stopping = summarize(snapshot(run), work, {"vi-0": at_work(0, 41)})
    assert stopping.again is not None
    cancelled = at_work(0, 41, state=OperationState.CANCELLED)
    ended = summarize(snapshot(rebuild_run(stopping.status.to_dict())), work, {"vi-0": cancelled})
    condition = ended.status.condition("Succeeded")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "RecallRegressed")
    assert condition.message == "pod vi-1: recall would fall; done on vi-2; not done on vi-0, vi-1"
    assert [pod.state for pod in ended.status.pods] == ["Cancelled", "Failed", "Succeeded"]


@pytest.mark.parametrize("members", [MEMBERS[:1], (MEMBERS[0], member(1, NoAnswer("down")))], ids=["gone", "down"])
def test_why_a_run_is_stopped_is_known_even_when_the_pod_is_no_more(members: tuple[Member, ...]) -> None:
    seen = snapshot(started("Running", "Running"), index=at_once(2), members=MEMBERS[:2])
    step = summarize(seen, Work(()), {"vi-0": at_work(0, 40), "vi-1": FAILED})
    for _ in range(2):
        seen = snapshot(rebuild_run(step.status.to_dict()), members=members)
        step = summarize(seen, decide(seen), {"vi-0": at_work(0, 41)})
        condition = step.status.condition("Succeeded")
        assert condition is not None
        assert condition.reason == "Stopping"
        assert condition.message.startswith("pod vi-1: recall would fall; ")


def test_an_operation_that_somebody_else_cancelled_ends_the_run() -> None:
    gone = at_work(0, 41, state=OperationState.CANCELLED)
    step = summarize(snapshot(started("Running", "Pending", "Pending")), Work(()), {"vi-0": gone})
    run = rebuild_run(step.status.to_dict())
    work = decide(snapshot(run))
    assert called(work) == ["vi-0", "vi-1", "vi-2"]
    replies = {f"vi-{number}": at_work(number, 0, state=OperationState.CANCELLED) for number in range(3)}
    ended = summarize(snapshot(run), work, replies)
    condition = ended.status.condition("Succeeded")
    assert condition is not None
    assert condition.reason == "Cancelled"
    assert "was cancelled on pod vi-0" in condition.message


@pytest.mark.parametrize(
    ("line", "first"),
    [
        pytest.param(
            [rebuild_run(name="late", created=10), rebuild_run(name="early", created=20)], "early", id="by creation"
        ),
        pytest.param([rebuild_run(name="b"), rebuild_run(name="a")], "a", id="then by name"),
        pytest.param(
            [rebuild_run(name="late", created=10), optimize_run(name="early", created=20)],
            "early",
            id="both kinds by creation",
        ),
        pytest.param([rebuild_run(name="b"), optimize_run(name="a")], "a", id="both kinds then by name"),
        pytest.param([rebuild_run(name="a"), optimize_run(begun(), name="b")], "b", id="an optimize that has started"),
        pytest.param([rebuild_run(name="a"), rebuild_run(begun(), name="b")], "b", id="what has started goes on"),
        pytest.param(
            [rebuild_run(begun(completionTime=ago(0)), name="a"), rebuild_run(name="b")],
            "b",
            id="what has ended is out",
        ),
    ],
)
def test_whose_turn_it_is(line: list[BuildRun], first: str) -> None:
    chosen = first_in_line(line)
    assert chosen is not None
    assert chosen.metadata.name == first
