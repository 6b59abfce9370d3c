"""Pods of the user's own (``podSelector``) on the real API server, with real sidecars in them."""

from __future__ import annotations

import copy
from datetime import datetime
from pathlib import Path

import yaml

from devcluster.api import Object
from tests.apiserver.operator.world import DIMENSIONS, World, conditions, eventually, random_items
from vectorindex.api.names import INDEX_LABEL

EXAMPLE = Path(__file__).parents[3] / "examples" / "own-pods"
SHOP = next(yaml.safe_load_all((EXAMPLE / "application.yaml").read_text()))
IDS, VECTORS = random_items(100)


def create_index(world: World, name: str, **spec: object) -> None:
    world.create("VectorIndex", name, {"dimensions": DIMENSIONS, "metric": "L2", **spec})


def by_label(name: str) -> Object:
    return {"matchLabels": {INDEX_LABEL: name}}


def create_pod(world: World, name: str, labels: Object, index: str | None = None, port: int = 8080) -> None:
    """A pod of the application alone, or with the sidecar of an index beside it."""
    containers: list[Object] = [{"name": "application", "image": "shop"}]
    volumes: list[Object] = []
    if index is not None:
        containers.append({"name": "sidecar", "image": "vectorindex", "ports": [{"containerPort": port}]})
        volumes.append({"name": "identity", "configMap": {"name": f"{index}-identity"}})
    metadata = {"name": name, "labels": labels}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers, "volumes": volumes},
    }
    world.api.create(pods(world), body)


def pods(world: World, name: str = "") -> str:
    return f"/api/v1/namespaces/{world.namespace}/pods" + (f"/{name}" if name else "")


def message(world: World, index: str, condition: str = "Ready") -> str:
    text: str = conditions(world.get("VectorIndex", index)["status"])[condition]["message"]
    return text


def test_a_pod_goes_for_good_under_a_delete(world: World) -> None:
    """The minute begins; what comes of it, the last test looks at."""
    for name in ("leaves-a", "leaves-b"):
        create_pod(world, name, {INDEX_LABEL: "leaves"}, "leaves")
    create_index(world, "leaves", podSelector=by_label("leaves"))
    world.reason("VectorIndex", "leaves", "AllPodsReady", "Ready")
    world.take_down("leaves-b")
    world.create("IndexDelete", "leaves", {"indexRef": {"name": "leaves"}, "externalIDs": IDS[:1]})
    world.reason("IndexDelete", "leaves", "PodsUnreachable")
    world.api.delete(pods(world, "leaves-b"))
    world.wait("IndexDelete", "leaves", lambda status: "missingTime" in status["pods"][1], "it is missed")


def test_before_there_is_a_pod(world: World) -> None:
    create_index(world, "products", podSelector=by_label("products"))
    ready = world.reason("VectorIndex", "products", "PodsNotReady", "Ready")
    assert ready["message"] == "no pod matches spec.podSelector"
    world.create("IndexDelete", "early", {"indexRef": {"name": "products"}, "externalIDs": IDS[:1]})
    waiting = world.reason("IndexDelete", "early", "PodsUnreachable")
    assert waiting["message"] == "no pod matches spec.podSelector"


def test_the_pods_of_the_example_become_an_index(world: World) -> None:
    stateful_set = copy.deepcopy(SHOP)
    world.api.create(f"/apis/apps/v1/namespaces/{world.namespace}/statefulsets", stateful_set)
    world.reason("VectorIndex", "products", "AllPodsReady", "Ready")
    status = world.get("VectorIndex", "products")["status"]
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    assert [pod["name"] for pod in status["pods"]] == ["shop-0", "shop-1"]
    assert "selector" not in status
    assert world.finished("IndexDelete", "early")["notFoundCount"] == 1


def test_the_operator_owns_the_identity_and_nothing_else(world: World) -> None:
    uid = world.get("VectorIndex", "products")["metadata"]["uid"]
    owned = []
    for group, plural in (
        ("api/v1", "configmaps"),
        ("api/v1", "services"),
        ("apis/apps/v1", "statefulsets"),
        ("apis/policy/v1", "poddisruptionbudgets"),
    ):
        for each in world.api.get(f"/{group}/namespaces/{world.namespace}/{plural}")["items"]:
            owners = each["metadata"].get("ownerReferences", ())
            owned += [(plural, each["metadata"]["name"]) for owner in owners if owner["uid"] == uid]
    assert owned == [("configmaps", "products-identity")]


def test_runs_go_over_all_pods(world: World) -> None:
    world.load("products", IDS, VECTORS)
    world.create("IndexDelete", "some", {"indexRef": {"name": "products"}, "externalIDs": IDS[:20]})
    deleted = world.finished("IndexDelete", "some")
    assert (deleted["deletedCount"], [pod["deletedCount"] for pod in deleted["pods"]]) == (20, [20, 20])
    world.create("IndexRebuild", "larger", {"indexRef": {"name": "products"}, "params": {"m": 24}})
    rebuilt = world.finished("IndexRebuild", "larger")
    assert conditions(rebuilt)["Succeeded"]["reason"] == "Completed"
    assert [(pod["name"], pod["vectorsAfter"]) for pod in rebuilt["pods"]] == [("shop-0", 80), ("shop-1", 80)]
    assert all(IDS[30] in found for found in world.search("products", VECTORS[30]))


def test_a_pod_that_is_added_gets_what_a_delete_has_left_to_do(world: World) -> None:
    world.take_down("shop-1")
    world.create("IndexDelete", "later", {"indexRef": {"name": "products"}, "externalIDs": IDS[20:30]})
    world.reason("IndexDelete", "later", "PodsUnreachable")
    world.api.patch(f"/apis/apps/v1/namespaces/{world.namespace}/statefulsets/shop", {"spec": {"replicas": 3}})
    world.wait("IndexDelete", "later", lambda status: len(status["pods"]) == 3, "the new pod is called too")
    world.bring_back("shop-1")
    status = world.finished("IndexDelete", "later")
    assert [(pod["name"], pod["deletedCount"]) for pod in status["pods"]] == [
        ("shop-0", 10),
        ("shop-1", 10),
        ("shop-2", 0),
    ]
    world.reason("VectorIndex", "products", "AwaitingItems", "Reconciling")
    world.load_into("shop-2", "products", IDS[30:], VECTORS[30:])
    world.reason("VectorIndex", "products", "AllPodsReady", "Ready")


def test_fewer_pods_are_an_index_too(world: World) -> None:
    world.api.patch(f"/apis/apps/v1/namespaces/{world.namespace}/statefulsets/shop", {"spec": {"replicas": 2}})
    world.wait("VectorIndex", "products", lambda status: len(status["pods"]) == 2, "the pod is gone")
    world.reason("VectorIndex", "products", "AllPodsReady", "Ready")


def test_a_pod_that_goes_and_comes_back_under_a_delete_is_waited_for(world: World) -> None:
    """As at a rollout: it is another Pod of the same name, on the same volume."""
    world.take_down("shop-1")
    world.create("IndexDelete", "rollout", {"indexRef": {"name": "products"}, "externalIDs": IDS[30:40]})
    world.reason("IndexDelete", "rollout", "PodsUnreachable")
    world.api.delete(pods(world, "shop-1"))
    status = world.finished("IndexDelete", "rollout")
    assert [(pod["name"], pod["state"], pod["deletedCount"]) for pod in status["pods"]] == [
        ("shop-0", "Succeeded", 10),
        ("shop-1", "Succeeded", 10),
    ]
    assert not any("missingTime" in pod for pod in status["pods"])


def test_pods_by_other_labels_and_on_another_port(world: World) -> None:
    """They come before their index, as pods of a Helm release may, and are not watched."""
    create_pod(world, "plain-a", {"app": "plain", "tier": "front"}, "plain", 9_000)
    create_pod(world, "plain-b", {"app": "plain", "tier": "back"}, "plain", 9_000)
    create_pod(world, "other", {"app": "plain"}, None)
    tiers = {"key": "tier", "operator": "In", "values": ["front", "back"]}
    create_index(world, "plain", port=9_000, podSelector={"matchLabels": {"app": "plain"}, "matchExpressions": [tiers]})
    world.reason("VectorIndex", "plain", "AllPodsReady", "Ready")
    assert [pod["name"] for pod in world.get("VectorIndex", "plain")["status"]["pods"]] == ["plain-a", "plain-b"]


def test_a_pod_without_a_sidecar_is_named(world: World) -> None:
    world.patch("VectorIndex", "plain", {"podSelector": {"matchExpressions": None}})
    eventually(lambda: message(world, "plain") == "2 of 3 pods ready: other connection refused", "the pod is named")
    world.api.delete(pods(world, "other"))
    world.reason("VectorIndex", "plain", "AllPodsReady", "Ready")


def test_pods_of_another_index_say_which(world: World) -> None:
    create_index(world, "second", podSelector={"matchLabels": {"app": "plain"}}, port=9_000)
    stalled = world.reason("VectorIndex", "second", "IdentityMismatch", "Stalled")
    before, _, after = stalled["message"].partition(" answers as another one: ")
    assert before == "pod plain-a"
    assert "plain" in after
    world.delete("VectorIndex", "second")


def test_an_evicted_pod_is_no_pod(world: World) -> None:
    create_pod(world, "plain-c", {"app": "plain", "tier": "front"}, "plain", 9_000)
    world.wait("VectorIndex", "plain", lambda status: status["readyReplicas"] == 3, "it is there")
    status = {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}
    world.api.patch(f"{pods(world, 'plain-c')}/status", {"status": status})
    world.wait("VectorIndex", "plain", lambda status: status["replicas"] == 2, "it is none any more")
    world.reason("VectorIndex", "plain", "AllPodsReady", "Ready")


def test_an_index_that_goes_leaves_the_pods_alone(world: World) -> None:
    world.delete("VectorIndex", "plain")
    path = f"/api/v1/namespaces/{world.namespace}/configmaps/plain-identity"
    eventually(lambda: not world.exists(path), "its ConfigMap is gone")
    assert world.exists(pods(world, "plain-a"))


def test_an_index_that_is_created_again_takes_the_pods_over(world: World) -> None:
    """Nobody replaces them: their identity file, when it arrives, says that they are this one's now."""
    create_index(world, "plain", podSelector={"matchLabels": {"app": "plain"}}, port=9_000)
    world.reason("VectorIndex", "plain", "PodsNotReady", "Ready")
    path = f"/api/v1/namespaces/{world.namespace}/configmaps/plain-identity"
    eventually(lambda: world.exists(path), "there is a new identity")
    world.remount("plain")
    world.reason("VectorIndex", "plain", "AllPodsReady", "Ready")


def test_the_operator_that_missed_the_pod_is_killed(world: World) -> None:
    world.operator.kill()
    world.operator.start()
    eventually(lambda: world.operator.healthz() == 200, "another one is alive")


def test_the_pod_is_gone_after_a_minute(world: World) -> None:
    status = world.finished("IndexDelete", "leaves")
    assert conditions(status)["Succeeded"]["reason"] == "Completed"
    gone = status["pods"][1]
    assert (gone["name"], gone["state"]) == ("leaves-b", "Gone")
    missing = datetime.fromisoformat(status["completionTime"]) - datetime.fromisoformat(gone["missingTime"])
    assert 60 <= missing.total_seconds() < 70
