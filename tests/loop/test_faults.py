"""One run, and a fault at each single call in turn: what users see at the end is as if there had been none."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.loop.sidecars import BUILD_SECONDS, INDEX, Failing
from tests.loop.simulation import Fault, Mode, Server, World
from vectorindex.reconcile.resync import WATCHED
from vectorindex.wire.operations import FailureReason

ITEMS = [{"a", "b", "c", "d"}, {"a", "b", "c"}, {"b", "c", "d", "e"}]
"""The pods differ, so that copies and items are not the same number."""
DELETE = {"indexRef": {"name": INDEX}, "externalIDs": ["a", "e", "x", "a", "b"], "returnNotFound": True}
MODES = (Mode.CRASH, Mode.LOST)
KEY = ("IndexRebuild", "run")
DELETED = ("IndexDelete", "run")
EXHAUSTIVE = 200
"""Stories of more calls than this are hit at a random half of that number."""
BUILDS = (KEY, ("IndexOptimize", "second"), ("IndexRebuild", "third"))
REBUILD = {"indexRef": {"name": INDEX}, "params": {"m": 32}}
OPTIMIZE = {"indexRef": {"name": INDEX}}


@dataclass(frozen=True)
class Story:
    """What is applied, which pods are down, or do not know the operator's key, when; and what has ended at the end."""

    prepare: Callable[[World], None]
    ends: tuple[tuple[str, str], ...] = (KEY,)
    down: dict[int, Callable[[float], bool]] = field(default_factory=dict)
    failing: dict[int, Failing] = field(default_factory=dict)
    at_once: int = 1
    build_seconds: dict[int, float] = field(default_factory=dict)
    unscheduled: tuple[int, ...] = ()
    there: dict[int, Callable[[float], bool]] = field(default_factory=dict)
    """Of pods that are the user's own, those that come and go."""
    keyless: dict[int, Callable[[float], bool]] = field(default_factory=dict)

    def play(self, faults: tuple[Fault, ...] = ()) -> World:
        pods: dict[str, Any] = {"managed": None, "podSelector": {"matchLabels": {"app": "shop"}}} if self.there else {}
        world = World(ITEMS, self.down, self.failing, maintenance={"maxConcurrentPods": self.at_once}, **pods)
        for ordinal, sidecar in enumerate(world.sidecars.values()):
            sidecar.build_seconds = self.build_seconds.get(ordinal, BUILD_SECONDS)
            sidecar.scheduled = ordinal not in self.unscheduled
            sidecar.there = self.there.get(ordinal, sidecar.there)
            sidecar.refuses_key = self.keyless.get(ordinal, sidecar.refuses_key)
        self.prepare(world)
        world.run(self._ended, faults)
        return world

    def _ended(self, server: Server) -> bool:
        return all("completionTime" in server.status(kind, name) for kind, name in self.ends)


def _delete(world: World) -> None:
    world.server.create("IndexDelete", "run", DELETE)


def _late_delete(world: World) -> None:
    world.server.create("IndexDelete", "run", {**DELETE, "activeDeadlineSeconds": 15})


def _limited_delete(world: World) -> None:
    world.server.create("IndexDelete", "run", {**DELETE, "maxDeletePercent": 70})


def _excessive_delete(world: World) -> None:
    world.server.create("IndexDelete", "run", {**DELETE, "maxDeletePercent": 60})


def _dry_run(world: World) -> None:
    world.server.create("IndexDelete", "run", {**DELETE, "dryRun": True})


def _rebuild(world: World) -> None:
    world.server.create("IndexRebuild", "run", REBUILD)


def _impatient_rebuild(world: World) -> None:
    world.server.create("IndexRebuild", "run", {**REBUILD, "backoffLimit": 1, "activeDeadlineSeconds": 30})


def _optimize(world: World) -> None:
    world.server.create("IndexOptimize", "run", OPTIMIZE)


def _all(world: World) -> None:
    _rebuild(world)
    world.server.create("IndexOptimize", "second", OPTIMIZE)
    world.server.create("IndexRebuild", "third", {"indexRef": {"name": INDEX}, "params": {"efConstruction": 300}})
    world.server.create("IndexDelete", "meanwhile", DELETE)


def _at_first(seconds: float) -> bool:
    return seconds < 100


STORIES = {
    "delete": Story(_delete, (DELETED,)),
    "delete while a pod is down": Story(_delete, (DELETED,), {1: lambda seconds: seconds < 8}),
    "delete while no pod knows the key": Story(_delete, (DELETED,), keyless=dict.fromkeys(range(3), _at_first)),
    "delete past its deadline": Story(_late_delete, (DELETED,), unscheduled=(1,)),
    "delete within its limit": Story(_limited_delete, (DELETED,), {1: lambda seconds: seconds < 3}),
    "delete beyond its limit": Story(_excessive_delete, (DELETED,)),
    "dry run": Story(_dry_run, (DELETED,)),
    "rebuild": Story(_rebuild),
    "rebuild while a pod goes down": Story(_rebuild, down={1: lambda seconds: 0.9 < seconds < 5}),
    "rebuild while a pod does not know the key": Story(_rebuild, keyless={1: lambda seconds: 0.9 < seconds < 100}),
    "rebuild of two pods at a time": Story(_rebuild, at_once=2),
    "rebuild that fails twice on a pod": Story(_rebuild, failing={1: Failing(attempts=2)}),
    "rebuild that fails too often": Story(_impatient_rebuild, failing={1: Failing(attempts=9)}),
    "rebuild past its deadline": Story(_impatient_rebuild, build_seconds={1: 1_000.0}),
    "rebuild that one of two pods refuses": Story(
        _rebuild, failing={1: Failing(9, FailureReason.RECALL_REGRESSED, after=0.0)}, at_once=2, build_seconds={0: 60.0}
    ),
    "optimize": Story(_optimize, (("IndexOptimize", "run"),)),
    "both kinds of builds and a delete": Story(_all, (*BUILDS, ("IndexDelete", "meanwhile"))),
}


def outcome(world: World, story: Story) -> dict[str, Any]:
    """All that must not depend on faults: the statuses without their times, the Events of the ends, and what is on the
    volumes."""
    statuses, told = {}, {}
    for kind, name in story.ends:
        status = copy.deepcopy(world.server.status(kind, name))
        del status["completionTime"]
        status.pop("previewTime", None)
        for condition in status["conditions"]:
            del condition["lastTransitionTime"]
        for part in (status, *status["pods"]):
            part.pop("startTime", None)
            part.pop("missingTime", None)
            if part.get("progressPercent") != 100:
                part.pop("progressPercent", None)  # how far it was when it was stopped
        if status["conditions"][-1]["reason"] == "DeleteLimitExceeded":
            del status["pods"]  # one pod's answer is enough, and which others have answered by then does not matter
        statuses[name] = status
        end = (world.server.objects[kind, name]["metadata"]["uid"], status["conditions"][-1]["reason"])
        told[name] = [event for event in world.server.recorded if event[:2] == end]
    volumes = {
        pod: (sorted(sidecar.items), sidecar.parameters, dict(sidecar.executed))
        for pod, sidecar in world.sidecars.items()
    }
    assert all(len(events) == 1 for events in told.values()), told
    return {"statuses": statuses, "volumes": volumes}


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("title", [title for title, story in STORIES.items() if len(story.ends) == 1])
def test_a_fault_at_any_call_changes_nothing(title: str, mode: Mode) -> None:
    story = STORIES[title]
    without = story.play()
    expected = outcome(without, story)
    calls = range(len(without.calls))
    for call in calls if len(calls) <= EXHAUSTIVE else random.Random(len(calls)).sample(calls, EXHAUSTIVE // 2):
        world = story.play((Fault(call, mode),))
        assert outcome(world, story) == expected, f"{mode.value} {without.calls[call]} (call {call})"
        assert world.crashes or mode is Mode.LOST


@pytest.mark.parametrize("title", STORIES)
def test_several_faults_change_nothing(title: str) -> None:
    story = STORIES[title]
    without = story.play()
    expected = outcome(without, story)
    rng = random.Random(20260101)
    for attempt in range(40):
        calls = rng.sample(range(2 * len(without.calls)), 4)
        faults = tuple(Fault(call, rng.choice(MODES)) for call in calls)
        assert outcome(story.play(faults), story) == expected, f"attempt {attempt}: {faults}"


def test_the_stories_end_as_they_should() -> None:
    world = STORIES["delete while a pod is down"].play()
    status = world.server.status("IndexDelete", "run")
    assert (status["deletedCount"], status["notFoundCount"], status["notFound"]) == (3, 1, ["x"])
    assert [pod["deletedCount"] for pod in status["pods"]] == [2, 2, 2]
    assert world.clock.seconds >= 8
    status = STORIES["delete past its deadline"].play().server.status("IndexDelete", "run")
    said = status["conditions"][-1]
    assert (said["reason"], said["message"].partition("; ")[2]) == (
        "DeadlineExceeded",
        "done on vi-0, vi-2; no answer from vi-1: what runs there is cancelled later",
    )
    assert status["deletedCount"] == 3
    world = STORIES["delete within its limit"].play()
    status = world.server.status(*DELETED)
    assert (status["deletedCount"], status["notFoundCount"]) == (3, 1)
    started = [place for place, title in enumerate(world.calls) if title.startswith("start")]
    previewed = [place for place, title in enumerate(world.calls) if title == "preview vi-1"]
    assert max(previewed) < min(started)
    for title, reason in (("delete beyond its limit", "DeleteLimitExceeded"), ("dry run", "DryRun")):
        world = STORIES[title].play()
        assert world.server.status(*DELETED)["conditions"][-1]["reason"] == reason
        assert [sidecar.items for sidecar in world.sidecars.values()] == ITEMS
    world = STORIES["both kinds of builds and a delete"].play()
    first, second, third = (world.server.status(kind, name) for kind, name in BUILDS)
    assert first["completionTime"] <= second["startTime"]
    assert second["completionTime"] <= third["startTime"]
    assert world.server.status("IndexDelete", "meanwhile")["completionTime"] < first["completionTime"]
    assert second["parameters"] == {"m": 32, "efConstruction": 200, "efSearch": 64, "seed": 0}
    assert second["linksRepaired"] == 7
    assert third["parameters"] == {"m": 32, "efConstruction": 300, "efSearch": 64, "seed": 0}


@pytest.mark.parametrize(
    ("title", "reason", "states", "attempts"),
    [
        pytest.param("rebuild that fails twice on a pod", "Completed", ["Succeeded"] * 3, [1, 3, 1], id="in the end"),
        pytest.param(
            "rebuild that fails too often",
            "BackoffLimitExceeded",
            ["Succeeded", "Failed", "Cancelled"],
            [1, 2, 1],
            id="too often",
        ),
        pytest.param(
            "rebuild past its deadline",
            "DeadlineExceeded",
            ["Succeeded", "Cancelled", "Cancelled"],
            [1, 1, 1],
            id="deadline",
        ),
        pytest.param(
            "rebuild that one of two pods refuses",
            "RecallRegressed",
            ["Cancelled", "Failed", "Cancelled"],
            [1, 1, 1],
            id="refused by one of two",
        ),
    ],
)
def test_builds_that_do_not_go_well(title: str, reason: str, states: list[str], attempts: list[int]) -> None:
    world = STORIES[title].play()
    status = world.server.status(*KEY)
    assert status["conditions"][-1]["reason"] == reason
    assert [pod["state"] for pod in status["pods"]] == states
    assert [pod["attempt"] for pod in status["pods"]] == attempts
    made = {pod: sidecar.executed["Rebuild"] for pod, sidecar in world.sidecars.items()}
    assert list(made.values()) == [state == "Succeeded" for state in states]


def test_two_pods_at_a_time_take_two_turns() -> None:
    one, two = STORIES["rebuild"].play(), STORIES["rebuild of two pods at a time"].play()
    assert two.clock.seconds < 0.75 * one.clock.seconds
    starts = [title for title in two.calls if title.startswith("start")]
    assert starts == ["start vi-0", "start vi-1", "start vi-2"]


def test_short_builds_are_seen_to_end_soon() -> None:
    """Three pods, half a second each; looks and writes are few all the same."""
    world = STORIES["rebuild"].play()
    assert world.clock.seconds < 3 * (BUILD_SECONDS + 0.2) + 0.2
    assert len([title for title in world.calls if title.startswith("operation")]) < 12
    assert world.calls.count("STATUS IndexRebuild run") < 10


def test_a_pod_goes_down_in_the_middle_of_its_rebuild() -> None:
    world = STORIES["rebuild while a pod goes down"].play()
    assert {reason for _, reason, _ in world.server.recorded} >= {"PodsUnreachable", "Completed"}


@pytest.mark.parametrize("title", [title for title, story in STORIES.items() if story.keyless])
def test_a_key_that_pods_do_not_know_yet_is_waited_for_and_costs_no_attempt(title: str) -> None:
    story = STORIES[title]
    world = story.play()
    assert {reason for _, reason, _ in world.server.recorded} >= {"KeyPending", "Completed"}
    status = world.server.status(*story.ends[0])
    assert {pod.get("attempt", 1) for pod in status["pods"]} == {1}
    assert {sum(sidecar.executed.values()) for sidecar in world.sidecars.values()} == {1}
    assert 100 < world.clock.seconds < 120


def _said(status: dict[str, Any]) -> str:
    """The reason of the condition Succeeded."""
    return next((each["reason"] for each in status.get("conditions", ()) if each["type"] == "Succeeded"), "")


def test_a_pod_that_never_learns_the_key_is_named_with_what_to_do() -> None:
    world = World(ITEMS)
    world.sidecars["vi-1"].refuses_key = lambda _seconds: True
    _delete(world)

    def waits(server: Server) -> bool:
        return _said(server.status(*DELETED)) == "KeyPending"

    def both_say_what_to_do(server: Server) -> bool:
        rows = [row for key in (DELETED, ("VectorIndex", INDEX)) for row in server.status(*key).get("pods", [])]
        return sum("then delete the pod" in row.get("message", "") for row in rows) == 2

    world.run(waits)
    assert world.clock.seconds < 10
    world.run(both_say_what_to_do)
    assert 180 <= world.clock.seconds < 200
    [row] = [row for row in world.server.status("VectorIndex", INDEX)["pods"] if row["name"] == "vi-1"]
    assert "although ConfigMap vi-identity has not changed for 3 minutes" in row["message"]
    assert _said(world.server.status(*DELETED)) == "KeyPending"
    assert "completionTime" not in world.server.status(*DELETED)


@pytest.mark.parametrize(
    ("kind", "spec", "problem"),
    [
        pytest.param("IndexDelete", {"indexRef": {}, "externalIDs": ["a"]}, "spec.indexRef.name", id="delete"),
        pytest.param("IndexRebuild", {**REBUILD, "params": {"m": "x"}}, "spec.params.m", id="rebuild"),
        pytest.param("IndexOptimize", {**OPTIMIZE, "verify": {"k": 0}}, "spec.verify.k", id="optimize"),
    ],
)
def test_a_run_that_cannot_be_read_fails_and_is_in_nobodys_way(kind: str, spec: dict[str, Any], problem: str) -> None:
    world = World(ITEMS)
    world.server.create(kind, "odd", spec)
    world.server.create("IndexRebuild", "run", REBUILD)
    world.run(lambda server: all("completionTime" in server.status(*run) for run in ((kind, "odd"), KEY)))
    conditions = {condition["type"]: condition for condition in world.server.status(kind, "odd")["conditions"]}
    assert (conditions["Succeeded"]["reason"], conditions["Stalled"]["status"]) == ("InvalidRequest", "True")
    assert problem in conditions["Succeeded"]["message"]
    assert world.server.status(*KEY)["conditions"][-1]["reason"] == "Completed"


def test_an_index_that_cannot_be_read_says_so_until_it_can() -> None:
    world = World(ITEMS)
    world.server.change("VectorIndex", INDEX, {"metric": "Hamming"})

    def stalled(server: Server) -> dict[str, Any] | None:
        conditions = server.status("VectorIndex", INDEX).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == "Stalled"), None)

    world.run(lambda server: stalled(server) is not None)
    said = stalled(world.server)
    assert said is not None
    assert (said["status"], said["reason"]) == ("True", "InvalidSpec")
    assert "spec.metric" in said["message"]
    writes = world.server.status_writes
    world.run(lambda server: world.clock.seconds > 120)
    assert world.server.status_writes == writes
    world.server.change("VectorIndex", INDEX, {"metric": "L2"})
    world.run(lambda server: (stalled(server) or {}).get("status") == "False")


def test_nothing_is_written_when_nothing_changes() -> None:
    world = STORIES["delete"].play()
    world.run(lambda server: world.clock.seconds > 200)  # its pods differ, which is known after a minute
    writes, calls = world.server.status_writes, len(world.calls)
    world.run(lambda server: world.clock.seconds > 1_000)
    assert world.server.status_writes == writes
    assert 10 < len([title for title in world.calls[calls:] if title == "state vi-0"]) < 30  # polled, and not often
    asked = [title for title in world.calls[calls:] if not title.startswith("state")]
    assert asked == [f"LIST {kind}" for kind in WATCHED]  # at the start, and nothing after it


def test_events_are_recorded_once_for_each_reason() -> None:
    world = STORIES["both kinds of builds and a delete"].play()
    assert set(world.server.recorded.values()) == {1}


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "the answer is lost"])
@pytest.mark.parametrize("crash", [False, True], ids=["operator up", "operator down meanwhile"])
@pytest.mark.parametrize(
    ("kind", "spec"), [("IndexRebuild", REBUILD), ("IndexOptimize", OPTIMIZE)], ids=["rebuild", "optimize"]
)
def test_what_a_deleted_build_left_is_cancelled(kind: str, spec: dict[str, Any], crash: bool, lost: bool) -> None:
    world = World(ITEMS)
    world.sidecars["vi-0"].build_seconds = 60.0
    uid = world.server.create(kind, "run", spec)["metadata"]["uid"]
    world.run(lambda server: f"{uid}.1" in world.sidecars["vi-0"].ledger)
    world.server.delete(kind, "run")

    def told() -> set[tuple[str, str]]:
        return {(regarding, reason) for regarding, reason, _ in world.server.recorded}

    faults = (Fault(len(world.calls), Mode.CRASH),) if crash else ()
    if lost:
        world.lose("cancel vi-0")
    world.run(lambda server: (server.objects["VectorIndex", INDEX]["metadata"]["uid"], "Cancelled") in told(), faults)
    assert world.sidecars["vi-0"].ledger[f"{uid}.1"].state == "Cancelled"
    assert world.clock.seconds < 10
    assert not world.sidecars["vi-1"].ledger


def test_an_index_that_is_changed_meanwhile_has_the_same_graph_on_every_pod() -> None:
    """``spec.hnsw`` counts as it was when the run began, also where a start is repeated."""
    world = World(ITEMS, hnsw={"m": 24})
    world.server.create(*KEY, {"indexRef": {"name": INDEX}})
    world.lose("start vi-0")
    world.run(lambda server: bool(world.sidecars["vi-0"].ledger))
    world.server.change("VectorIndex", INDEX, {"hnsw": {"m": 48, "efSearch": 99}})
    world.run(lambda server: "completionTime" in server.status(*KEY))
    status = world.server.status(*KEY)
    assert status["conditions"][-1]["reason"] == "Completed"
    assert [pod["parameters"]["m"] for pod in status["pods"]] == [24] * 3
    assert status["indexParameters"] == {"m": 24}
