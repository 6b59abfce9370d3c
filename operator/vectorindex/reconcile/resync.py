"""The resync: at the start and every five minutes everything is looked at again, whatever events were lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from vectorindex.api import KINDS
from vectorindex.cluster.errors import ClusterError
from vectorindex.reconcile.intake import Intake
from vectorindex.reconcile.ports import ClusterPort

logger = logging.getLogger(__name__)

INTERVAL = 300.0
RETRY = 15.0


class Resync:
    """``namespaces``: those that are watched, [None] for all. ``clock``: seconds that only grow."""

    def __init__(
        self,
        cluster: ClusterPort,
        intake: Intake,
        namespaces: Sequence[str | None],
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._intake = intake
        self._namespaces = namespaces
        self._clock = clock
        self._last: float | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the last resync that was completed, or since the start; None before it."""
        return None if self._last is None else self._clock() - self._last

    async def run(self) -> None:
        """Resync until cancelled."""
        self._last = self._clock()
        while True:
            try:
                await self.once()
            except ClusterError as error:
                logger.warning("resync: %s; it will be tried again", error)
                await asyncio.sleep(RETRY)
            else:
                self._last = self._clock()
                await asyncio.sleep(INTERVAL)

    async def once(self) -> None:
        """Look at every object of our kinds once. Raises ClusterError."""
        for namespace in self._namespaces:
            for model in KINDS:
                kind = model.definition.kind
                async for manifest in self._cluster.objects(kind, namespace):
                    self._intake.again({**manifest, "kind": kind})  # a list's elements do not name their kind
