"""From a key to the reconcile of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus

from vectorindex.api.common import UnreadableError
from vectorindex.cluster.errors import ClusterError, RejectedError
from vectorindex.reconcile.index import IndexReconciler
from vectorindex.reconcile.keys import AFTER_GONE, Key, Work
from vectorindex.reconcile.ports import Ports
from vectorindex.reconcile.runs import BuildReconciler, DeleteReconciler, GoneError
from vectorindex.reconcile.seen import Seen
from vectorindex.reconcile.sweep import Sweeper
from vectorindex.reconcile.upgrades import UpgradeLine
from vectorindex.reconcile.watchlist import Watchlist


class Reconciler:
    """Reconciles any key; ``enter`` is for keys that follow from it, ``namespaces`` are those that are watched."""

    def __init__(
        self,
        ports: Ports,
        watchlist: Watchlist,
        seen: Seen,
        default_image: str,
        enter: Callable[[Key], None],
        namespaces: Sequence[str | None] = (None,),
    ) -> None:
        self._watchlist = watchlist
        self._enter = enter
        upgrades = UpgradeLine(ports, namespaces, enter)
        self._indexes = IndexReconciler(ports, watchlist, upgrades, default_image, enter)
        self._seen_indexes = IndexReconciler(replace(ports, cluster=seen), watchlist, upgrades, default_image, enter)
        self._deletes = DeleteReconciler(ports)
        self._builds = BuildReconciler(ports, watchlist)
        self._sweeper = Sweeper(ports)

    async def reconcile(self, key: Key) -> float | None:
        """Returns the seconds until the next reconcile, None: when something happens. Raises ClusterError."""
        try:
            match key.work:
                case Work.INDEX:
                    again = await self._seen_indexes.glance(key)
                    return await self._indexes.reconcile(key) if again is None else again
                case Work.DELETE:
                    return await self._deletes.reconcile(key)
                case Work.REBUILD | Work.OPTIMIZE:
                    return await self._builds.reconcile(key)
                case Work.SWEEP:
                    return await self._sweeper.reconcile(key)
        except GoneError as gone:
            return self._clean_up(key, gone)

    def _clean_up(self, key: Key, gone: GoneError) -> float | None:
        """What the object has started since its deletion was seen is swept. It may have been created again."""
        seen = self._watchlist.forget(key)
        index = gone.index or (seen.index if seen is not None else None)
        if index is not None:
            self._enter(Key(Work.SWEEP, key.namespace, index))
        return None if gone.index is None else AFTER_GONE


def is_temporary(error: Exception) -> bool:
    """Errors of the world around us, which pass. What the API server rejects, the operator should not have sent, unless
    it lacks a right; an index that cannot be read says so itself."""
    if isinstance(error, RejectedError):
        return error.status == HTTPStatus.FORBIDDEN
    return isinstance(error, ClusterError | UnreadableError)
