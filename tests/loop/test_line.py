"""Builds of one index that wait for their turn: they hold nobody up, and one at a time begins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.loop.sidecars import INDEX, NAMESPACE
from tests.loop.simulation import Life, Server, SimulatedCluster, SimulatedSidecars, World
from vectorindex.reconcile.keys import Key, Work
from vectorindex.reconcile.ports import Ports
from vectorindex.reconcile.runs import BuildReconciler
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.state import IndexState

REBUILD = {"indexRef": {"name": INDEX}}


class SlowSidecars(SimulatedSidecars):
    """No pod says how it is before ``answer`` is set."""

    def __init__(self, world: World, life: Life) -> None:
        super().__init__(world, life)
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def state(self, endpoint: Endpoint) -> IndexState:
        self.asked.set()
        await self.answer.wait()
        return await super().state(endpoint)


async def reconciler(world: World) -> tuple[BuildReconciler, SlowSidecars]:
    life = world.life()
    await life.leadership.attempt()
    sidecars = SlowSidecars(world, life)
    return BuildReconciler(Ports(SimulatedCluster(world, life), sidecars, world.clock.now)), sidecars


def reason(world: World, name: str) -> str:
    said: str = world.server.status("IndexRebuild", name)["conditions"][-1]["reason"]
    return said


def rebuild(name: str) -> Key:
    return Key(Work.REBUILD, NAMESPACE, name)


@pytest.mark.parametrize(
    ("spec", "said"), [({}, "Queued"), ({"suspend": True}, "Suspended")], ids=["queued", "suspended"]
)
async def test_a_build_that_waits_asks_no_pod(spec: dict[str, Any], said: str) -> None:
    world = World([{"a"}, {"a"}], **spec)
    builds, sidecars = await reconciler(world)
    for name in ("first", "second"):
        world.server.create("IndexRebuild", name, REBUILD)
    async with asyncio.timeout(5):
        assert await builds.reconcile(rebuild("second")) == 15.0
    assert reason(world, "second") == said
    assert not sidecars.asked.is_set()


async def test_a_build_that_waits_for_a_pods_answer_holds_up_no_other() -> None:
    world = World([{"a"}, {"a"}])
    builds, sidecars = await reconciler(world)
    world.server.create("IndexRebuild", "first", REBUILD)
    first = asyncio.create_task(builds.reconcile(rebuild("first")))
    async with asyncio.timeout(5):
        await sidecars.asked.wait()
        world.server.create("IndexRebuild", "second", REBUILD)
        await builds.reconcile(rebuild("second"))
        assert reason(world, "second") == "Queued"
        sidecars.answer.set()
        await first
    assert reason(world, "first") == "Running"


async def test_a_build_that_another_one_overtook_does_not_begin_beside_it() -> None:
    """The line as it was before the pods were asked says nothing any more."""
    world = World([{"a"}, {"a"}])
    builds, sidecars = await reconciler(world)
    world.server.create("IndexRebuild", "second", REBUILD)
    second = asyncio.create_task(builds.reconcile(rebuild("second")))
    async with asyncio.timeout(5):
        await sidecars.asked.wait()
        world.server.create("IndexRebuild", "first", REBUILD)  # in the same second, so it is the first by name
        first = asyncio.create_task(builds.reconcile(rebuild("first")))
        await asyncio.sleep(0)
        sidecars.answer.set()
        await asyncio.gather(first, second)
    assert (reason(world, "first"), reason(world, "second")) == ("Running", "Queued")


def test_a_new_pod_template_waits_until_a_build_is_done() -> None:
    world = World([{"a"}, {"a"}])
    world.run(lambda server: ("StatefulSet", INDEX) in server.objects)
    world.server.create("IndexRebuild", "first", REBUILD)
    world.run(lambda server: bool(world.sidecars["vi-0"].ledger))
    applied = world.calls.count("APPLY StatefulSet")
    managed = world.server.objects["VectorIndex", INDEX]["spec"]["managed"]
    world.server.change("VectorIndex", INDEX, {"managed": {**managed, "image": "another"}})

    def waits(server: Server) -> bool:
        conditions = server.status("VectorIndex", INDEX).get("conditions", [])
        said = [each["message"] for each in conditions if each["reason"] == "RolloutPending"]
        return said == ["the new pod template of StatefulSet vi waits until IndexRebuild first is done"]

    world.run(waits)
    world.run(lambda server: world.calls.count("APPLY StatefulSet") > applied)
    assert "completionTime" in world.server.status("IndexRebuild", "first")
    assert world.clock.seconds < 3.0
