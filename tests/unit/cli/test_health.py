"""Liveness, as a kubelet asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import pytest

from vectorindex.cli.health import BEAT, MAX_LAG, MAX_RESYNC_AGE, Health, LoopLag


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def healthz(clock: Clock, late: float, resync_age: Callable[[], float]) -> tuple[int, dict[str, object]]:
    """The answer when the next beat is ``late`` seconds overdue."""
    lag = LoopLag(clock)
    clock.now += BEAT + late
    runner = await Health(lag, resync_age).serve("127.0.0.1", 0)
    try:
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/healthz") as response:
            return response.status, await response.json()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("late", "age", "status"),
    [
        pytest.param(0.0, 0.0, 200, id="all is well"),
        pytest.param(MAX_LAG, MAX_RESYNC_AGE, 200, id="the limits themselves"),
        pytest.param(MAX_LAG + 1, 0.0, 503, id="the loop hangs"),
        pytest.param(0.0, MAX_RESYNC_AGE + 1, 503, id="nothing is looked at again"),
    ],
)
async def test_alive_or_not_and_why(late: float, age: float, status: int) -> None:
    answered, figures = await healthz(Clock(), late, lambda: age)
    assert answered == status
    assert figures == {"alive": status == 200, "loopLagSeconds": late, "resyncAgeSeconds": age}


async def test_a_loop_that_turns_is_not_late() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    clock.now += 50
    assert lag.seconds == 50 - BEAT
    beating = asyncio.create_task(lag.run())
    await asyncio.sleep(0)  # its first beat
    assert lag.seconds == 0
    beating.cancel()
    await asyncio.wait([beating])
