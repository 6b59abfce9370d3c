"""The resync: at the start, every five minutes, and when asked for, everything is listed again, whatever events were
lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from vectorindex.api import names
from vectorindex.cluster.errors import ClusterError
from vectorindex.reconcile.intake import OURS, Intake
from vectorindex.reconcile.keys import Work
from vectorindex.reconcile.ports import ClusterPort
from vectorindex.reconcile.seen import POD, Seen, name_of

logger = logging.getLogger(__name__)

INTERVAL = 300.0
RETRY = 15.0

WATCHED = {
    **dict.fromkeys(("StatefulSet", "Service", "PodDisruptionBudget", "ConfigMap"), names.OWNED_SELECTOR),
    POD: names.INDEX_LABEL,
    **dict.fromkeys((Work.DELETE.value, Work.REBUILD.value, Work.OPTIMIZE.value, Work.INDEX.value), ""),
}
"""The kinds, and the labels by which they are watched."""


class Resync:
    """``namespaces``: those that are watched, [None] for all. ``clock``: seconds that only grow. ``tried`` is set once
    the first one has been tried."""

    def __init__(
        self,
        cluster: ClusterPort,
        intake: Intake,
        seen: Seen,
        namespaces: Sequence[str | None],
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._intake = intake
        self._seen = seen
        self._namespaces = namespaces
        self._clock = clock
        self._last: float | None = None
        self.tried = asyncio.Event()
        self._asked = asyncio.Event()

    @property
    def age(self) -> float | None:
        """Seconds since the last resync that was completed, or since the start; None before it."""
        return None if self._last is None else self._clock() - self._last

    async def run(self) -> None:
        """Resync until cancelled."""
        self._last = self._clock()
        while True:
            self._asked.clear()
            try:
                await self.once()
            except ClusterError as error:
                logger.warning("resync: %s; it will be tried again", error)
                pause = RETRY
            else:
                self._last = self._clock()
                pause = INTERVAL
            self.tried.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause)

    def ask(self) -> None:
        """The next resync comes at once."""
        self._asked.set()

    async def once(self) -> None:
        """List everything that is watched, once. Raises ClusterError.

        What an index owns comes first, and indexes last: so a look at an index finds what belongs to it, and runs that
        are under way need not wait for the looks at all of them.
        """
        for namespace in self._namespaces:
            for kind, labels in WATCHED.items():
                await self._list(kind, namespace, labels)
        self._seen.complete = True

    async def _list(self, kind: str, namespace: str | None, labels: str) -> None:
        gone = self._intake.known(kind, namespace)
        async for manifest in self._cluster.objects(kind, namespace, labels):
            gone.discard(name_of(manifest))
            if kind in OURS:
                self._intake.again(manifest)
            else:
                self._intake.child(manifest)
        for name in gone:
            self._intake.vanished(name)
