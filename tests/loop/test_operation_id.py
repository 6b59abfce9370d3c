"""Runs that a user has named: done once on each volume, whatever becomes of the objects and of the operator."""

from __future__ import annotations

from typing import Any

import pytest

from tests.loop.sidecars import INDEX, Sidecar
from tests.loop.simulation import Fault, Mode, Server, World

DELETE = ("IndexDelete", {"indexRef": {"name": INDEX}, "externalIDs": ["a", "x"], "operationID": "release/7"})
REBUILD = ("IndexRebuild", {"indexRef": {"name": INDEX}, "params": {"m": 32}, "operationID": "release/7"})
each_kind = pytest.mark.parametrize(("kind", "spec"), [DELETE, REBUILD], ids=["delete", "rebuild"])
FIGURES = ("deletedCount", "notFoundCount", "vectorsAfter", "recallAfter", "parameters", "bytesReclaimed")


def ended(kind: str, name: str) -> Any:
    def look(server: Server) -> bool:
        return (kind, name) in server.objects and "completionTime" in server.status(kind, name)

    return look


def applied(kind: str, spec: dict[str, Any]) -> tuple[World, dict[str, Any]]:
    """A world in which it was done; the status then, of an object that is gone since."""
    world = World([{"a", "b", "c"}, {"a", "b"}])
    world.server.create(kind, "run", spec)
    world.run(ended(kind, "run"))
    status = world.server.status(kind, "run")
    world.server.delete(kind, "run")
    return world, status


def reason(status: dict[str, Any]) -> tuple[str, str]:
    succeeded = status["conditions"][-1]
    return succeeded["status"], succeeded["reason"]


@each_kind
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_what_was_applied_changes_nothing_and_says_so(kind: str, spec: dict[str, Any], mode: Mode) -> None:
    world, first = applied(kind, spec)
    before = len(world.calls)
    world.server.create(kind, "run", spec)
    world.run(ended(kind, "run"))
    for call in range(before, len(world.calls)):
        hit, _ = applied(kind, spec)
        hit.server.create(kind, "run", spec)
        hit.run(ended(kind, "run"), (Fault(call, mode),))
        status = hit.server.status(kind, "run")
        assert reason(status) == ("True", "AlreadyApplied")
        assert {name: status.get(name) for name in FIGURES} == {name: first.get(name) for name in FIGURES}
        assert [sum(sidecar.executed.values()) for sidecar in hit.sidecars.values()] == [1, 1]


@each_kind
def test_where_only_some_pods_have_it_the_others_do_it(kind: str, spec: dict[str, Any]) -> None:
    world, _ = applied(kind, spec)
    world.sidecars["vi-1"] = Sidecar("vi-1", world.clock, {"a", "b"}, lambda seconds: False)  # on a new volume
    world.server.create(kind, "run", spec)
    world.run(ended(kind, "run"))
    status = world.server.status(kind, "run")
    assert reason(status) == ("True", "Completed")
    assert [pod.get("reason") for pod in status["pods"]] == ["AlreadyApplied", None]


def test_the_same_object_is_no_other_request_because_its_index_was_changed() -> None:
    kind, spec = REBUILD
    world, _ = applied(kind, spec)
    world.server.change("VectorIndex", INDEX, {"hnsw": {"efConstruction": 400}})
    world.server.create(kind, "run", spec)
    world.run(ended(kind, "run"))
    assert reason(world.server.status(kind, "run")) == ("True", "AlreadyApplied")


@each_kind
def test_another_request_of_that_name_fails(kind: str, spec: dict[str, Any]) -> None:
    world, _ = applied(kind, spec)
    other = {"externalIDs": ["b"]} if kind == "IndexDelete" else {"params": {"m": 33}}
    world.server.create(kind, "other", {**spec, **other})
    world.run(ended(kind, "other"))
    assert reason(world.server.status(kind, "other")) == ("False", "OperationIDConflict")
    assert [sum(sidecar.executed.values()) for sidecar in world.sidecars.values()] == [1, 1]
