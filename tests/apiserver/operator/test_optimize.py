"""IndexOptimize on three pods with real sidecars: what it repairs, and its turn among the rebuilds."""

from __future__ import annotations

import re

import pytest

from tests.apiserver.operator.world import World, conditions, random_items, thaw

INDEX, SINGLE = "mended", "in-line"
IDS, VECTORS = random_items(1_200)
PARAMETERS = {"m": 16, "efConstruction": 200, "efSearch": 64, "seed": 0}


@pytest.fixture(scope="module")
def index(world: World) -> World:
    world.index(INDEX, maintenance={"minItems": 100})
    world.load(INDEX, IDS, VECTORS)
    return world


@pytest.fixture(scope="module")
def single(world: World) -> World:
    world.index(SINGLE, replicas=1)
    world.load(SINGLE, IDS[:500], VECTORS[:500])
    return world


def test_what_was_deleted_is_taken_out_of_the_graph(index: World) -> None:
    index.create("IndexDelete", "third", {"indexRef": {"name": INDEX}, "externalIDs": IDS[:400]})
    index.finished("IndexDelete", "third")
    needed = index.reason("VectorIndex", INDEX, "DeletedRatio", "MaintenanceNeeded")
    effort = r"\(about \d+ s and \d+ MB of memory on each pod\)"
    assert re.search(f"create an IndexOptimize {effort}, or an IndexRebuild {effort}$", needed["message"]), needed
    for pod in index.get("VectorIndex", INDEX)["status"]["pods"]:
        assert pod["optimizeEstimate"]["measured"] is False
        assert 0 < pod["optimizeEstimate"]["memoryBytes"] <= pod["rebuildEstimate"]["memoryBytes"]
    index.create("IndexOptimize", "mend", {"indexRef": {"name": INDEX}, "verify": {"minRecallPercent": 80}})
    status = index.finished("IndexOptimize", "mend")
    stated = conditions(status)["Succeeded"]
    assert stated["reason"] == "Completed"
    assert stated["message"].startswith("optimized 3 pods; recall ")
    assert (status["vectorsBefore"], status["vectorsAfter"], status["progressPercent"]) == (800, 800, 100)
    assert status["linksRepaired"] == max(pod["linksRepaired"] for pod in status["pods"]) > 0
    assert status["unreachableAfter"] == 0
    assert 0 < status["computationsAfter"] < status["computationsBefore"]
    assert status["bytesReclaimed"] > 0
    assert status["parameters"] == PARAMETERS
    index.reason("VectorIndex", INDEX, "NotNeeded", "MaintenanceNeeded")
    assert {(state.counts.live, state.counts.deleted) for state in index.states(INDEX)} == {(800, 0)}


def test_an_optimize_waits_its_turn_among_the_rebuilds(single: World) -> None:
    single.create("IndexRebuild", "before", {"indexRef": {"name": SINGLE}})
    builder = single.sidecar(f"{SINGLE}-0").freeze_builder()
    single.create("IndexOptimize", "after", {"indexRef": {"name": SINGLE}})
    assert "IndexRebuild before" in single.reason("IndexOptimize", "after", "Queued")["message"]
    thaw(builder)
    before, after = single.finished("IndexRebuild", "before"), single.finished("IndexOptimize", "after")
    assert before["completionTime"] <= after["startTime"]
    assert conditions(after)["Succeeded"]["reason"] == "Completed"
