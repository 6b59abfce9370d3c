"""Which keys an event enters.

Invariant: a status that the operator wrote itself enters nothing, or each write would cause the next; everything that
may let something go on does: a pod, an object of an index, the index itself, a run that ended or is gone. A run that
has ended is entered only for the time at which it is to be deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from vectorindex.api import names
from vectorindex.reconcile.gathering import index_name
from vectorindex.reconcile.keys import RUNS, Key, Work
from vectorindex.reconcile.watchlist import Seen, Watchlist


class Enter(Protocol):
    """Enters a key into the queue, to be reconciled in ``after`` seconds at the latest."""

    def __call__(self, key: Key, after: float = 0.0, /) -> None: ...


class Intake:
    def __init__(self, watchlist: Watchlist, enter: Enter, now: Callable[[], datetime]) -> None:
        self._watchlist = watchlist
        self._enter = enter
        self._now = now

    def own(self, manifest: Mapping[str, Any], *, deleted: bool = False) -> None:
        """An object of one of our kinds is there, changed, or is gone."""
        metadata = manifest["metadata"]
        key = Key(Work(manifest["kind"]), metadata["namespace"], metadata["name"])
        seen = _seen(key, manifest)
        if deleted:
            self._watchlist.forget(key)
            self._enter(key)
            self._gone(key, seen)
            return
        before = self._watchlist.note(key, seen)
        if before is not None and before.index and before.uid != seen.uid:
            self._enter(Key(Work.SWEEP, key.namespace, before.index))  # it is gone, and its end was not seen
        news = before is None or (before.uid, before.generation) != (seen.uid, seen.generation)
        stale = manifest.get("status", {}).get("observedGeneration") != seen.generation
        if stale or (news and seen.ended is None):
            self._enter(key)
        if seen.expires is not None:
            self._enter(key, max(0.0, (seen.expires - self._now()).total_seconds()))
        if key.work is Work.INDEX:
            if news:
                self._enter(Key(Work.SWEEP, key.namespace, key.name))
                self._wake_runs(key.namespace, key.name)
        elif seen.ended is not None and before is not None and before.ended is None:
            self._enter(Key(Work.INDEX, key.namespace, seen.index))
            self._enter(Key(Work.SWEEP, key.namespace, seen.index))  # a pod that gave no answer may still be at it
            self._wake_runs(key.namespace, seen.index)

    def again(self, manifest: Mapping[str, Any]) -> None:
        """An object of one of our kinds is there, and is to be looked at whether it changed or not."""
        self.own(manifest)
        metadata = manifest["metadata"]
        key = Key(Work(manifest["kind"]), metadata["namespace"], metadata["name"])
        if _seen(key, manifest).ended is None:
            self._enter(key)
        if key.work is Work.INDEX:
            self._enter(Key(Work.SWEEP, key.namespace, key.name))

    def child(self, manifest: Mapping[str, Any]) -> None:
        """An object that an index owns changed. It may be the end of a rollout, for which builds wait."""
        if (index := _index_of(manifest)) is not None:
            namespace = manifest["metadata"]["namespace"]
            self._enter(Key(Work.INDEX, namespace, index))
            self._wake_runs(namespace, index)

    def pod(self, manifest: Mapping[str, Any]) -> None:
        """A pod of an index changed. One that comes back may still be at work for a run that was given up."""
        self.child(manifest)
        if (index := _index_of(manifest)) is not None:
            self._enter(Key(Work.SWEEP, manifest["metadata"]["namespace"], index))

    def _gone(self, key: Key, seen: Seen) -> None:
        if key.work in RUNS:
            self._enter(Key(Work.SWEEP, key.namespace, seen.index))
        index = key.name if key.work is Work.INDEX else seen.index
        self._wake_runs(key.namespace, index)

    def _wake_runs(self, namespace: str, index: str) -> None:
        for key in self._watchlist.under_way(namespace, index):
            self._enter(key)


def _seen(key: Key, manifest: Mapping[str, Any]) -> Seen:
    metadata = manifest["metadata"]
    if key.work is Work.INDEX:
        return Seen(metadata["uid"], metadata["generation"])
    ended = manifest.get("status", {}).get("completionTime")
    ttl = manifest.get("spec", {}).get("ttlSecondsAfterFinished")
    return Seen(
        metadata["uid"],
        metadata["generation"],
        index=index_name(manifest),
        ended=None if ended is None else datetime.fromisoformat(ended),
        ttl=timedelta(seconds=ttl) if isinstance(ttl, int) else None,
    )


def _index_of(manifest: Mapping[str, Any]) -> str | None:
    labels: Mapping[str, str] = manifest["metadata"].get("labels", {})
    return labels.get(names.INDEX_LABEL)
