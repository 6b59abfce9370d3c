"""What users and clusters do in the middle of an operation: each run ends, says the truth, and leaves nothing."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.apiserver.faults.stage import Stage
from tests.apiserver.faults.tally import REPEAT, tried
from tests.apiserver.operator.processes import http_status
from tests.apiserver.operator.world import Object, conditions, eventually, random_items, thaw

IDS, VECTORS = random_items(400)
unused = itertools.count()


def new_index(stage: Stage, replicas: int = 2) -> str:
    """An index of this test's own, with its items."""
    name = f"own-{next(unused)}"
    stage.index(name, replicas=replicas)
    stage.load(name, IDS, VECTORS)
    return name


@contextmanager
def removed_afterwards(stage: Stage, name: str) -> Iterator[None]:
    yield
    if stage.exists(stage.path("vectorindexes", name)):
        stage.delete("VectorIndex", name)
        eventually(lambda: not stage.pods(name), f"the pods of {name} are gone")


@pytest.fixture(params=range(REPEAT))
def index(stage: Stage, request: pytest.FixtureRequest) -> Iterator[str]:
    name = new_index(stage)
    with removed_afterwards(stage, name):
        yield name


def begin(stage: Stage, kind: str, index: str, pod: int = 0, **spec: object) -> tuple[str, Object, int]:
    """A build in its middle: its name, its object, and the builder that is held."""
    name = f"run-{next(unused)}"
    made = stage.create(kind, name, {"indexRef": {"name": index}, **spec})
    builder = stage.sidecar(f"{index}-{pod}").freeze_builder()
    stage.wait(
        kind,
        name,
        lambda status: any(row["name"] == f"{index}-{pod}" and row["state"] == "Running" for row in status["pods"]),
        "at work",
    )
    return name, made, builder


def said(stage: Stage, kind: str, name: str) -> tuple[str, str]:
    stated = conditions(stage.finished(kind, name))["Succeeded"]
    return stated["status"], stated["reason"]


def test_the_index_is_deleted_in_the_middle(stage: Stage, index: str) -> None:
    name, _, _ = begin(stage, "IndexRebuild", index)
    stage.delete("VectorIndex", index)
    assert said(stage, "IndexRebuild", name) == ("False", "IndexDeleted")
    eventually(lambda: not stage.pods(index), "its pods are gone")
    claims = stage.api.get(f"/api/v1/namespaces/{stage.namespace}/persistentvolumeclaims")["items"]
    assert {f"data-{index}-0", f"data-{index}-1"} <= {claim["metadata"]["name"] for claim in claims}
    tried["index deleted in mid-rebuild"] += 1


def test_the_index_is_deleted_and_made_again_in_the_middle(stage: Stage, index: str) -> None:
    name, made, _ = begin(stage, "IndexRebuild", index)
    stage.delete("VectorIndex", index)
    stage.index(index, replicas=2)
    assert said(stage, "IndexRebuild", name) == ("False", "IndexDeleted")
    uid = made["metadata"]["uid"]
    eventually(lambda: unfinished(stage, index, uid) == [], "nothing is left of it on the pods")
    assert [state.counts.live for state in stage.states(index)] == [len(IDS)] * 2  # the volumes were kept
    tried["index deleted and made again in mid-rebuild"] += 1


def unfinished(stage: Stage, index: str, uid: str) -> list[str]:
    listed = (stage.operations(f"{index}-{ordinal}") for ordinal in range(2))
    return [
        name for each in listed for name, found in each.items() if name.startswith(uid) and not found.state.finished
    ]


@pytest.mark.parametrize("kind", ["IndexRebuild", "IndexOptimize"])
def test_a_run_is_deleted_and_made_again_under_its_name_in_the_middle(stage: Stage, index: str, kind: str) -> None:
    name, made, _ = begin(stage, kind, index)
    stage.delete(kind, name)
    again = stage.create(kind, name, {"indexRef": {"name": index}})
    old, new = made["metadata"]["uid"], again["metadata"]["uid"]
    eventually(lambda: unfinished(stage, index, old) == [], "the first one's operation is cancelled")
    assert said(stage, kind, name) == ("True", "Completed")
    assert stage.operations_of(index, new) == {f"{index}-{pod}": {".1": "Succeeded"} for pod in range(2)}
    assert set(stage.operations_of(index, old)[f"{index}-0"].values()) == {"Cancelled"}
    assert stage.operations_of(index, old)[f"{index}-1"] in ({}, {".1": "Cancelled"})
    tried[f"{kind} deleted and made again in its middle"] += 1


def test_scaled_down_and_up_with_a_delete_between(stage: Stage) -> None:
    index = new_index(stage, replicas=3)
    with removed_afterwards(stage, index):
        old = stage.states(index)[2].volume_id
        stage.patch("VectorIndex", index, {"managed": {"replicas": 2}})
        eventually(lambda: len(stage.pods(index)) == 2, "two pods are left")
        stage.create("IndexDelete", f"{index}-delete", {"indexRef": {"name": index}, "externalIDs": IDS[:7]})
        status = stage.finished("IndexDelete", f"{index}-delete")
        assert (status["deletedCount"], [pod["state"] for pod in status["pods"]]) == (7, ["Succeeded"] * 2)
        eventually(lambda: not stage.sidecar(f"{index}-2").running, "its process has ended")
        stage.sidecar(f"{index}-2").remove_volume()  # scaling down removes it
        stage.patch("VectorIndex", index, {"managed": {"replicas": 3}})
        eventually(
            lambda: http_status(f"{stage.sidecar(f'{index}-2').endpoint.url}/indexes/{index}/count") == 200,
            "three pods again",
        )
        states = stage.states(index)
        assert states[2].volume_id != old
        assert [state.counts.live for state in states[:2]] == [len(IDS) - 7] * 2
        tried["scaled 3→2→3 with a delete between"] += 1


def test_scaled_down_in_the_middle_of_a_delete(stage: Stage) -> None:
    """A pod that is gone for good is not waited for."""
    index = new_index(stage, replicas=3)
    with removed_afterwards(stage, index):
        stage.take_down(f"{index}-2")
        name = f"{index}-delete"
        stage.create("IndexDelete", name, {"indexRef": {"name": index}, "externalIDs": IDS[:7]})
        stage.reason("IndexDelete", name, "PodsUnreachable")
        stage.patch("VectorIndex", index, {"managed": {"replicas": 2}})
        status = stage.finished("IndexDelete", name)
        assert (conditions(status)["Succeeded"]["reason"], status["deletedCount"]) == ("Completed", 7)
        assert [pod["state"] for pod in status["pods"]] == ["Succeeded", "Succeeded", "Gone"]
        tried["scaled down in mid-delete"] += 1


def test_rolled_in_the_middle(stage: Stage, index: str) -> None:
    name, _, builder = begin(stage, "IndexRebuild", index)
    stage.patch("VectorIndex", index, {"managed": {"podLabels": {"rolled": "yes"}}})
    message = stage.reason("VectorIndex", index, "RolloutPending", "Reconciling")["message"]
    assert f"waits until IndexRebuild {name} is done" in message
    thaw(builder)
    assert said(stage, "IndexRebuild", name) == ("True", "Completed")
    eventually(
        lambda: all(pod["metadata"]["labels"].get("rolled") == "yes" for pod in stage.pods(index)), "the pods are new"
    )
    eventually(lambda: stage.is_settled(index), "settled")
    assert [state.counts.live for state in stage.states(index)] == [len(IDS)] * 2
    tried["index rolled in mid-rebuild"] += 1


def test_all_pods_are_restarted_at_once_in_the_middle(stage: Stage, index: str) -> None:
    name, made, _ = begin(stage, "IndexRebuild", index, pod=1)
    pods = [f"{index}-{ordinal}" for ordinal in range(2)]
    for pod in pods:
        stage.take_down(pod)
    for pod in pods:
        stage.bring_back(pod)
    assert said(stage, "IndexRebuild", name) == ("True", "Completed")
    assert stage.operations_of(index, made["metadata"]["uid"]) == {pod: {".1": "Succeeded"} for pod in pods}
    tried["all pods restarted at once in mid-rebuild"] += 1


def strip(stage: Stage, kind: str, name: str) -> None:
    """What a restore from a backup does: the object is there, and its status is empty. The UID stays, which is the
    harder case: a restored object with another one is another object."""
    path = f"{stage.path(plural(kind), name)}/status"
    stage.api.patch(path, [{"op": "replace", "path": "/status", "value": {}}], "application/json-patch+json")


def plural(kind: str) -> str:
    return {"VectorIndex": "vectorindexes", "IndexDelete": "indexdeletes", "IndexRebuild": "indexrebuilds"}[kind]


def test_the_status_of_an_index_is_stripped(stage: Stage, index: str) -> None:
    eventually(lambda: stage.is_settled(index), "settled")
    before = stage.get("VectorIndex", index)["status"]
    strip(stage, "VectorIndex", index)
    eventually(lambda: stage.is_settled(index), "settled again")
    after = stage.get("VectorIndex", index)["status"]
    assert states_of(after) == states_of(before)
    assert after["vectors"] == len(IDS)
    tried["status of an index stripped"] += 1


def states_of(status: Object) -> Object:
    """Without the figures, which are written when it is time."""
    return {
        "conditions": [(each["type"], each["status"], each["reason"]) for each in status["conditions"]],
        "pods": [(pod["name"], pod["ready"], pod["volumeID"]) for pod in status["pods"]],
        "scale": (status["replicas"], status["readyReplicas"], status["selector"]),
        "parameters": status["parameters"],
    }


@pytest.mark.parametrize("operator_down", [False, True], ids=["operator up", "operator down"])
@pytest.mark.parametrize("kind", ["IndexDelete", "IndexRebuild"])
def test_the_status_of_a_finished_run_is_stripped(stage: Stage, index: str, kind: str, operator_down: bool) -> None:
    """It is not done again: the sidecars know it."""
    name = f"run-{next(unused)}"
    spec = {"externalIDs": IDS[:5]} if kind == "IndexDelete" else {}
    stage.create(kind, name, {"indexRef": {"name": index}, **spec})
    stage.finished(kind, name)
    before, volumes = stage.ended(kind, name), stage.volumes(index)
    stage.load(index, IDS[:5], VECTORS[:5])  # what was deleted then may be there again, and must stay
    volumes = stage.volumes(index)
    if operator_down:
        stage.operator.kill()
    strip(stage, kind, name)
    if operator_down:
        stage.operator.start()
    stage.finished(kind, name)
    eventually(lambda: stage.ended(kind, name)["told at the end"] == 1, "told")
    assert stage.ended(kind, name) == before
    assert stage.volumes(index) == volumes
    tried[f"status of a finished {kind} stripped"] += 1


def test_the_status_of_a_running_rebuild_is_stripped(stage: Stage, index: str) -> None:
    name, made, builder = begin(stage, "IndexRebuild", index)
    strip(stage, "IndexRebuild", name)
    stage.wait("IndexRebuild", name, lambda status: "startTime" in status, "it is taken up again")
    thaw(builder)
    assert said(stage, "IndexRebuild", name) == ("True", "Completed")
    pods = [f"{index}-{ordinal}" for ordinal in range(2)]
    assert stage.operations_of(index, made["metadata"]["uid"]) == {pod: {".1": "Succeeded"} for pod in pods}
    tried["status of a running rebuild stripped"] += 1


def test_the_status_of_a_run_that_failed_once_is_stripped(stage: Stage, index: str) -> None:
    """Its attempts are on the pods' volumes."""
    name, made, builder = begin(stage, "IndexRebuild", index, backoffLimit=2)
    os.kill(builder, signal.SIGKILL)
    stage.reason("IndexRebuild", name, "Retrying")
    strip(stage, "IndexRebuild", name)
    assert said(stage, "IndexRebuild", name) == ("True", "Completed")
    operations = stage.operations_of(index, made["metadata"]["uid"])
    assert operations == {
        f"{index}-0": {".1": "Failed", ".2": "Succeeded"},
        f"{index}-1": {".1": "Succeeded"},
    }
    tried["status of a rebuild that failed once stripped"] += 1
