"""A VectorIndex on the real API server: its objects, its status, and what it says when something is wrong."""

from __future__ import annotations

import pytest

from devcluster.api import Object
from tests.apiserver.operator.world import World, conditions, eventually, random_items


def service(world: World, name: str) -> str:
    return f"/api/v1/namespaces/{world.namespace}/services/{name}"


def stateful_set(world: World, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{world.namespace}/statefulsets/{name}"


def test_an_index_becomes_ready(world: World) -> None:
    world.index("ready")
    status = world.get("VectorIndex", "ready")["status"]
    assert (status["replicas"], status["readyReplicas"]) == (3, 3)
    assert [pod["name"] for pod in status["pods"]] == ["ready-0", "ready-1", "ready-2"]
    assert status["parameters"] == {"m": 16, "efConstruction": 200, "efSearch": 64, "seed": 0}
    assert conditions(status)["Ready"]["observedGeneration"] == status["observedGeneration"] == 1
    assert world.operator.healthz() == 200


def test_nothing_but_the_status_is_written_on_a_users_object(world: World) -> None:
    metadata = world.get("VectorIndex", "ready")["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata
    ours = [entry for entry in metadata["managedFields"] if entry["manager"] == "vectorindex-operator"]
    assert [(entry["operation"], entry["subresource"]) for entry in ours] == [("Apply", "status")]


def test_drift_is_reverted_and_what_others_set_stays(world: World) -> None:
    path = service(world, "ready")
    world.api.patch(path, {"metadata": {"labels": {"theirs": "1"}}, "spec": {"selector": {"stray": "yes"}}})
    world.api.patch(path, {"spec": {"selector": {"vectorindex.io/index": "another"}}})

    def reverted() -> bool:
        selector: dict[str, str] = world.api.get(path)["spec"]["selector"]
        return selector["vectorindex.io/index"] == "ready"

    eventually(reverted, "the Service selects the index's pods again", lambda: world.operator.log[-2000:])
    assert world.api.get(path)["metadata"]["labels"]["theirs"] == "1"


def test_an_object_that_is_removed_comes_back(world: World) -> None:
    path = service(world, "ready-pods")
    world.api.delete(path)
    eventually(lambda: world.exists(path), "the Service is there again")


def test_an_applied_object_is_not_applied_again(world: World) -> None:
    """Applying what is there already would be a write on each look."""
    world.reason("VectorIndex", "ready", "UpToDate", "Reconciling")
    before = world.operator.log.count("applied StatefulSet ready")
    versions = {path: world.api.get(path)["metadata"]["generation"] for path in [stateful_set(world, "ready")]}
    world.patch("VectorIndex", "ready", {"hnsw": {"efSearch": 77}})
    world.wait(
        "VectorIndex", "ready", lambda status: status.get("parameters", {}).get("efSearch") == 77, "efSearch applied"
    )
    assert world.operator.log.count("applied StatefulSet ready") == before
    assert {path: world.api.get(path)["metadata"]["generation"] for path in versions} == versions


def test_another_m_asks_for_a_rebuild(world: World) -> None:
    world.patch("VectorIndex", "ready", {"hnsw": {"m": 24}})
    needed = world.reason("VectorIndex", "ready", "ParametersChanged", "MaintenanceNeeded")
    assert needed["message"].startswith("spec.hnsw.m is 24, the graph of ready-0 was built with 16")
    eventually(lambda: {state.configuration.desired_m for state in world.states("ready")} == {24}, "every pod is told")


def test_an_m_that_is_taken_back_asks_for_none(world: World) -> None:
    world.patch("VectorIndex", "ready", {"hnsw": {"m": None}})
    world.reason("VectorIndex", "ready", "NotNeeded", "MaintenanceNeeded")
    eventually(lambda: {state.configuration.desired_m for state in world.states("ready")} == {None}, "no pod is asked")
    assert not any(state.needs_rebuild for state in world.states("ready"))


def test_figures_follow_the_end_of_a_run_at_once(world: World) -> None:
    ids, vectors = random_items(50)
    world.load("ready", ids, vectors)
    world.create("IndexDelete", "some", {"indexRef": {"name": "ready"}, "externalIDs": ids[:20]})
    world.finished("IndexDelete", "some")
    status = world.wait("VectorIndex", "ready", lambda now: now["vectors"] == 30, "30 items are left")
    assert status["deletedVectors"] == 20


def test_more_replicas_are_reconciled(world: World) -> None:
    world.index("grows", replicas=1)
    world.patch("VectorIndex", "grows", {"managed": {"replicas": 2}})
    world.wait("VectorIndex", "grows", lambda status: status["readyReplicas"] == 2, "two pods are ready")
    world.reason("VectorIndex", "grows", "UpToDate", "Reconciling")


def test_an_index_is_scaled_as_any_other_workload(world: World) -> None:
    scale = f"{world.path('vectorindexes', 'grows')}/scale"
    before = world.api.get(scale)
    assert (before["spec"]["replicas"], before["status"]["replicas"]) == (2, 2)
    selector = before["status"]["selector"]
    pods = world.api.get(f"/api/v1/namespaces/{world.namespace}/pods", query={"labelSelector": selector})["items"]
    assert sorted(pod["metadata"]["name"] for pod in pods) == ["grows-0", "grows-1"]
    world.api.patch(scale, {"spec": {"replicas": 1}})
    world.wait("VectorIndex", "grows", lambda status: status["replicas"] == 1, "one pod is wanted")
    eventually(lambda: not world.exists(f"/api/v1/namespaces/{world.namespace}/pods/grows-1"), "its other pod is gone")


def test_what_the_pods_need_to_be_scheduled_is_passed_on_and_taken_back(world: World) -> None:
    tolerations = [{"key": "spot", "operator": "Exists"}]
    world.patch("VectorIndex", "grows", {"managed": {"tolerations": tolerations, "podLabels": {"team": "a"}}})

    def pod() -> Object:
        template: Object = world.api.get(stateful_set(world, "grows"))["spec"]["template"]
        return template

    eventually(lambda: pod()["spec"].get("tolerations") == tolerations, "the tolerations are there")
    assert pod()["metadata"]["labels"]["team"] == "a"
    world.reason("VectorIndex", "grows", "UpToDate", "Reconciling")
    world.patch("VectorIndex", "grows", {"managed": {"tolerations": None, "podLabels": None}})
    eventually(lambda: "tolerations" not in pod()["spec"], "the tolerations are gone")
    assert "team" not in pod()["metadata"]["labels"]


@pytest.mark.parametrize(
    "affinity",
    [
        pytest.param({"nodeAffinity": {"unheardOf": 1}}, id="an unknown field"),
        pytest.param({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}, id="an invalid value"),
    ],
)
def test_an_affinity_that_is_none_is_said_on_the_index(world: World, affinity: Object) -> None:
    world.patch("VectorIndex", "grows", {"managed": {"affinity": affinity}})
    stalled = world.reason("VectorIndex", "grows", "InvalidSpec", "Stalled")
    assert "the API server refuses StatefulSet grows" in stalled["message"]
    assert "ffinity" in stalled["message"]
    world.patch("VectorIndex", "grows", {"managed": {"affinity": None}})
    world.reason("VectorIndex", "grows", "NotStalled", "Stalled")


def test_an_object_of_that_name_that_is_not_ours_is_left_alone(world: World) -> None:
    body: Object = {"metadata": {"name": "taken"}, "spec": {"ports": [{"port": 1}], "selector": {"theirs": "yes"}}}
    world.api.create(service(world, "").rstrip("/"), {"apiVersion": "v1", "kind": "Service", **body})
    managed = {"replicas": 1, "storage": {"size": "1Gi"}}
    world.create("VectorIndex", "taken", {"dimensions": 4, "metric": "L2", "managed": managed})
    stalled = world.reason("VectorIndex", "taken", "NameConflict", "Stalled")
    assert "Service taken exists already" in stalled["message"]
    assert world.api.get(service(world, "taken"))["spec"]["selector"] == {"theirs": "yes"}
    world.api.delete(service(world, "taken"))
    world.reason("VectorIndex", "taken", "AllPodsReady", "Ready")


def test_what_the_api_server_refuses_is_said_on_the_index(world: World) -> None:
    managed = {
        "replicas": 1,
        "storage": {"size": "1Gi"},
        "resources": {"limits": {"not/a/name": "1"}},
    }
    world.create("VectorIndex", "invalid", {"dimensions": 4, "metric": "L2", "managed": managed})
    stalled = world.reason("VectorIndex", "invalid", "InvalidSpec", "Stalled")
    assert "the API server refuses StatefulSet invalid" in stalled["message"]


def test_an_index_is_deleted_with_nothing_in_its_way(world: World) -> None:
    world.delete("VectorIndex", "invalid")
    eventually(lambda: not world.exists(world.path("vectorindexes", "invalid")), "the VectorIndex is gone")


def test_an_index_that_is_created_again_takes_the_place_of_the_old_one(world: World) -> None:
    world.index("again", replicas=1)
    old = world.get("VectorIndex", "again")["metadata"]["uid"]
    world.delete("VectorIndex", "again")
    world.index("again", replicas=1)
    uid = world.get("VectorIndex", "again")["metadata"]["uid"]
    assert uid != old
    assert [owner["uid"] for owner in world.api.get(stateful_set(world, "again"))["metadata"]["ownerReferences"]] == [
        uid
    ]
    stalled = [event for event in world.events() if event["regarding"]["uid"] == uid and event["type"] == "Warning"]
    assert stalled == []


def test_sigterm_ends_the_operator_cleanly(world: World) -> None:
    assert world.operator.stop() == 0
    world.operator.start()
    eventually(lambda: world.operator.healthz() == 200, "it is alive again")
