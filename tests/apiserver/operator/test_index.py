"""A VectorIndex on the real API server: its objects, its status, and what it says when something is wrong."""

from __future__ import annotations

from tests.apiserver.operator.world import World, conditions


def test_an_index_becomes_ready(world: World) -> None:
    world.index("ready")
    status = world.get("VectorIndex", "ready")["status"]
    assert (status["replicas"], status["readyReplicas"]) == (3, 3)
    assert [pod["name"] for pod in status["pods"]] == ["ready-0", "ready-1", "ready-2"]
    assert status["parameters"] == {"m": 16, "efConstruction": 200, "efSearch": 64, "seed": 0}
    assert conditions(status)["Ready"]["observedGeneration"] == status["observedGeneration"] == 1
    assert world.operator.healthz() == 200
