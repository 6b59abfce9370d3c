"""Liveness: 200 while the event loop turns and everything is looked at again from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

MAX_LAG = 10.0
"""Seconds by which the event loop may be late."""
MAX_RESYNC_AGE = 1_200.0
"""Seconds since the last resync, of which there is one every five minutes."""
BEAT = 1.0


@dataclass
class LoopLag:
    """How late the event loop is: a task that sleeps, and looks how long it took."""

    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._expected = self.clock() + BEAT

    @property
    def seconds(self) -> float:
        return max(0.0, self.clock() - self._expected)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            self._expected = self.clock() + BEAT
            await asyncio.sleep(BEAT)


class Health:
    """Serves ``GET /healthz``: the figures, with status 503 if one of them is too high."""

    def __init__(self, lag: LoopLag, resync_age: Callable[[], float]) -> None:
        self._lag = lag
        self._resync_age = resync_age

    async def serve(self, host: str, port: int) -> web.AppRunner:
        """Listen; the runner's ``cleanup`` ends it."""
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return runner

    async def _healthz(self, request: web.Request) -> web.Response:
        lag, age = self._lag.seconds, self._resync_age()
        alive = lag <= MAX_LAG and age <= MAX_RESYNC_AGE
        figures = {"loopLagSeconds": round(lag, 3), "resyncAgeSeconds": round(age, 1)}
        return web.json_response({"alive": alive, **figures}, status=200 if alive else 503)
