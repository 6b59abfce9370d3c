"""The operator beside many objects: its memory, what it asks for when nothing happens, its start, and deletes.

1,000 indexes of three pods, and 5,000 runs of which 4,900 have ended, on a real API server. The pods are answered for
by a stand-in, so what is measured is the operator and the API server; both share the machine with this program.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.crowd import REPLICAS, Crowd, Object, crowd, run_path, succeeded, until
from bench.result import Result
from bench.screen import step

WRITES = ("create", "update", "patch", "delete")
MEGABYTE = 1e6
SETTLE = 65.0
"""Seconds after which nothing is written any more for what has happened: figures wait a minute."""


@dataclass(frozen=True)
class Plan:
    """``ended`` and ``waiting`` runs; ``idle_seconds`` in which nothing happens; ``single`` deletes, one after the
    other; ``burst``: deletes at once, on ``burst_indexes``."""

    indexes: int
    ended: int
    waiting: int
    idle_seconds: float
    single: int
    burst: int
    burst_indexes: int


FULL = Plan(indexes=1_000, ended=4_900, waiting=100, idle_seconds=120.0, single=30, burst=200, burst_indexes=20)
QUICK = Plan(indexes=50, ended=200, waiting=10, idle_seconds=10.0, single=5, burst=20, burst_indexes=5)


def measure(plan: Plan) -> list[Result]:
    """Raises SidecarError where something does not come about."""
    with tempfile.TemporaryDirectory(prefix="vectorindex-bench-") as folder:
        return asyncio.run(_measure(plan, Path(folder)))


async def _measure(plan: Plan, folder: Path) -> list[Result]:
    names = [f"index-{number:04d}" for number in range(plan.indexes)]
    async with crowd(folder) as world:
        with step(f"{plan.indexes:,} indexes of {REPLICAS} pods"):
            await world.indexes(names)
        with step(f"{plan.ended + plan.waiting:,} runs, {plan.ended:,} of which have ended"):
            await _runs(world, plan, names)
        world.stop()
        with step("the start, until everything was looked at"):
            started = await _start(world, plan, names)
        with step(f"{plan.idle_seconds:.0f} s in which nothing happens"):
            idle = await _idle(world, plan)
        with step(f"{plan.single} small deletes, one after the other"):
            single = [await _delete(world, f"single-{number}", names[number]) for number in range(plan.single)]
        with step(f"{plan.burst} deletes at once on {plan.burst_indexes} indexes"):
            burst = await _burst(world, plan, names)
        peak = world.memory("VmHWM") / MEGABYTE
    crowded = f"{plan.indexes:,} indexes, {plan.ended + plan.waiting:,} runs"
    return [
        *started,
        *idle,
        Result.at_most("operator: resident memory at its peak", peak, 300, "MB", crowded),
        Result.at_most("delete: from its creation to Succeeded, p50", statistics.median(single), 1.0, "s", crowded),
        Result("delete: from its creation to Succeeded, longest", max(single), "s"),
        *burst,
    ]


async def _runs(world: Crowd, plan: Plan, names: list[str]) -> None:
    """Runs that have ended, with the status of one that really has; and some that wait on suspended indexes."""
    await _delete(world, "first", names[0])
    first = await world.request("GET", run_path("IndexDelete", "first"))

    async def end(number: int) -> None:
        name, index = f"ended-{number:04d}", names[number % len(names)]
        await world.create("IndexDelete", name, {"indexRef": {"name": index}, "externalIDs": [f"item-{number}"]})
        await world.request("PATCH", run_path("IndexDelete", name, "status"), {"status": first["status"]})

    async def wait(number: int) -> None:
        index = names[-1 - number]
        await world.request("PATCH", run_path("VectorIndex", index), {"spec": {"suspend": True}})
        await world.create("IndexRebuild", f"waiting-{number:04d}", {"indexRef": {"name": index}})

    world.stop()  # or it would take up each of those that end in the next moment
    await world.each(end, range(plan.ended))
    await world.each(wait, range(plan.waiting))
    world.start()
    rebuilds = run_path("IndexRebuild")

    async def all_wait() -> bool:
        return all(_reason(each) == "Suspended" for each in await world.objects(rebuilds))

    await until(all_wait, "the rebuilds wait")


async def _start(world: Crowd, plan: Plan, names: list[str]) -> list[Result]:
    """Started again after something has happened: a delete was created, and an index changed."""
    await world.create("IndexDelete", "meanwhile", _spec(names[0], "meanwhile"))
    changed = run_path("VectorIndex", names[1])
    await world.request("PATCH", changed, {"spec": {"hnsw": {"efSearch": 80}}})
    await world.forget_asked()
    _, before = world.requests()
    world.start()

    async def delete_is_done() -> bool:
        return succeeded(await world.request("GET", run_path("IndexDelete", "meanwhile")))

    async def caught_up() -> bool:
        index = await world.request("GET", changed)
        applied = index["status"].get("parameters", {}).get("efSearch") == 80
        return bool(applied and (await world.asked())["pods"] == plan.indexes * REPLICAS)

    began = time.monotonic()
    await until(delete_is_done, "the delete is done", 0.1)
    first = time.monotonic() - began
    await until(caught_up, "each pod was asked", 0.1)
    everything = time.monotonic() - began
    asked, _ = world.requests(before)
    note = f"{len(asked):,} requests to the API server, {world.processor_seconds():.1f} s of CPU"
    return [
        Result("operator: from its start until a delete that waited is done", first, "s"),
        Result("operator: from its start until everything was looked at", everything, "s", note=note),
    ]


async def _idle(world: Crowd, plan: Plan) -> list[Result]:
    await asyncio.sleep(SETTLE)  # what the start has caused comes to its end
    await world.forget_asked()
    _, before = world.requests()
    busy = world.processor_seconds()
    await asyncio.sleep(plan.idle_seconds)
    asked, _ = world.requests(before)
    share = (world.processor_seconds() - busy) / plan.idle_seconds
    others = [each for each in asked if "/leases/" not in each[1] and each[0] != "watch"]
    writes = [each for each in others if each[0] in WRITES]
    calls = sum((await world.asked())["calls"].values())
    seconds = f"in {plan.idle_seconds:.0f} s"
    return [
        Result.at_most(
            "operator: writes when nothing happens", len(writes), 0, "", f"{seconds}, the Lease's not counted"
        ),
        Result("operator: requests when nothing happens", len(others), "", note=f"{seconds}: {most(others)}"),
        Result("operator: calls of pods when nothing happens", calls / plan.idle_seconds, "/s"),
        Result("operator: CPU when nothing happens", 100 * share, "%"),
        Result("operator: resident memory when nothing happens", world.memory() / MEGABYTE, "MB"),
    ]


async def _delete(world: Crowd, name: str, index: str) -> float:
    """Create a delete; returns the seconds until it has succeeded, as somebody sees who looks every 20 ms."""
    began = time.monotonic()
    await world.create("IndexDelete", name, _spec(index, name))

    async def done() -> bool:
        return succeeded(await world.request("GET", run_path("IndexDelete", name)))

    await until(done, f"IndexDelete {name} has succeeded", 0.02)
    return time.monotonic() - began


async def _burst(world: Crowd, plan: Plan, names: list[str]) -> list[Result]:
    created: dict[str, float] = {}
    ended: dict[str, float] = {}

    async def create(number: int) -> None:
        name = f"burst-{number:03d}"
        await world.create("IndexDelete", name, _spec(names[number % plan.burst_indexes], name))
        created[name] = time.monotonic()

    async def all_done() -> bool:
        for each in await world.objects(run_path("IndexDelete")):
            name = each["metadata"]["name"]
            if name in created and name not in ended and succeeded(each):
                ended[name] = time.monotonic()
        return len(ended) == plan.burst

    _, before = world.requests()
    began = time.monotonic()
    await world.each(create, range(plan.burst))
    await until(all_done, "all deletes have succeeded", 0.2)
    everything = time.monotonic() - began
    asked, _ = world.requests(before)
    taken = np.array([ended[name] - created[name] for name in created])
    count = f"{plan.burst} deletes at once"
    note = f"{plan.burst_indexes} indexes; {len(asked) / plan.burst:.1f} requests each"
    return [
        Result(f"{count}: until all have ended", everything, "s", note=note),
        Result(f"{count}: p50", float(np.percentile(taken, 50)), "s"),
        Result(f"{count}: p99", float(np.percentile(taken, 99)), "s"),
    ]


def _spec(index: str, name: str) -> Object:
    return {"indexRef": {"name": index}, "externalIDs": [f"{name}-{number}" for number in range(10)]}


def _reason(manifest: Object) -> str:
    conditions = manifest.get("status", {}).get("conditions", [])
    return next((each["reason"] for each in conditions if each["type"] == "Succeeded"), "")


def most(asked: Iterable[tuple[str, str]]) -> str:
    """What was asked most often."""
    kinds = Counter(f"{verb} {path.partition('?')[0].split('/bench/')[-1].split('/')[0]}" for verb, path in asked)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
