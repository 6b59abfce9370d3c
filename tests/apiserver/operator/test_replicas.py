"""Pods that hold different items, and one on a new volume, with real sidecars."""

from __future__ import annotations

import pytest

from tests.apiserver.operator.world import World, eventually, random_items

INDEX = "copies"
IDS, VECTORS = random_items(200)
A_MINUTE = 150.0
"""For what takes a minute by design, in seconds, on a machine that does other things too."""


@pytest.fixture(scope="module")
def index(world: World) -> World:
    world.index(INDEX, replicas=3)
    world.load(INDEX, IDS, VECTORS)
    return world


def test_pods_that_hold_the_same_are_said_to(index: World) -> None:
    index.reason("VectorIndex", INDEX, "ReplicasAgree", "ReplicasConsistent", A_MINUTE)
    states = index.states(INDEX)
    assert len({state.digest for state in states}) == 1
    assert {state.counts.live for state in states} == {200}


def test_a_pod_on_a_new_volume_waits_for_its_items(index: World) -> None:
    pod = f"{INDEX}-1"
    index.wait("VectorIndex", INDEX, lambda status: status.get("vectors") == 200, "the figures are there", A_MINUTE)
    index.take_down(pod)
    index.sidecar(pod).remove_volume()
    index.bring_back(pod)
    waiting = index.reason("VectorIndex", INDEX, "AwaitingItems", "Reconciling")
    assert f"{pod} holds 0 items on a new volume, {INDEX}-0 200, {INDEX}-2 200" in waiting["message"]
    ready = index.reason("VectorIndex", INDEX, "PodsNotReady", "Ready")
    assert ready["message"] == f"2 of 3 pods ready: {pod} awaits its items"
    assert index.sidecar(pod).readiness == 503
    index.create("IndexDelete", "meanwhile", {"indexRef": {"name": INDEX}, "externalIDs": IDS[:10]})
    assert index.finished("IndexDelete", "meanwhile")["deletedCount"] == 10
    index.load_into(pod, INDEX, IDS[10:100], VECTORS[10:100])
    assert index.sidecar(pod).readiness == 503
    index.load_into(pod, INDEX, IDS[100:], VECTORS[100:])
    index.reason("VectorIndex", INDEX, "AllPodsReady", "Ready")
    assert index.sidecar(pod).readiness == 200
    index.reason("VectorIndex", INDEX, "ReplicasAgree", "ReplicasConsistent", A_MINUTE)


def test_a_pod_that_is_added_waits_as_well(index: World) -> None:
    index.patch("VectorIndex", INDEX, {"managed": {"replicas": 4}})
    index.reason("VectorIndex", INDEX, "AwaitingItems", "Reconciling")
    index.patch("VectorIndex", INDEX, {"managed": {"replicas": 3}})
    index.reason("VectorIndex", INDEX, "AllPodsReady", "Ready")


def test_pods_that_differ_for_a_minute_are_named(index: World) -> None:
    extra, vectors = random_items(1, seed=5)
    index.load_into(f"{INDEX}-2", INDEX, extra, vectors)
    index.reason("VectorIndex", INDEX, "WritesInProgress", "ReplicasConsistent")
    differ = index.reason("VectorIndex", INDEX, "ReplicasDiffer", "ReplicasConsistent", A_MINUTE)
    assert f"{INDEX}-0, {INDEX}-1: 190 items (digest " in differ["message"]
    assert f"{INDEX}-2: 191 items (digest " in differ["message"]
    eventually(lambda: "ReplicasDiffer" in {event["reason"] for event in index.events()}, "there is an Event")
    for pod in (f"{INDEX}-0", f"{INDEX}-1"):
        index.load_into(pod, INDEX, extra, vectors)
    index.reason("VectorIndex", INDEX, "ReplicasAgree", "ReplicasConsistent", A_MINUTE)
