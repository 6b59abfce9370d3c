"""The workers: they take keys from the queue, reconcile them, and turn every error into an outcome.

Invariant: whatever a reconcile raises, its key goes back to the queue; only cancellation ends the workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from vectorindex.reconcile.keys import Key
from vectorindex.reconcile.queue import Done, Failed, KeyedQueue, Outcome

logger = logging.getLogger(__name__)

CONCURRENCY = 32
"""Reconciles at the same time. Most of a reconcile is waiting for an answer, some of it for pods that are gone."""


class Temporary(Protocol):
    """Tells errors of the world around us, which pass, from bugs, which need a traceback."""

    def __call__(self, error: Exception, /) -> bool: ...


class Workers:
    """Runs ``reconcile`` for each key when it is due, ``concurrency`` at a time."""

    def __init__(
        self,
        queue: KeyedQueue,
        reconcile: Callable[[Key], Awaitable[float | None]],
        temporary: Temporary,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._temporary = temporary
        self._concurrency = concurrency
        self._running = 0
        self._changed = asyncio.Event()

    def enter(self, key: Key, after: float = 0.0) -> None:
        """Enter a key; to be called on the event loop's thread."""
        self._queue.enter(key, after)
        self._changed.set()

    async def run(self) -> None:
        """Work until cancelled; reconciles under way are cancelled too, which is safe at any of their steps."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                while self._running < self._concurrency and (key := self._queue.take()) is not None:
                    self._running += 1
                    group.create_task(self._work(key), name=str(key))
                await self._wait()

    async def _wait(self) -> None:
        due = self._queue.next_due() if self._running < self._concurrency else None
        timeout = None if due is None else max(0.0, due - self._queue.clock())
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _work(self, key: Key) -> None:
        try:
            outcome: Outcome = Done(await self._reconcile(key))
        except Exception as error:
            if self._temporary(error):
                logger.warning("%s: %s; it will be tried again", key, error)
            else:
                logger.exception("%s: a bug; it will be tried again", key)
            outcome = Failed(error)
        finally:
            self._running -= 1
            self._changed.set()
        self._queue.finish(key, outcome)
