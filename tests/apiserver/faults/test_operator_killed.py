"""The operator ended by SIGKILL at each of its calls that change something: a run ends as if it had not been."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.apiserver.faults.conftest import IDS, INDEX
from tests.apiserver.faults.every_call import Killed, compare_all
from tests.apiserver.faults.stage import Stage
from tests.apiserver.operator.world import Object, eventually

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


def play(stage: Stage, title: str, ids: list[str], killed: Killed) -> tuple[Object, list[str]]:
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
    play(stage, title, next(slices), None)  # what is there already, such as another m, is the same for all that follow
    compare_all(stage, title, lambda killed: play(stage, title, next(slices), killed), few=2, calls_at_least=4)


def play_cancelled(stage: Stage, killed: Killed) -> tuple[Object, list[str]]:
    """A rebuild that is cancelled in its middle."""
    name = f"cancelled-{next(unused)}"
    stage.reason("VectorIndex", INDEX, "AllPodsReady", "Ready")
    before = stage.volumes(INDEX)
    stage.create("IndexRebuild", name, {"indexRef": {"name": INDEX}})
    stage.sidecar(f"{INDEX}-0").freeze_builder()
    stage.reason("IndexRebuild", name, "Running")
    calls = stage.play(
        lambda: stage.patch("IndexRebuild", name, {"cancel": True}),
        lambda: "completionTime" in stage.get("IndexRebuild", name)["status"],
        THEIR_CALLS,
        killed,
    )
    eventually(lambda: stage.ended("IndexRebuild", name)["told at the end"] == 1, f"{name}: its end is told")
    assert stage.volumes(INDEX) == before
    return stage.ended("IndexRebuild", name), list(calls)


def test_a_run_is_cancelled_as_without_the_fault(stage: Stage) -> None:
    compare_all(stage, "cancel", lambda killed: play_cancelled(stage, killed), few=1, calls_at_least=2)


def play_expiring(stage: Stage, ids: list[str], killed: Killed) -> tuple[Object, list[str]]:
    """A delete that is removed as soon as it has ended."""
    name = f"expiring-{next(unused)}"
    stage.reason("VectorIndex", INDEX, "AllPodsReady", "Ready")
    live = [volume["live"] for volume in stage.volumes(INDEX)]
    uids: list[str] = []

    def create() -> None:
        spec = {"indexRef": {"name": INDEX}, "externalIDs": ids, "ttlSecondsAfterFinished": 0}
        uids.append(stage.create("IndexDelete", name, spec)["metadata"]["uid"])

    calls = stage.play(create, lambda: not stage.exists(stage.path("indexdeletes", name)), THEIR_CALLS, killed)
    told = Counter(event["reason"] for event in stage.events() if event["regarding"]["uid"] == uids[0])
    after = [volume["live"] for volume in stage.volumes(INDEX)]
    return {
        "changed": [new - old for new, old in zip(after, live, strict=True)],
        "operations": stage.operations_of(INDEX, uids[0]),
        "told": told["Completed"],
    }, list(calls)


def test_a_run_is_removed_by_its_ttl_as_without_the_fault(stage: Stage, slices: Iterator[list[str]]) -> None:
    compare_all(stage, "TTL", lambda killed: play_expiring(stage, next(slices), killed), few=1, calls_at_least=4)
