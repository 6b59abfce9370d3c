"""The operator ended by SIGKILL at each of its calls that change something: a run ends as if it had not been."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.apiserver.faults.conftest import IDS, INDEX
from tests.apiserver.faults.proxy import When
from tests.apiserver.faults.stage import Stage
from tests.apiserver.faults.tally import chosen, tried
from tests.apiserver.operator.world import Object, eventually
from vectorindex.api import names

RUNS: dict[str, tuple[str, Object]] = {
    "delete": ("IndexDelete", {"returnNotFound": True}),
    "limited delete": ("IndexDelete", {"returnNotFound": True, "maxDeletePercent": 50}),
    "dry run": ("IndexDelete", {"returnNotFound": True, "dryRun": True}),
    "rebuild": ("IndexRebuild", {"params": {"m": 20}, "operationID": "each-its-own"}),
    "optimize": ("IndexOptimize", {}),
}
THEIR_CALLS = "/operations/|/delete-preview|/events|/index(deletes|rebuilds|optimizes)/"
unused = itertools.count()


@pytest.fixture(scope="module")
def slices() -> Iterator[list[str]]:
    """Items that no run has deleted so far, five at a time."""
    return (IDS[start : start + 5] for start in range(0, len(IDS), 5))


def play(stage: Stage, title: str, ids: list[str], killed: tuple[int, When] | None = None) -> tuple[Object, list[str]]:
    """One run; how it ended, what it changed on the pods, and which calls it took."""
    kind, spec = RUNS[title]
    name = f"{title.replace(' ', '-')}-{next(unused)}"
    if kind == "IndexDelete":
        spec = {**spec, "externalIDs": [*ids, "nobody", ids[0]]}
    if "operationID" in spec:
        spec = {**spec, "operationID": name}
    stage.reason("VectorIndex", INDEX, "AllPodsReady", "Ready")
    before = stage.volumes(INDEX)
    calls = stage.play(
        lambda: stage.create(kind, name, {"indexRef": {"name": INDEX}, **spec}),
        lambda: "completionTime" in stage.get(kind, name)["status"],
        THEIR_CALLS,
        killed,
    )
    eventually(lambda: stage.ended(kind, name)["told at the end"] == 1, f"{name}: its end is told")
    after = stage.volumes(INDEX)
    changed = [
        {
            **new,
            "live": new["live"] - old["live"],
            "deleted": new["deleted"] - old["deleted"] if kind == "IndexDelete" else new["deleted"],
        }
        for new, old in zip(after, before, strict=True)
    ]
    return {**stage.ended(kind, name), "changed": changed}, list(calls)


@pytest.mark.parametrize("title", RUNS)
def test_a_run_ends_as_without_the_fault(stage: Stage, slices: Iterator[list[str]], title: str) -> None:
    play(stage, title, next(slices))  # what is there already, such as another m, is the same for all that follow
    expected, calls = play(stage, title, next(slices))
    points = [(call, when) for call in range(len(calls)) for when in When]
    assert len(points) >= 8, calls
    for call, when in chosen(points, 2):
        found, made = play(stage, title, next(slices), (call, when))
        assert found == expected, f"killed at call {call} ({when.value}) of {calls}: {made}"
        if stage.gate.hit:
            tried[f"operator killed at a call: {title}"] += 1


def test_an_index_is_made_as_without_the_fault(stage: Stage) -> None:
    def play_index(killed: tuple[int, When] | None = None) -> tuple[Object, list[str]]:
        name = f"made-{next(unused)}"
        managed = {"replicas": 1, "storage": {"size": "1Gi"}}
        calls = stage.play(
            lambda: stage.create("VectorIndex", name, {"dimensions": 4, "metric": "L2", "managed": managed}),
            lambda: stage.is_settled(name),
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
        plain = {field: str(value).replace(name, "made") for field, value in found.items()}
        return plain, list(calls)

    expected, calls = play_index()
    points = [(call, when) for call in range(len(calls)) for when in When]
    assert len(points) >= 12, calls
    for call, when in chosen(points, 2):
        found, made = play_index((call, when))
        assert found == expected, f"killed at call {call} ({when.value}) of {calls}: {made}"
        if stage.gate.hit:
            tried["operator killed at a call: an index is made"] += 1


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
