"""Liveness, as a kubelet asks for it."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from vectorindex.cli.health import BEAT, MAX_LAG, MAX_RESYNC_AGE, Figure, Health, LoopLag


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


LEASE_DURATION = 15.0


async def asked(path: str, health: Health) -> tuple[int, dict[str, object]]:
    runner = await health.serve("127.0.0.1", 0)
    try:
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{path}") as response:
            return response.status, await response.json()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("late", "lease", "resync", "status"),
    [
        pytest.param(0.0, 0.0, 0.0, 200, id="all is well"),
        pytest.param(0.0, None, None, 200, id="a standby"),
        pytest.param(MAX_LAG, LEASE_DURATION, MAX_RESYNC_AGE, 200, id="the limits themselves"),
        pytest.param(MAX_LAG + 1, 0.0, 0.0, 503, id="the loop hangs"),
        pytest.param(MAX_LAG + 1, None, None, 503, id="the loop of a standby hangs"),
        pytest.param(0.0, LEASE_DURATION + 1, 0.0, 503, id="the Lease is not renewed, and the leader does not end"),
        pytest.param(0.0, 0.0, MAX_RESYNC_AGE + 1, 503, id="nothing is looked at again"),
    ],
)
async def test_alive_or_not_and_why(late: float, lease: float | None, resync: float | None, status: int) -> None:
    clock = Clock()
    lag = LoopLag(clock)
    clock.now += BEAT + late
    figures = (
        Figure("loopLagSeconds", lambda: lag.seconds, MAX_LAG),
        Figure("leaseAgeSeconds", lambda: lease, LEASE_DURATION),
        Figure("resyncAgeSeconds", lambda: resync, MAX_RESYNC_AGE),
    )
    leads = lease is not None
    answered, said = await asked("/healthz", Health(figures, lambda: leads, lambda: False))
    ages = {"leaseAgeSeconds": lease, "resyncAgeSeconds": resync}
    assert answered == status
    assert said == {"alive": status == 200, "leads": leads, "loopLagSeconds": late} | (ages if leads else {})


@pytest.mark.parametrize("ready", [True, False])
async def test_ready_or_not(ready: bool) -> None:
    answer = await asked("/readyz", Health((), lambda: False, lambda: ready))
    assert answer == (200 if ready else 503, {"ready": ready, "leads": False})


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
