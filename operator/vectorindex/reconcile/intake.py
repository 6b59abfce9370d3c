"""Which keys an event enters.

Invariant: a status that the operator wrote itself enters nothing, or each write would cause the next; everything that
may let something go on does: a pod, an object of an index, the index itself, a run that ended or is gone. A run that
has ended is entered only for the time at which it is to be deleted. What is seen again as it was enters nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from vectorindex.api import KINDS
from vectorindex.domain import build_line
from vectorindex.reconcile.gathering import index_name
from vectorindex.reconcile.keys import RUNS, Key, Work
from vectorindex.reconcile.seen import Name, Seen, index_of
from vectorindex.reconcile.watchlist import Entry, Watchlist

OURS = {model.definition.kind for model in KINDS}


class Enter(Protocol):
    """Enters a key into the queue, to be reconciled in ``after`` seconds at the latest."""

    def __call__(self, key: Key, after: float = 0.0, /) -> None: ...


class Intake:
    def __init__(self, watchlist: Watchlist, seen: Seen, enter: Enter, now: Callable[[], datetime]) -> None:
        self._watchlist = watchlist
        self._seen = seen
        self._enter = enter
        self._now = now

    def own(self, manifest: Mapping[str, Any], *, deleted: bool = False) -> None:
        """An object of one of our kinds is there, changed, or is gone."""
        metadata = manifest["metadata"]
        key = Key(Work(manifest["kind"]), metadata["namespace"], metadata["name"])
        seen = _entry(key, manifest)
        if key.work is Work.INDEX:
            self._keep(manifest, deleted)
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
                self._wake_runs(key.namespace, key.name)
        elif seen.ended is not None and before is not None and before.ended is None:
            self._enter(Key(Work.INDEX, key.namespace, seen.index))
            self._enter(Key(Work.SWEEP, key.namespace, seen.index))  # a pod that gave no answer may still be at it
            self._wake_runs(key.namespace, seen.index)

    def again(self, manifest: Mapping[str, Any]) -> None:
        """An object of one of our kinds was listed. A run that has not ended is looked at, whether it changed or not;
        an index is looked at from time to time anyway."""
        self.own(manifest)
        metadata = manifest["metadata"]
        key = Key(Work(manifest["kind"]), metadata["namespace"], metadata["name"])
        if key.work is not Work.INDEX and _entry(key, manifest).ended is None:
            self._enter(key)

    def child(self, manifest: Mapping[str, Any], *, deleted: bool = False) -> None:
        """An object that an index owns, or a pod, is there, changed, or is gone. It may be the end of a rollout, for
        which builds wait."""
        if not self._keep(manifest, deleted):
            return
        if (index := index_of(manifest)) is not None:
            namespace = manifest["metadata"]["namespace"]
            self._enter(Key(Work.INDEX, namespace, index))
            self._wake_runs(namespace, index)

    def known(self, kind: str, namespace: str | None) -> set[Name]:
        """What was seen of this kind in a namespace (None: in all), and has not been seen to go."""
        ours = {(key.work.value, key.namespace, key.name) for key in self._watchlist.kept()}
        return self._seen.names(kind, namespace) | {
            name for name in ours if name[0] == kind and namespace in (None, name[1])
        }

    def vanished(self, name: Name) -> None:
        """An object that was known is not listed any more, and nobody has seen it go."""
        manifest = self._seen.take(name)
        if name[0] in OURS:
            self._enter(Key(Work(name[0]), *name[1:]))  # its reconcile finds that it is gone
        elif manifest is not None:
            self.child(manifest, deleted=True)

    def _keep(self, manifest: Mapping[str, Any], deleted: bool) -> bool:
        """False: nothing is new about it."""
        if not deleted:
            return self._seen.note(manifest)
        self._seen.forget(manifest)
        return True

    def _gone(self, key: Key, seen: Entry) -> None:
        if key.work in RUNS:
            self._enter(Key(Work.SWEEP, key.namespace, seen.index))
        index = key.name if key.work is Work.INDEX else seen.index
        self._wake_runs(key.namespace, index)

    def _wake_runs(self, namespace: str, index: str) -> None:
        for key in self._watchlist.under_way(namespace, index):
            self._enter(key)


def _entry(key: Key, manifest: Mapping[str, Any]) -> Entry:
    metadata = manifest["metadata"]
    if key.work is Work.INDEX:
        return Entry(metadata["uid"], metadata["generation"])
    status = manifest.get("status", {})
    ended = status.get("completionTime")
    ttl = manifest.get("spec", {}).get("ttlSecondsAfterFinished")
    return Entry(
        metadata["uid"],
        metadata["generation"],
        index=index_name(manifest),
        ended=None if ended is None else datetime.fromisoformat(ended),
        ttl=timedelta(seconds=ttl) if isinstance(ttl, int) else None,
        place=None if key.work is Work.DELETE else _place(key, metadata, started="startTime" in status),
    )


def _place(key: Key, metadata: Mapping[str, Any], *, started: bool) -> build_line.Place:
    created = metadata.get("creationTimestamp")
    return build_line.place(
        started=started,
        created=None if created is None else datetime.fromisoformat(created),
        name=key.name,
        kind=key.work.value,
    )
