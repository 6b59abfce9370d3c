"""Liveness and readiness, as a kubelet asks for them.

Alive (``/healthz``) is a process whose event loop turns, and which, once it leads, renews its Lease and looks at
everything again from time to time: where one of these is not so, a restart helps. It does not help a standby that gets
no answer from the API server, so that one is alive. But it is not ready (``/readyz``): ready is a process whose last
look at the Lease was answered, so that no rollout ends an operator that works for one that cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Figure:
    """Something that must not be more than ``limit``; None: it does not apply now."""

    name: str
    value: Callable[[], float | None]
    limit: float


class Health:
    """Serves ``GET /healthz``, the figures, with status 503 if one of them is too high, and ``GET /readyz``."""

    def __init__(self, figures: Sequence[Figure], leads: Callable[[], bool], ready: Callable[[], bool]) -> None:
        self._figures = figures
        self._leads, self._ready = leads, ready

    async def serve(self, host: str, port: int) -> web.AppRunner:
        """Listen; the runner's ``cleanup`` ends it."""
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return runner

    async def _healthz(self, request: web.Request) -> web.Response:
        values = {figure: figure.value() for figure in self._figures}
        applying = {figure: value for figure, value in values.items() if value is not None}
        alive = all(value <= figure.limit for figure, value in applying.items())
        rounded = {figure.name: round(value, 3) for figure, value in applying.items()}
        return _answer("alive", alive, {"leads": self._leads(), **rounded})

    async def _readyz(self, request: web.Request) -> web.Response:
        return _answer("ready", self._ready(), {"leads": self._leads()})


def _answer(what: str, holds: bool, more: dict[str, float]) -> web.Response:
    return web.json_response({what: holds, **more}, status=200 if holds else 503)
