"""Keeps the operator's keys in its Secret: made at the first start, made again when it is gone, changed by age.

Invariants: a key signs only after the Secret holds it, so an operator that takes over signs with the same; and what the
Secret holds counts, whoever wrote it. It is asked for from time to time, since a watch would need further rights.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from vectorindex.cluster.errors import ClusterError
from vectorindex.domain.keyring import SECRET, KeyRing, SigningKey, build_secret, plan
from vectorindex.reconcile.gathering import last_apply
from vectorindex.reconcile.ports import Manifest
from vectorindex.wire.identity import PublicKey

logger = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two looks: so soon a key is replaced whose Secret somebody deleted."""
RETRY = 2.0


class Secrets(Protocol):
    """Of Kubernetes, what is needed; see :class:`vectorindex.cluster.cluster.Cluster`. Both raise ClusterError."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None: ...

    async def apply(self, manifest: Manifest) -> Manifest: ...


class KeyKeeper:
    """``use`` is called with the key that signs, ``changed`` after other keys are to be in the identity files."""

    def __init__(
        self,
        cluster: Secrets,
        namespace: str,
        use: Callable[[SigningKey], None],
        changed: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._use = use
        self._changed = changed
        self._now = now
        self._ring: KeyRing | None = None

    def public_keys(self) -> tuple[PublicKey, ...]:
        """Those that the identity files should hold. :meth:`obtain` comes first."""
        assert self._ring is not None
        return self._ring.public_keys

    async def obtain(self) -> None:
        """Return as soon as there are keys."""
        complaint = ""
        while self._ring is None:
            try:
                await self.look()
            except ClusterError as error:
                if str(error) != complaint:
                    logger.warning("no keys yet: %s; it will be tried again", error)
                complaint = str(error)
                await asyncio.sleep(RETRY)

    async def run(self) -> None:
        """Keep them until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.look()
            except ClusterError as error:
                logger.warning("Secret %s: %s; it will be tried again", SECRET, error)

    async def look(self) -> None:
        """Make the Secret what it should be, and use what it holds. Raises ClusterError."""
        secret = await self._cluster.get("Secret", self._namespace, SECRET)
        wanted = plan(secret, None if secret is None else last_apply(secret), self._now())
        if wanted.change is not None:
            await self._cluster.apply(build_secret(wanted.ring, self._namespace, secret))
            logger.info("Secret %s in %s has new keys: %s", SECRET, self._namespace, wanted.change)
        if wanted.ring == self._ring:
            return
        self._use(wanted.ring.current)
        self._ring = wanted.ring
        self._changed()
