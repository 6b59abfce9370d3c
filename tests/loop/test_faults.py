"""One run, and a fault at each single call in turn: what users see at the end is as if there had been none."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.loop.simulation import INDEX, Fault, Mode, Server, World

ITEMS = [{"a", "b", "c", "d"}, {"a", "b", "c"}, {"b", "c", "d", "e"}]
"""The pods differ, so that copies and items are not the same number."""
DELETE = {"indexRef": {"name": INDEX}, "externalIDs": ["a", "e", "x", "a", "b"], "returnNotFound": True}
KEY = ("IndexRebuild", "run")
BUILDS = (KEY, ("IndexOptimize", "second"), ("IndexRebuild", "third"))
REBUILD = {"indexRef": {"name": INDEX}, "params": {"m": 32}}
OPTIMIZE = {"indexRef": {"name": INDEX}}


@dataclass(frozen=True)
class Story:
    """What is applied, which pods are down when, and what has ended at the end."""

    prepare: Callable[[World], None]
    ends: tuple[tuple[str, str], ...]
    down: dict[int, Callable[[float], bool]]

    def play(self, faults: tuple[Fault, ...] = ()) -> World:
        world = World(ITEMS, self.down)
        self.prepare(world)
        world.run(self._ended, faults)
        return world

    def _ended(self, server: Server) -> bool:
        return all("completionTime" in server.status(kind, name) for kind, name in self.ends)


def _delete(world: World) -> None:
    world.server.create("IndexDelete", "run", DELETE)


def _rebuild(world: World) -> None:
    world.server.create("IndexRebuild", "run", REBUILD)


def _optimize(world: World) -> None:
    world.server.create("IndexOptimize", "run", OPTIMIZE)


def _all(world: World) -> None:
    _rebuild(world)
    world.server.create("IndexOptimize", "second", OPTIMIZE)
    world.server.create("IndexRebuild", "third", {"indexRef": {"name": INDEX}, "params": {"efConstruction": 300}})
    world.server.create("IndexDelete", "meanwhile", DELETE)


STORIES = {
    "delete": Story(_delete, (("IndexDelete", "run"),), {}),
    "delete while a pod is down": Story(_delete, (("IndexDelete", "run"),), {1: lambda seconds: seconds < 8}),
    "rebuild": Story(_rebuild, (("IndexRebuild", "run"),), {}),
    "rebuild while a pod goes down": Story(
        _rebuild, (("IndexRebuild", "run"),), {1: lambda seconds: 3.2 < seconds < 8}
    ),
    "optimize": Story(_optimize, (("IndexOptimize", "run"),), {}),
    "both kinds of builds and a delete": Story(
        _all,
        (*BUILDS, ("IndexDelete", "meanwhile")),
        {},
    ),
}


def outcome(world: World, story: Story) -> dict[str, Any]:
    """All that must not depend on faults: the statuses without their times, and what is on the volumes."""
    statuses = {}
    for kind, name in story.ends:
        status = copy.deepcopy(world.server.status(kind, name))
        for time in ("startTime", "completionTime"):
            del status[time]
        for condition in status["conditions"]:
            del condition["lastTransitionTime"]
        statuses[name] = status
    volumes = {
        pod: (sorted(sidecar.items), sidecar.parameters, dict(sidecar.executed))
        for pod, sidecar in world.sidecars.items()
    }
    return {"statuses": statuses, "volumes": volumes}


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("title", [title for title, story in STORIES.items() if len(story.ends) == 1])
def test_a_fault_at_any_call_changes_nothing(title: str, mode: Mode) -> None:
    story = STORIES[title]
    without = story.play()
    expected = outcome(without, story)
    for call in range(len(without.calls)):
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
        faults = tuple(Fault(call, rng.choice(list(Mode))) for call in calls)
        assert outcome(story.play(faults), story) == expected, f"attempt {attempt}: {faults}"


def test_the_stories_end_as_they_should() -> None:
    world = STORIES["delete while a pod is down"].play()
    status = world.server.status("IndexDelete", "run")
    assert (status["deletedCount"], status["notFoundCount"], status["notFound"]) == (3, 1, ["x"])
    assert [pod["deletedCount"] for pod in status["pods"]] == [2, 2, 2]
    assert world.clock.seconds >= 8
    world = STORIES["both kinds of builds and a delete"].play()
    first, second, third = (world.server.status(kind, name) for kind, name in BUILDS)
    assert first["completionTime"] <= second["startTime"]
    assert second["completionTime"] <= third["startTime"]
    assert world.server.status("IndexDelete", "meanwhile")["completionTime"] < first["completionTime"]
    assert second["parameters"] == {"m": 32, "efConstruction": 200, "efSearch": 64, "seed": 0}
    assert second["linksRepaired"] == 7
    assert third["parameters"] == {"m": 32, "efConstruction": 300, "efSearch": 64, "seed": 0}


def test_a_pod_goes_down_in_the_middle_of_its_rebuild() -> None:
    world = STORIES["rebuild while a pod goes down"].play()
    assert {reason for _, reason, _ in world.server.recorded} >= {"PodsUnreachable", "Completed"}


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
    world.run(lambda server: world.clock.seconds > 120)
    writes, calls = world.server.status_writes, len(world.calls)
    world.run(lambda server: world.clock.seconds > 1_000)
    assert world.server.status_writes == writes
    assert 20 < len([title for title in world.calls[calls:] if title == "state vi-0"]) < 60  # polled, and not often


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
