"""IndexRebuild on three pods with real sidecars: results, its turn, and faults in the middle."""

from __future__ import annotations

import pytest

from tests.apiserver.operator.world import Object, World, conditions, eventually, random_items, thaw

INDEX, SINGLE = "graph", "single"
IDS, VECTORS = random_items(2_000)


@pytest.fixture(scope="module")
def index(world: World) -> World:
    world.index(INDEX, maintenance={"minItems": 100})
    world.load(INDEX, IDS, VECTORS)
    return world


@pytest.fixture(scope="module")
def single(world: World) -> World:
    """An index of one pod, for what does not depend on their number."""
    world.index(SINGLE, replicas=1, hnsw={"m": 8})
    world.load(SINGLE, IDS[:500], VECTORS[:500])
    return world


def rebuild(world: World, name: str, index: str = INDEX, **spec: object) -> None:
    world.create("IndexRebuild", name, {"indexRef": {"name": index}, **spec})


def freeze(world: World, name: str, pod: str) -> int:
    """Wait until the run is at work on a pod, and hold it there."""
    builder = world.sidecar(pod).freeze_builder()

    def at_work(status: Object) -> bool:
        return any(row["name"] == pod and row["state"] == "Running" for row in status["pods"])

    world.wait("IndexRebuild", name, at_work, f"at work on {pod}")
    return builder


def test_parameters_that_contradict_the_index_are_refused(single: World) -> None:
    rebuild(single, "contradicts", SINGLE, params={"m": 12})
    stated = conditions(single.finished("IndexRebuild", "contradicts"))["Succeeded"]
    assert stated["reason"] == "InvalidRequest"
    assert "change VectorIndex.spec.hnsw.m" in stated["message"]


def test_deleted_items_ask_for_a_rebuild_which_removes_them(index: World) -> None:
    index.create("IndexDelete", "quarter", {"indexRef": {"name": INDEX}, "externalIDs": IDS[:500]})
    index.finished("IndexDelete", "quarter")
    needed = index.reason("VectorIndex", INDEX, "DeletedRatio", "MaintenanceNeeded")
    assert needed["message"].startswith(
        "25.0 % of the stored items are deleted (500 of 2,000), the limit is 20 %; create an Index"
    )
    rebuild(index, "clean", params={"m": 24})
    status = index.finished("IndexRebuild", "clean")
    assert conditions(status)["Succeeded"]["reason"] == "Completed"
    assert (status["vectorsBefore"], status["vectorsAfter"], status["progressPercent"]) == (1_500, 1_500, 100)
    assert status["parameters"] == {"m": 24, "efConstruction": 200, "efSearch": 64, "seed": 0}
    assert status["bytesReclaimed"] == status["bytesBefore"] - status["bytesAfter"]
    assert status["erasedBefore"] == min(pod["erasedBefore"] for pod in status["pods"])
    assert status["startTime"] <= status["erasedBefore"] <= status["completionTime"]
    assert float(status["recallAfter"]) > 0.9
    assert [(pod["state"], pod["attempt"]) for pod in status["pods"]] == [("Succeeded", 1)] * 3
    index.reason("VectorIndex", INDEX, "NotNeeded", "MaintenanceNeeded")
    assert {state.counts.deleted for state in index.states(INDEX)} == {0}


def test_a_sidecar_killed_in_the_middle_takes_its_rebuild_up_again(index: World) -> None:
    rebuild(index, "survives", params={"m": 20})
    freeze(index, "survives", f"{INDEX}-1")
    index.take_down(f"{INDEX}-1")
    index.reason("IndexRebuild", "survives", "PodsUnreachable")
    index.create("IndexDelete", "meanwhile", {"indexRef": {"name": INDEX}, "externalIDs": ["item-1500"]})
    index.bring_back(f"{INDEX}-1")
    status = index.finished("IndexRebuild", "survives")
    assert conditions(status)["Succeeded"]["reason"] == "Completed"
    assert [pod["restarts"] for pod in status["pods"]] == [0, 1, 0]
    assert index.finished("IndexDelete", "meanwhile")["deletedCount"] == 1
    assert ["item-1500" in found for found in index.search(INDEX, VECTORS[1_500])] == [False] * 3


def test_rebuilds_of_one_index_run_in_order_and_the_operator_may_be_killed(single: World) -> None:
    rebuild(single, "first", SINGLE, params={"efConstruction": 50})
    builder = freeze(single, "first", f"{SINGLE}-0")
    rebuild(single, "second", SINGLE, params={"efConstruction": 100})
    assert "first" in single.reason("IndexRebuild", "second", "Queued")["message"]
    single.operator.kill()
    thaw(builder)
    single.operator.start()
    first, second = single.finished("IndexRebuild", "first"), single.finished("IndexRebuild", "second")
    assert first["completionTime"] <= second["startTime"]
    assert [(pod["attempt"], pod["restarts"]) for pod in first["pods"]] == [(1, 0)]
    assert (first["parameters"]["efConstruction"], second["parameters"]["efConstruction"]) == (50, 100)


def test_a_delete_does_not_wait_for_a_rebuild(single: World) -> None:
    rebuild(single, "long", SINGLE)
    builder = freeze(single, "long", f"{SINGLE}-0")
    single.create("IndexDelete", "at-once", {"indexRef": {"name": SINGLE}, "externalIDs": ["item-160"]})
    assert single.finished("IndexDelete", "at-once")["deletedCount"] == 1
    assert "completionTime" not in single.get("IndexRebuild", "long")["status"]
    thaw(builder)
    assert conditions(single.finished("IndexRebuild", "long"))["Succeeded"]["reason"] == "Completed"
    assert ["item-160" in found for found in single.search(SINGLE, VECTORS[160])] == [False]


def test_a_cancelled_rebuild_leaves_the_pods_that_have_not_swapped_as_they_were(index: World) -> None:
    before = index.states(INDEX)
    rebuild(index, "cancelled", params={"m": 40})
    freeze(index, "cancelled", f"{INDEX}-1")
    index.patch("IndexRebuild", "cancelled", {"cancel": True})
    status = index.finished("IndexRebuild", "cancelled")
    condition = conditions(status)["Succeeded"]
    assert condition["reason"] == "Cancelled"
    assert f"done on {INDEX}-0; not done on {INDEX}-1, {INDEX}-2" in condition["message"]
    assert [pod["state"] for pod in status["pods"]] == ["Succeeded", "Cancelled", "Cancelled"]
    after = [state.parameters for state in index.states(INDEX)]
    assert after[1:] == [state.parameters for state in before[1:]]
    assert after[0].m == 40


@pytest.mark.parametrize("operator_down", [False, True], ids=["at once", "by the sweep at the start"])
def test_a_rebuild_whose_object_is_deleted_is_cancelled(index: World, operator_down: bool) -> None:
    name = f"gone-{operator_down}".lower()
    rebuild(index, name)
    freeze(index, name, f"{INDEX}-0")
    uid = index.get("IndexRebuild", name)["metadata"]["uid"]
    if operator_down:
        index.operator.kill()
    index.delete("IndexRebuild", name)
    if operator_down:
        index.operator.start()
    eventually(lambda: index.operations(f"{INDEX}-0")[f"{uid}.1"].state == "Cancelled", "its operation is cancelled")
    assert f"{uid}.1" not in index.operations(f"{INDEX}-1")
