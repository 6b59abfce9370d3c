"""The operator ended by SIGKILL at each of its calls while an index is made, changed or removed: it ends as without."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.apiserver.faults.conftest import INDEX
from tests.apiserver.faults.every_call import Killed, compare_all
from tests.apiserver.faults.stage import Stage
from tests.apiserver.faults.tally import chosen
from tests.apiserver.operator.world import Object, eventually
from vectorindex.api import names

unused = itertools.count()


def make(stage: Stage, name: str) -> None:
    managed = {"replicas": 1, "storage": {"size": "1Gi"}}
    stage.create("VectorIndex", name, {"dimensions": 4, "metric": "L2", "managed": managed})


def scale(stage: Stage, name: str, replicas: int) -> None:
    stage.patch("VectorIndex", name, {"managed": {"replicas": replicas}})


def roll(stage: Stage, name: str) -> None:
    stage.patch("VectorIndex", name, {"managed": {"podLabels": {"rolled": "yes"}}})


def upgrade(stage: Stage, name: str) -> None:
    """The operator comes back with another image for the pods of all indexes."""
    stage.operator.stop()
    stage.operator.default_image = f"vectorindex:{name}"
    stage.operator.start()


@dataclass(frozen=True)
class Story:
    """What is done to an index of so many pods (0: there is none), and how many there are then."""

    before: int
    act: Callable[[Stage, str], None]
    after: int


CHANGED = {
    "an index is scaled up": Story(1, lambda stage, name: scale(stage, name, 2), 2),
    "an index is scaled down": Story(2, lambda stage, name: scale(stage, name, 1), 1),
    "an index is rolled": Story(2, roll, 2),
    "the image of all indexes is changed": Story(1, upgrade, 1),
}


def play(stage: Stage, story: Story, killed: Killed) -> tuple[Object, list[str]]:
    """One story, of an index of its own."""
    name = f"told-{next(unused)}"
    if story.before:
        stage.index(name, replicas=story.before)
        eventually(lambda: stage.is_settled(name), f"{name} is settled")
    calls = stage.play(
        lambda: story.act(stage, name),
        lambda: all(is_as_wanted(stage, each) for each in (name, INDEX)) and len(stage.pods(name)) == story.after,
        rf"{name}(?!\d)|/events",
        killed,
    )
    status = stage.get("VectorIndex", name)["status"]
    found = {
        "conditions": [(each["type"], each["status"], each["reason"]) for each in status["conditions"]],
        "pods": [(pod["name"], pod["ready"]) for pod in status["pods"]],
        "objects": {path: stage.api.get(path)["metadata"].get("generation") for path in owned(stage, name)},
    }
    stage.delete("VectorIndex", name)
    eventually(lambda: not stage.pods(name), f"the pods of {name} are gone")
    return {field: str(value).replace(name, "told") for field, value in found.items()}, list(calls)


def test_an_index_is_made_as_without_the_fault(stage: Stage) -> None:
    story = Story(0, make, 1)
    compare_all(stage, "an index is made", lambda killed: play(stage, story, killed), few=2, calls_at_least=6)


@pytest.mark.parametrize("title", chosen(list(CHANGED), 1))
def test_an_index_is_changed_as_without_the_fault(stage: Stage, title: str) -> None:
    compare_all(stage, title, lambda killed: play(stage, CHANGED[title], killed), few=1, calls_at_least=2)


def play_deleted(stage: Stage, killed: Killed) -> tuple[Object, list[str]]:
    """An index is deleted while one of its pods is rebuilt."""
    name, run = f"told-{next(unused)}", f"rebuild-{next(unused)}"
    stage.index(name, replicas=1)
    stage.create("IndexRebuild", run, {"indexRef": {"name": name}})
    stage.sidecar(f"{name}-0").freeze_builder()
    stage.reason("IndexRebuild", run, "Running")
    calls = stage.play(
        lambda: stage.delete("VectorIndex", name),
        lambda: "completionTime" in stage.get("IndexRebuild", run)["status"] and not stage.pods(name),
        rf"{name}(?!\d)|{run}(?!\d)|/events",
        killed,
    )
    eventually(lambda: stage.ended("IndexRebuild", run)["told at the end"] == 1, f"{run}: its end is told")
    return stage.ended("IndexRebuild", run)["conditions"], list(calls)


def test_an_index_is_deleted_in_mid_rebuild_as_without_the_fault(stage: Stage) -> None:
    compare_all(stage, "an index is deleted", lambda killed: play_deleted(stage, killed), few=1, calls_at_least=2)


def is_as_wanted(stage: Stage, name: str) -> bool:
    """Is it settled, with every pod of the newest template?"""
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/statefulsets/{name}"
    if not stage.exists(path):
        return False
    manifest, owner = stage.get("VectorIndex", name), stage.api.get(path)
    status = owner["status"]
    return (
        manifest.get("status", {}).get("observedGeneration") == manifest["metadata"]["generation"]
        and status.get("observedGeneration") == owner["metadata"]["generation"]
        and status.get("currentRevision") == status.get("updateRevision")
        and owner["spec"]["template"]["spec"]["containers"][0]["image"] == stage.operator.default_image
        and stage.is_settled(name)
    )


def owned(stage: Stage, name: str) -> list[str]:
    """The paths of what an index owns."""
    core, apps = f"/api/v1/namespaces/{stage.namespace}", f"/apis/apps/v1/namespaces/{stage.namespace}"
    policy = f"/apis/policy/v1/namespaces/{stage.namespace}"
    return [
        f"{apps}/statefulsets/{name}",
        f"{core}/services/{name}",
        f"{core}/services/{names.pods_service(name)}",
        f"{core}/configmaps/{names.identity(name)}",
        f"{policy}/poddisruptionbudgets/{name}",
    ]
