"""The operator's keys: made by itself, rotated and lost while runs are under way; and a token for use by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from devcluster.api import Object
from tests.apiserver.operator.world import World, conditions, eventually, random_items, thaw

INDEX = "words"
IDS, VECTORS = random_items(1_000)
PODS = [f"{INDEX}-{ordinal}" for ordinal in range(3)]


@pytest.fixture(scope="module")
def index(world: World) -> World:
    world.index(INDEX)
    world.load(INDEX, IDS, VECTORS)
    return world


def keys(world: World) -> list[str]:
    """The IDs of the keys that the identity's ConfigMap names."""
    return [key["kid"] for key in json.loads(world.identity(INDEX))["public_keys"]]


def pods(world: World) -> set[str]:
    listed = world.api.get(f"/api/v1/namespaces/{world.namespace}/pods")["items"]
    return {each["metadata"]["uid"] for each in listed if each["metadata"]["name"] in PODS}


def new_keys(world: World, before: list[str], kept: int) -> list[str]:
    """Wait until ``kept`` of the two keys are left in the identity's ConfigMap, and return those that are there."""
    eventually(
        lambda: len(set(keys(world)) & set(before)) == kept and keys(world) != before,
        "other keys",
        lambda: world.operator.log[-2000:],
    )
    return keys(world)


def told(world: World) -> list[str]:
    """The reasons of the events that tell of the pods' keys."""
    return [event["reason"] for event in world.events() if event["reason"] == "KeyPending"]


def rebuild(world: World, name: str, pod: str) -> int:
    """Begin a rebuild and stop it in the middle, on this pod; returns the PID of its builder."""
    world.create("IndexRebuild", name, {"indexRef": {"name": INDEX}, "backoffLimit": 0})
    builder = world.sidecar(pod).freeze_builder()

    def at_work(status: Object) -> bool:
        return any(row["name"] == pod and row["state"] == "Running" for row in status["pods"])

    world.wait("IndexRebuild", name, at_work, f"at work on {pod}")
    return builder


def test_the_operator_makes_its_keys_itself_and_keeps_them(index: World) -> None:
    secret = index.api.get(index.secret)
    assert set(secret["data"]) == {"current.pem", "next.pem"}
    before = keys(index)
    assert len(set(before)) == 2
    index.operator.kill()
    index.operator.start()
    index.create("IndexDelete", "after-a-restart", {"indexRef": {"name": INDEX}, "externalIDs": ["item-0"]})
    assert index.finished("IndexDelete", "after-a-restart")["deletedCount"] == 1
    assert index.api.get(index.secret)["metadata"]["resourceVersion"] == secret["metadata"]["resourceVersion"]
    assert keys(index) == before


def test_a_rotation_in_the_middle_of_a_rebuild_is_noticed_by_nobody(index: World) -> None:
    before, running = keys(index), pods(index)
    builder = rebuild(index, "rotated", PODS[1])
    index.api.request(
        "PATCH",
        index.secret,
        [{"op": "remove", "path": "/data/current.pem"}],
        content_type="application/json-patch+json",
    )
    after = new_keys(index, before, kept=1)
    assert after[0] == before[1]
    thaw(builder)  # the pods' files are as they were: they know the key already
    status = index.finished("IndexRebuild", "rotated")
    assert conditions(status)["Succeeded"]["reason"] == "Completed"
    assert [(pod["attempt"], pod["restarts"]) for pod in status["pods"]] == [(1, 0)] * 3
    assert told(index) == []
    assert pods(index) == running
    index.remount(INDEX)


def test_the_secret_deleted_in_the_middle_of_a_rebuild_delays_it_and_no_more(index: World) -> None:
    before, running = keys(index), pods(index)
    builder = rebuild(index, "lost", PODS[1])
    index.api.delete(index.secret)
    new_keys(index, before, kept=0)
    thaw(builder)
    waiting = index.reason("IndexRebuild", "lost", "KeyPending")
    assert (
        "does not accept the operator's token yet (the token is not accepted: its key is not in" in waiting["message"]
    )
    ready = index.reason("VectorIndex", INDEX, "PodsNotReady", "Ready")
    assert "0 of 3 pods ready: words-0 does not accept the operator's token yet" in ready["message"]
    index.create("IndexDelete", "meanwhile", {"indexRef": {"name": INDEX}, "externalIDs": ["item-1"]})
    index.reason("IndexDelete", "meanwhile", "KeyPending")
    index.remount(INDEX)
    status = index.finished("IndexRebuild", "lost")
    assert conditions(status)["Succeeded"]["reason"] == "Completed"
    assert [(pod["attempt"], pod["restarts"]) for pod in status["pods"]] == [(1, 0)] * 3
    assert index.finished("IndexDelete", "meanwhile")["deletedCount"] == 1
    assert pods(index) == running
    index.reason("VectorIndex", INDEX, "AllPodsReady", "Ready")


def token(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the operator's name."""
    command = [sys.executable, "-m", "vectorindex.cli.operator", "token", "--operator-namespace", world.namespace]
    environment = {**os.environ, "KUBECONFIG": str(world.operator.kubeconfig)}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)


def test_a_token_for_use_by_hand(index: World, tmp_path: Path) -> None:
    printed = token(index, "--index", f"{index.namespace}/{INDEX}", "--pod", PODS[0])
    assert printed.returncode == 0, printed.stderr
    url = f"{index.sidecar(PODS[0]).endpoint.url}/v1/indexes/{INDEX}/state"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {printed.stdout.strip()}"})
    with urllib.request.urlopen(asked, timeout=5) as answer:
        assert json.load(answer)["identity"]["pod"] == PODS[0]


def test_no_token_without_the_secret(index: World) -> None:
    pod = ("--index", f"{index.namespace}/{INDEX}", "--pod", PODS[0])
    elsewhere = token(index, *pod, "--operator-namespace", "default")
    assert elsewhere.returncode == 1
    assert "forbidden" in elsewhere.stderr
    assert "Traceback" not in elsewhere.stderr
    assert token(index, "--index", INDEX, "--pod", PODS[0]).returncode == 2
