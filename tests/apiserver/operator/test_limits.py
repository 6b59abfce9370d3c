"""Runs with limits, on three pods with real sidecars: deadlines, attempts, pods at a time, suspension, time to live."""

from __future__ import annotations

import os
import signal

import pytest

from tests.apiserver.operator.world import Object, World, conditions, eventually, random_items, thaw

INDEX = "limited"
IDS, VECTORS = random_items(600)


@pytest.fixture(scope="module")
def index(world: World) -> World:
    world.index(INDEX, maintenance={"maxConcurrentPods": 2})
    world.load(INDEX, IDS, VECTORS)
    return world


def create(world: World, kind: str, name: str, **spec: object) -> None:
    world.create(kind, name, {"indexRef": {"name": INDEX}, **spec})


def rows(status: Object) -> dict[str, Object]:
    return {row["name"]: row for row in status["pods"]}


def test_so_many_pods_at_a_time_as_the_index_allows(index: World) -> None:
    create(index, "IndexRebuild", "two-at-a-time")
    builders = [index.sidecar(f"{INDEX}-{ordinal}").freeze_builder() for ordinal in (0, 1)]
    states = ["Running", "Running", "Pending"]
    index.wait(
        "IndexRebuild",
        "two-at-a-time",
        lambda status: [row["state"] for row in status.get("pods", ())] == states,
        "two pods are at work",
    )
    for builder in builders:
        thaw(builder)
    status = index.finished("IndexRebuild", "two-at-a-time")
    assert conditions(status)["Succeeded"]["reason"] == "Completed"
    assert rows(status)[f"{INDEX}-2"]["startTime"] >= rows(status)[f"{INDEX}-1"]["startTime"]


def test_a_build_that_failed_is_tried_again_as_another_operation(index: World) -> None:
    create(index, "IndexRebuild", "again", backoffLimit=1)
    pod = f"{INDEX}-0"
    os.kill(index.sidecar(pod).freeze_builder(), signal.SIGKILL)
    said = index.reason("IndexRebuild", "again", "Retrying")
    assert "attempt 1 of 2" in said["message"]
    status = index.finished("IndexRebuild", "again")
    assert conditions(status)["Succeeded"]["reason"] == "Completed"
    assert [row["attempt"] for row in status["pods"]] == [2, 1, 1]
    uid = index.get("IndexRebuild", "again")["metadata"]["uid"]
    states = {name: each.state.value for name, each in index.operations(pod).items() if name.startswith(uid)}
    assert states == {f"{uid}.1": "Failed", f"{uid}.2": "Succeeded"}


def test_without_attempts_left_the_run_fails_and_the_others_are_cancelled(index: World) -> None:
    before = index.states(INDEX)
    create(index, "IndexRebuild", "once", backoffLimit=0, params={"m": 30})
    held = index.sidecar(f"{INDEX}-1").freeze_builder()
    os.kill(index.sidecar(f"{INDEX}-0").freeze_builder(), signal.SIGKILL)
    status = index.finished("IndexRebuild", "once")
    thaw(held)
    said = conditions(status)["Succeeded"]
    assert (said["status"], said["reason"]) == ("False", "BackoffLimitExceeded")
    assert said["message"].endswith(f"; not done on {INDEX}-0, {INDEX}-1, {INDEX}-2")
    assert [row["state"] for row in status["pods"]] == ["Failed", "Cancelled", "Cancelled"]
    assert [state.parameters for state in index.states(INDEX)] == [state.parameters for state in before]


def test_a_delete_past_its_deadline_names_who_has_deleted_and_counts_it(index: World) -> None:
    index.take_down(f"{INDEX}-1")
    create(index, "IndexDelete", "late", externalIDs=[IDS[0], "nobody"], activeDeadlineSeconds=2)
    status = index.finished("IndexDelete", "late")
    index.bring_back(f"{INDEX}-1")
    said = conditions(status)["Succeeded"]
    assert (said["status"], said["reason"]) == ("False", "DeadlineExceeded")
    assert f"done on {INDEX}-0, {INDEX}-2" in said["message"]
    assert f"{INDEX}-1" in said["message"]
    assert status["deletedCount"] == 1
    assert "notFoundCount" not in status


def test_a_rebuild_past_its_deadline_is_cancelled_on_its_pods(index: World) -> None:
    index.reason("VectorIndex", INDEX, "AllPodsReady", "Ready")
    create(index, "IndexRebuild", "late", activeDeadlineSeconds=2)
    held = [index.sidecar(f"{INDEX}-{ordinal}").freeze_builder() for ordinal in (0, 1)]
    status = index.finished("IndexRebuild", "late")
    for builder in held:
        thaw(builder)
    assert conditions(status)["Succeeded"]["reason"] == "DeadlineExceeded"
    assert [row["state"] for row in status["pods"]] == ["Cancelled"] * 3


def test_nothing_starts_on_a_suspended_index_but_deletes(index: World) -> None:
    index.patch("VectorIndex", INDEX, {"suspend": True})
    create(index, "IndexOptimize", "held")
    assert INDEX in index.reason("IndexOptimize", "held", "Suspended")["message"]
    create(index, "IndexDelete", "all-the-same", externalIDs=[IDS[1]])
    assert index.finished("IndexDelete", "all-the-same")["deletedCount"] == 1
    assert "startTime" not in index.get("IndexOptimize", "held")["status"]
    index.patch("VectorIndex", INDEX, {"suspend": False})
    assert conditions(index.finished("IndexOptimize", "held"))["Succeeded"]["reason"] == "Completed"


@pytest.mark.parametrize("operator_down", [False, True], ids=["operator up", "operator down meanwhile"])
def test_a_run_is_deleted_some_time_after_its_end(index: World, operator_down: bool) -> None:
    name = f"brief-{operator_down}".lower()
    create(index, "IndexDelete", name, externalIDs=["nobody"], ttlSecondsAfterFinished=2)
    index.finished("IndexDelete", name)
    if operator_down:
        index.operator.kill()
        index.operator.start()
    path = index.path("indexdeletes", name)
    eventually(lambda: not index.exists(path), "it is deleted")
    assert index.exists(index.path("indexdeletes", "late"))


@pytest.mark.parametrize(
    ("kind", "spec", "other"),
    [
        ("IndexDelete", {"externalIDs": [IDS[10], "nobody"]}, {"externalIDs": [IDS[11]]}),
        ("IndexOptimize", {}, {"verify": {"k": 5}}),
    ],
)
def test_what_a_user_calls_the_same_is_done_once(index: World, kind: str, spec: Object, other: Object) -> None:
    name = f"once-{kind}".lower()
    create(index, kind, name, operationID=name, **spec)
    first = index.finished(kind, name)
    assert conditions(first)["Succeeded"]["reason"] == "Completed"
    index.delete(kind, name)
    if kind == "IndexDelete":
        index.load(INDEX, IDS[10:11], VECTORS[10:11])
    create(index, kind, name, operationID=name, **spec)
    status = index.finished(kind, name)
    assert conditions(status)["Succeeded"]["reason"] == "AlreadyApplied"
    figures = ("deletedCount", "notFoundCount", "durationSeconds", "recallAfter", "linksRepaired")
    assert {field: status.get(field) for field in figures} == {field: first.get(field) for field in figures}
    create(index, kind, f"{name}-other", operationID=name, **other)
    conflict = conditions(index.finished(kind, f"{name}-other"))["Succeeded"]
    assert (conflict["status"], conflict["reason"]) == ("False", "OperationIDConflict")
