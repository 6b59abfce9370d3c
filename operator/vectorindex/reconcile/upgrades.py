"""The line of the indexes whose pods another version of the operator makes anew.

Invariant: an index gets its turn only while no other one is being upgraded, as the StatefulSets and pods say. All of
them are looked at once, when the first index asks; from then on each reconcile of an index says how it stands. So the
line is the same after a restart, and nothing is listed at each look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from vectorindex.api import names
from vectorindex.domain.children import requested
from vectorindex.domain.rollout import Rollout
from vectorindex.domain.upgrade import in_the_way
from vectorindex.reconcile.gathering import last_apply
from vectorindex.reconcile.keys import Key, Work
from vectorindex.reconcile.ports import Ports


class UpgradeLine:
    """``namespaces``: those that are watched, [None] for all; ``enter``: looks at an index whose turn it may be."""

    def __init__(self, ports: Ports, namespaces: Sequence[str | None], enter: Callable[[Key], None]) -> None:
        self._ports = ports
        self._namespaces = namespaces
        self._enter = enter
        self._under_way: dict[Key, datetime] = {}
        self._waiting: set[Key] = set()
        self._free_since = ports.now()
        self._looked = False
        self._looking = asyncio.Lock()

    async def ask(self, key: Key, serves: bool) -> str | None:
        """What an index has to wait for; None: it is its turn, and it has it until it is :meth:`done`. Raises
        ClusterError."""
        async with self._looking:
            if not self._looked:
                await self._look_at_all()
                self._looked = True
        others = {f"{other.namespace}/{other.name}": since for other, since in self._under_way.items() if other != key}
        now = self._ports.now()
        if key not in self._under_way and (way := in_the_way(others, self._free_since, serves, now)) is not None:
            self._waiting.add(key)
            return way
        self._waiting.discard(key)
        self._under_way.setdefault(key, now)
        return None

    def under_way(self, key: Key, since: datetime | None) -> None:
        """The pods of this index are being replaced by such as this version of the operator makes."""
        self._waiting.discard(key)
        self._under_way.setdefault(key, since or self._ports.now())

    def done(self, key: Key) -> None:
        """This index is not being upgraded, and does not wait for it; or it is gone."""
        self._waiting.discard(key)
        if self._under_way.pop(key, None) is None or self._under_way:
            return
        self._free_since = self._ports.now()
        if self._waiting:
            self._enter(min(self._waiting))

    async def _look_at_all(self) -> None:
        for namespace in self._namespaces:
            async for found in self._ports.cluster.objects("StatefulSet", namespace, names.OWNED_SELECTOR):
                rollout, metadata = Rollout.read(found), found["metadata"]
                if rollout.template is None:
                    continue
                index = metadata["labels"][names.INDEX_LABEL]
                pods = await self._ports.cluster.pods(metadata["namespace"], names.selector_text(index))
                if rollout.is_upgrade(map(requested, pods)):
                    self.under_way(Key(Work.INDEX, metadata["namespace"], index), last_apply(found))
