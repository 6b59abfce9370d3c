"""What runs in a pod for an object that is gone, or has ended, is cancelled, and that is said once it is so."""

from __future__ import annotations

from typing import Any

from tests.loop.sidecars import INDEX
from tests.loop.simulation import World
from vectorindex.wire.operations import OperationState

REBUILD = {"indexRef": {"name": INDEX}}
KEY = ("IndexRebuild", "run")


def rebuilding(down: tuple[float, float] | None = None) -> tuple[World, str]:
    """A rebuild that takes long and is at work on the first pod, which then gives no answer ``down``; its operation."""
    world = World([{"a"}, {"a"}], {} if down is None else {0: lambda seconds: down[0] < seconds < down[1]})
    world.sidecars["vi-0"].build_seconds = 3_000.0
    operation = f"{world.server.create(*KEY, REBUILD)['metadata']['uid']}.1"
    world.run(lambda server: operation in world.sidecars["vi-0"].ledger)
    return world, operation


def state(world: World, operation: str) -> OperationState:
    return world.sidecars["vi-0"].ledger[operation].state


def said_of_the_index(world: World) -> list[Any]:
    uid = world.server.objects["VectorIndex", INDEX]["metadata"]["uid"]
    return [reason for regarding, reason, _ in world.server.recorded if regarding == uid and reason == "Cancelled"]


def test_what_a_stopped_run_left_on_a_pod_that_gave_no_answer_is_cancelled_soon_after_it_gives_one() -> None:
    world, operation = rebuilding(down=(2.0, 100.0))
    world.run(lambda server: world.clock.seconds > 2.0)
    world.server.change(*KEY, {"cancel": True})
    world.run(lambda server: state(world, operation) is OperationState.CANCELLED)
    assert "no answer from vi-0" in world.server.status(*KEY)["conditions"][-1]["message"]
    assert 100.0 <= world.clock.seconds < 135.0


def test_a_cancel_is_asked_for_ever_more_seldom_and_told_when_it_is_answered() -> None:
    world, operation = rebuilding()
    world.server.delete(*KEY)
    for _ in range(5):
        world.lose("cancel vi-0")
    began, asked = world.clock.seconds, world.calls.count("cancel vi-0")
    world.run(lambda server: bool(said_of_the_index(world)))
    assert world.calls.count("cancel vi-0") == asked + 6
    assert 20.0 < world.clock.seconds - began < 60.0
    assert state(world, operation) is OperationState.CANCELLED
