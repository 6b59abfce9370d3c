"""A pod on a new volume, and pods that differ: what users see at the end, with a fault at one call in turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.loop.sidecars import INDEX
from tests.loop.simulation import Fault, Mode, Server, World

ITEMS = {"a", "b", "c"}
NEW = "vi-1"


def condition(server: Server, kind: str) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {
        each["type"]: each for each in server.status("VectorIndex", INDEX).get("conditions", ())
    }
    return found.get(kind, {"status": "", "reason": ""})


def reached(kind: str, reason: str) -> Callable[[Server], bool]:
    return lambda server: condition(server, kind)["reason"] == reason


READY = reached("Ready", "AllPodsReady")
AWAITING = reached("Reconciling", "AwaitingItems")
DIFFER = reached("ReplicasConsistent", "ReplicasDiffer")
AGREE = reached("ReplicasConsistent", "ReplicasAgree")


def new_volume(world: World, faults: tuple[Fault, ...] = ()) -> None:
    """A pod loses its volume; later the application writes to it, first a part of the items."""
    world.run(READY, faults)
    world.sidecars[NEW].replace_volume()
    told = "2 of 3 pods ready: vi-1 awaits its items"
    world.run(lambda server: AWAITING(server) and condition(server, "Ready")["message"] == told, faults)
    assert "vi-1 holds 0 items on a new volume, vi-0 3, vi-2 3" in condition(world.server, "Reconciling")["message"]
    world.sidecars[NEW].write({"a"})
    world.run(lambda server: server.status("VectorIndex", INDEX)["pods"][1].get("vectors") == 1, faults)
    world.run(AWAITING, faults)
    assert world.sidecars[NEW].configuration.serve is False
    world.sidecars[NEW].write(ITEMS)
    world.run(lambda server: READY(server) and AGREE(server), faults)


def difference(world: World, faults: tuple[Fault, ...] = ()) -> None:
    """An item is written to one pod alone; much later to the others."""
    world.run(AGREE, faults)
    written = world.clock.now()
    world.sidecars[NEW].write({"d"})
    world.run(DIFFER, faults)
    known = datetime.fromisoformat(condition(world.server, "ReplicasConsistent")["lastTransitionTime"])
    assert 60 <= (known - written).total_seconds() < 160
    message = condition(world.server, "ReplicasConsistent")["message"]
    assert "vi-0, vi-2: 3 items (digest " in message
    assert "vi-1: 4 items (digest " in message
    for sidecar in world.sidecars.values():
        sidecar.write({"d"})
    world.run(AGREE, faults)


def play(story: Callable[..., None], faults: tuple[Fault, ...] = ()) -> World:
    world = World([ITEMS, ITEMS, ITEMS])
    story(world, faults)
    assert not any(sidecar.taken_out for sidecar in world.sidecars.values())
    assert all(sidecar.configuration.serve for sidecar in world.sidecars.values())
    return world


@pytest.mark.parametrize("story", [new_volume, difference])
@pytest.mark.parametrize("mode", Mode)
def test_a_fault_at_any_call_changes_nothing_at_the_end(story: Callable[..., None], mode: Mode) -> None:
    calls = len(play(story).calls)
    assert calls > 50
    for call in range(list(Mode).index(mode), calls, 2):  # a crash at every other call, a lost answer at those between
        play(story, (Fault(call, mode),))


def test_a_difference_is_an_event_once_and_nothing_is_written_while_nothing_changes() -> None:
    world = play(difference)
    events = [reason for _, reason, _ in world.server.recorded]
    assert events.count("ReplicasDiffer") == 1
    writes = world.server.status_writes
    until = world.clock.seconds + 1_800
    world.run(lambda _: world.clock.seconds >= until)
    assert world.server.status_writes == writes


def test_a_new_set_serves_at_once() -> None:
    world = World([set(), set(), set()], {2: lambda seconds: seconds < 20})
    world.run(READY)
    assert all(sidecar.configuration.serve for sidecar in world.sidecars.values())


def test_all_new_volumes_serve_again() -> None:
    world = World([ITEMS, ITEMS])
    world.run(READY)
    for sidecar in world.sidecars.values():
        sidecar.replace_volume()
    world.run(lambda server: all(sidecar.configuration.serve for sidecar in world.sidecars.values()))


def test_a_pod_that_comes_back_with_its_items_keeps_a_new_one_waiting() -> None:
    """The whole set is restarted, and the new pod is up first."""
    world = World([ITEMS, ITEMS], {0: lambda seconds: 100 <= seconds < 160})
    world.run(READY)
    world.clock.seconds = 100
    world.sidecars[NEW].replace_volume()
    world.run(lambda _: world.clock.seconds > 150)
    assert world.sidecars[NEW].configuration.serve is False
    world.sidecars[NEW].write(ITEMS)
    world.run(READY)
