"""Pods of the user's own (``podSelector``) come and go under a run; whatever is hit, it ends as without a fault."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.loop.sidecars import INDEX
from tests.loop.simulation import Fault, Mode, World
from tests.loop.test_faults import DELETE, DELETED, ITEMS, KEY, REBUILD, Story, outcome

SAMPLE = 25
"""So many calls of each story are hit, one at a time."""


def between(begin: float, end: float) -> Callable[[float], bool]:
    return lambda seconds: begin < seconds < end


def outside(begin: float, end: float) -> Callable[[float], bool]:
    return lambda seconds: not begin < seconds < end


def create_delete(world: World) -> None:
    world.server.create(*DELETED, DELETE)


def create_rebuild(world: World) -> None:
    world.server.create(*KEY, REBUILD)


ALWAYS = between(-1, float("inf"))


@dataclass(frozen=True)
class Tale:
    """A story, and how it ends: each pod's state, and after how many seconds at the earliest."""

    story: Story
    states: tuple[str, str, str]
    seconds: float


TALES = {
    "a pod is replaced under a delete": Tale(
        Story(create_delete, (DELETED,), down={1: between(-1, 40)}, there={1: outside(8, 40)}), ("Succeeded",) * 3, 40
    ),
    "a pod goes for good under a delete": Tale(
        Story(create_delete, (DELETED,), down={1: ALWAYS}, there={1: between(-1, 8)}),
        ("Succeeded", "Gone", "Succeeded"),
        68,
    ),
    "a pod is added under a delete": Tale(
        Story(create_delete, (DELETED,), down={1: between(-1, 8)}, there={2: between(6, 999)}), ("Succeeded",) * 3, 8
    ),
    "no pod is there yet when a delete is created": Tale(
        Story(create_delete, (DELETED,), there=dict.fromkeys(range(3), between(30, 999))), ("Succeeded",) * 3, 30
    ),
    "a pod is replaced under a rebuild": Tale(
        Story(create_rebuild, (KEY,), there={1: outside(8, 20)}, build_seconds={1: 12.0}), ("Succeeded",) * 3, 20
    ),
    "a pod goes for good under a rebuild": Tale(
        Story(create_rebuild, (KEY,), there={1: between(-1, 8)}, build_seconds={1: 99.0}),
        ("Succeeded", "Gone", "Succeeded"),
        68,
    ),
}
each_tale = pytest.mark.parametrize("tale", TALES.values(), ids=TALES)


@each_tale
def test_how_it_ends(tale: Tale) -> None:
    world = tale.story.play()
    status = world.server.status(*tale.story.ends[0])
    assert status["conditions"][-1]["reason"] == "Completed"
    assert tuple(pod["state"] for pod in sorted(status["pods"], key=lambda pod: pod["name"])) == tale.states
    assert tale.seconds <= world.clock.seconds < tale.seconds + 16


@each_tale
def test_faults_change_nothing(tale: Tale) -> None:
    without = tale.story.play()
    expected = outcome(without, tale.story)
    calls = range(len(without.calls))
    rng = random.Random(20261126)
    single = [(call,) for call in rng.sample(calls, min(SAMPLE, len(calls)))]
    several = [tuple(rng.sample(calls, 4)) for _ in range(SAMPLE // 5)]
    for hit in (*single, *several):
        faults = tuple(Fault(call, rng.choice(list(Mode))) for call in hit)
        assert outcome(tale.story.play(faults), tale.story) == expected, faults


def test_a_minute_goes_on_while_operators_come_and_go() -> None:
    """One that crashes every few seconds neither forgets since when a pod is missing nor begins anew."""
    world = TALES["a pod goes for good under a delete"].story.play(
        tuple(Fault(call, Mode.CRASH) for call in range(60, 1_000, 40))
    )
    assert world.crashes > 5
    assert 68 <= world.clock.seconds < 75


def test_what_the_user_calls_as_the_index_is_none_of_the_operators_business() -> None:
    """A StatefulSet of that name, in the middle of a rollout, makes other pods, as far as the operator knows."""
    world = World(ITEMS, managed=None, podSelector={"matchLabels": {"app": "shop"}})
    world.server.create("StatefulSet", INDEX, {"replicas": 9}, status={"replicas": 1})
    create_rebuild(world)
    world.run(lambda server: "completionTime" in server.status(*KEY))
    assert world.server.status(*KEY)["conditions"][-1]["reason"] == "Completed"
    assert not any(title.startswith("APPLY") and title != "APPLY ConfigMap" for title in world.calls)
