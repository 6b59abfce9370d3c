"""A new version of the operator, with another image: one index at a time is upgraded, wherever the operator crashes."""

from __future__ import annotations

import copy
from functools import cache

import pytest

from tests.loop.simulation import Fault, Mode, Server, World

INDEXES = ("a", "b", "c")


def settled(indexes: tuple[str, ...] = INDEXES) -> World:
    """Indexes with the pods of one image, and nothing to do."""
    return copy.deepcopy(_settled(indexes))


@cache
def _settled(indexes: tuple[str, ...]) -> World:
    world = World([{"x"}], indexes=indexes)
    world.run(lambda server: all(reason(server, name) == "UpToDate" for name in indexes))
    return world


def reason(server: Server, name: str) -> str:
    return said(server, name).partition(": ")[0]


def said(server: Server, name: str) -> str:
    conditions = {each["type"]: each for each in server.status("VectorIndex", name).get("conditions", ())}
    found = conditions.get("Reconciling", {})
    return f"{found.get('reason')}: {found.get('message', '')}"


def image(server: Server, name: str) -> str:
    found: str = server.objects["StatefulSet", name]["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def done(world: World) -> bool:
    """Is everything upgraded? Fails when two indexes are at it at once."""
    rolling = world.server.rolling()
    assert len(rolling) <= 1, f"{rolling} are upgraded at once"
    indexes = [name for kind, name in world.server.objects if kind == "VectorIndex"]
    return not rolling and all(
        image(world.server, name) == world.image and reason(world.server, name) == "UpToDate" for name in indexes
    )


def upgrade(*faults: Fault) -> World:
    world = settled(INDEXES[:2])
    world.image, start = "next", len(world.calls)
    world.run(lambda server: done(world), tuple(Fault(start + fault.call, fault.mode) for fault in faults))
    return world


def test_one_index_after_the_other_and_no_time_is_lost_between_them() -> None:
    world = settled()
    world.image, before = "next", world.clock.seconds
    world.run(lambda server: done(world))
    assert world.clock.seconds - before < 3 * 8


@pytest.mark.parametrize("mode", list(Mode))
def test_wherever_the_operator_crashes(mode: Mode) -> None:
    calls = len(upgrade().calls) - len(settled(INDEXES[:2]).calls)
    assert calls > 50
    for call in range(calls):
        upgrade(Fault(call, mode))


def test_what_an_operator_before_this_one_has_begun_counts() -> None:
    world = settled()
    begun = copy.deepcopy(world.server.objects["StatefulSet", "c"])
    begun["spec"]["template"]["spec"]["containers"][0]["image"] = world.image = "next"
    world.server.apply(begun)
    world.run(lambda server: done(world))


def test_an_image_that_does_not_work_reaches_one_index_and_the_others_say_which() -> None:
    world = settled()
    world.image, world.server.never_ready = "broken", frozenset({"broken"})
    until = world.clock.seconds + 600
    world.run(lambda server: done(world) or world.clock.seconds > until)
    assert world.server.rolling() == {"a"}
    for name in ("b", "c"):
        assert image(world.server, name) == "image"
        assert said(world.server, name).startswith(
            f"RolloutPending: the new pod template of StatefulSet {name} waits until VectorIndex default/a is upgraded "
        )
    world.image = "mended"
    world.run(lambda server: done(world))


def test_a_change_of_the_users_does_not_wait_for_an_upgrade_that_is_stuck() -> None:
    world = settled()
    world.image, world.server.never_ready = "broken", frozenset({"broken"})
    world.run(lambda server: reason(server, "b") == reason(server, "c") == "RolloutPending")
    managed = world.server.objects["VectorIndex", "b"]["spec"]["managed"]
    world.server.change("VectorIndex", "b", {"managed": {**managed, "image": "the-users"}})
    world.run(lambda server: image(server, "b") == "the-users" and reason(server, "b") == "UpToDate")
    world.server.change("VectorIndex", "c", {"managed": {**managed, "replicas": 2}})
    world.run(lambda server: server.objects["StatefulSet", "c"]["spec"]["replicas"] == 2)
    assert image(world.server, "c") == "image"


def test_an_index_that_is_deleted_in_its_turn_holds_up_nobody() -> None:
    world = settled()
    world.image, world.server.never_ready = "broken", frozenset({"broken"})
    world.run(lambda server: server.rolling() == {"a"} and reason(server, "b") == "RolloutPending")
    for kind in ("VectorIndex", "StatefulSet"):
        world.server.delete(kind, "a")
    world.run(lambda server: "b" in server.rolling())


def test_an_index_that_is_not_ready_goes_last() -> None:
    world = settled()
    world.sidecars["a-0"].scheduled = False
    world.run(lambda server: reason(server, "a") == "Progressing")
    world.image = "next"
    order: list[str] = []

    def over(server: Server) -> bool:
        order.extend(name for name in server.rolling() if name not in order)
        return len(order) == len(INDEXES) and not server.rolling()

    world.run(over)
    assert order == ["b", "c", "a"]
