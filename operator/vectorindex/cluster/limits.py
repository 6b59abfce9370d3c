"""How fast the operator asks the API server, which serves others too.

Invariant: in any time of ``t`` seconds at most ``burst + rate * t`` requests begin, first come, first served; and none
before the time until which the API server asked to be left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

RATE = 50.0
"""Requests a second in the long run."""
BURST = 300
"""Requests that may begin at once after a quiet time: what a few dozen runs need from their creation to their end."""


class RequestLimit:
    """A token bucket, kept as the time at which it will be full (the generic cell rate algorithm)."""

    def __init__(
        self,
        rate: float = RATE,
        burst: int = BURST,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval = 1 / rate
        self._span = (burst - 1) * self._interval
        self._clock, self._sleep = clock, sleep
        self._next = clock()
        self._held_until = clock()

    async def admit(self) -> None:
        """Return when the next request may begin."""
        slot = max(self._next, self._clock() - self._span)
        self._next = slot + self._interval
        while (wait := max(slot, self._held_until) - self._clock()) > 0:
            await self._sleep(wait)

    def hold(self, seconds: float) -> None:
        """Admit nothing for so long."""
        self._held_until = max(self._held_until, self._clock() + seconds)
