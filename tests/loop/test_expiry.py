"""Runs that are to be deleted some time after their end, whatever happens to the operator."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.loop.sidecars import INDEX, START
from tests.loop.simulation import Fault, Mode, Server, World

KEY = ("IndexDelete", "run")
SPEC = {"indexRef": {"name": INDEX}, "externalIDs": ["a"]}
TTL = 5
LATE = 4
"""Seconds that a restart takes, or another operator to take over."""


def world(**spec: Any) -> World:
    made = World([{"a", "b"}])
    made.server.create(*KEY, {**SPEC, **spec})
    return made


def ended(server: Server) -> bool:
    return "completionTime" in server.status(*KEY)


def gone(server: Server) -> bool:
    return KEY not in server.objects


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_run_is_deleted_when_its_time_is_over_and_not_before(mode: Mode) -> None:
    without = world(ttlSecondsAfterFinished=TTL)
    without.run(gone)
    for call in range(len(without.calls)):
        hit = world(ttlSecondsAfterFinished=TTL)
        hit.run(lambda server: gone(server) or ended(server), (Fault(call, mode),))
        completed = datetime.fromisoformat(hit.server.status(*KEY)["completionTime"])
        hit.run(gone, (Fault(call, mode),))
        assert hit.clock.now() - completed >= timedelta(seconds=TTL)
        assert hit.clock.now() - completed <= timedelta(seconds=TTL + LATE)
        assert [sidecar.executed["Delete"] for sidecar in hit.sidecars.values()] == [1]


def test_a_run_that_ended_while_the_operator_was_down_for_long_is_deleted_at_once() -> None:
    late = world(ttlSecondsAfterFinished=TTL)
    late.run(ended)
    late.clock.seconds += 1_000
    late.run(gone)
    assert late.clock.now() == START + timedelta(seconds=1_000)


def test_a_run_without_a_time_to_live_stays() -> None:
    kept = world()
    kept.run(lambda server: kept.clock.seconds > 1_000)
    assert ended(kept.server)


def test_another_run_of_the_same_name_stays() -> None:
    again = world(ttlSecondsAfterFinished=TTL)
    again.run(ended)
    again.server.delete(*KEY)
    again.server.create(*KEY, SPEC)
    again.run(lambda server: again.clock.seconds > 100)
    assert ended(again.server)


def test_a_finished_run_costs_nothing_until_its_time_is_over() -> None:
    idle = world(ttlSecondsAfterFinished=10_000)
    idle.run(ended)
    calls = len(idle.calls)
    idle.run(lambda server: idle.clock.seconds > 2_000)
    assert "GET IndexDelete run" not in idle.calls[calls:]
