"""Builds of one index that wait for their turn: they hold nobody up, and one at a time begins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.loop.sidecars import INDEX, NAMESPACE
from tests.loop.simulation import Life, Server, SimulatedCluster, SimulatedSidecars, World
from vectorindex.domain.build import TURN
from vectorindex.reconcile.intake import Intake
from vectorindex.reconcile.keys import Key, Work
from vectorindex.reconcile.ports import Ports
from vectorindex.reconcile.runs import BuildReconciler
from vectorindex.reconcile.seen import Seen
from vectorindex.reconcile.watchlist import Watchlist
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


async def reconciler(world: World, watchlist: Watchlist | None = None) -> tuple[BuildReconciler, SlowSidecars]:
    """``watchlist``: what events have shown; by default nothing."""
    life = world.life()
    await life.leadership.attempt()
    sidecars = SlowSidecars(world, life)
    ports = Ports(SimulatedCluster(world, life), sidecars, world.clock.now, lambda: ())
    return BuildReconciler(ports, watchlist or Watchlist()), sidecars


def seen(world: World, *names: str) -> Watchlist:
    """Rebuilds were seen."""
    watchlist = Watchlist()
    intake = Intake(watchlist, Seen(), lambda key, after=0.0: None, world.clock.now)
    for name in names:
        intake.own(world.server.objects["IndexRebuild", name])
    return watchlist


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
    for name in ("first", "second"):
        world.server.create("IndexRebuild", name, REBUILD)
    builds, sidecars = await reconciler(world, seen(world, "first", "second"))
    async with asyncio.timeout(5):
        assert await builds.reconcile(rebuild("second")) == TURN
    assert reason(world, "second") == said
    assert not [title for title in world.calls if title.startswith("LIST")]
    assert not sidecars.asked.is_set()


async def test_a_build_that_waits_for_a_pods_answer_holds_up_no_other() -> None:
    world = World([{"a"}, {"a"}])
    world.server.create("IndexRebuild", "first", REBUILD)
    builds, sidecars = await reconciler(world, seen(world, "first"))
    first = asyncio.create_task(builds.reconcile(rebuild("first")))
    async with asyncio.timeout(5):
        await sidecars.asked.wait()
        world.server.create("IndexRebuild", "second", REBUILD)
        await builds.reconcile(rebuild("second"))
        assert reason(world, "second") == "Queued"
        sidecars.answer.set()
        await first
    assert reason(world, "first") == "Running"


async def test_a_build_waits_for_one_that_was_not_seen_so_far() -> None:
    """No event has come of either, so both take themselves for the first one: until they list what there is."""
    world = World([{"a"}, {"a"}])
    builds, sidecars = await reconciler(world)
    sidecars.answer.set()
    for name in ("first", "second"):
        world.server.create("IndexRebuild", name, REBUILD)
    await builds.reconcile(rebuild("second"))
    assert reason(world, "second") == "Queued"
    await builds.reconcile(rebuild("first"))
    assert reason(world, "first") == "Running"


@pytest.mark.parametrize("gone", [False, True], ids=["it has ended", "it is gone"])
async def test_a_build_does_not_wait_for_one_that_is_through_whatever_was_seen(gone: bool) -> None:
    world = World([{"a"}, {"a"}])
    for name in ("first", "second"):
        world.server.create("IndexRebuild", name, REBUILD)
    builds, sidecars = await reconciler(world, seen(world, "first", "second"))
    sidecars.answer.set()
    if gone:
        world.server.delete("IndexRebuild", "first")
    else:
        world.server.objects["IndexRebuild", "first"]["status"]["completionTime"] = "2026-01-01T00:00:00Z"
    await builds.reconcile(rebuild("second"))
    assert reason(world, "second") == "Running"


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
