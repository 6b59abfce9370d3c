"""What events have shown of the runs: which are under way on which index, and when one last ended.

It is filled by events, and again by each resync, so it may be behind and may be empty. It decides only what is
looked at sooner, never what is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from vectorindex.domain.build_line import Place
from vectorindex.reconcile.keys import Key, Work

IndexName = tuple[str, str]
"""Namespace and name of a VectorIndex."""


@dataclass(frozen=True)
class Entry:
    """What is kept of an object: which one it is, and for a run its index, its end, and how long it stays then."""

    uid: str
    generation: int
    index: str = ""
    ended: datetime | None = None
    ttl: timedelta | None = None
    place: Place | None = None
    """A build's, in the line of its index."""

    @property
    def expires(self) -> datetime | None:
        """When the object is to be deleted."""
        return None if self.ended is None or self.ttl is None else self.ended + self.ttl


class Watchlist:
    def __init__(self) -> None:
        self._objects: dict[Key, Entry] = {}
        self._under_way: dict[IndexName, set[Key]] = {}
        self._last_end: dict[IndexName, datetime] = {}

    def note(self, key: Key, seen: Entry) -> Entry | None:
        """Keep what was seen of an object, and return what was kept before."""
        before = self._objects.get(key)
        self._objects[key] = seen
        if seen.index:
            index = (key.namespace, seen.index)
            if seen.ended is None:
                self._under_way.setdefault(index, set()).add(key)
            else:
                self._drop(index, key)
                self._last_end[index] = max(seen.ended, self._last_end.get(index, seen.ended))
        return before

    def forget(self, key: Key) -> Entry | None:
        """The object is gone; what was kept of it is returned."""
        seen = self._objects.pop(key, None)
        if key.work is Work.INDEX:
            self._last_end.pop((key.namespace, key.name), None)
        elif seen is not None:
            self._drop((key.namespace, seen.index), key)
        return seen

    def kept(self) -> tuple[Key, ...]:
        """All objects that were seen, and not seen to go."""
        return tuple(self._objects)

    def is_under_way(self, key: Key, uid: str) -> bool:
        """Is this run there, and has it not ended?"""
        entry = self._objects.get(key)
        return entry is not None and entry.uid == uid and entry.ended is None

    def under_way(self, namespace: str, index: str) -> tuple[Key, ...]:
        """The runs on an index that have not ended."""
        return tuple(sorted(self._under_way.get((namespace, index), ())))

    def first_build(self, namespace: str, index: str) -> Key | None:
        """The build of an index whose turn it is."""
        places = {
            key: entry.place
            for key in self._under_way.get((namespace, index), ())
            if (entry := self._objects[key]).place is not None
        }
        return min(places, key=lambda key: places[key], default=None)

    def last_end(self, namespace: str, index: str) -> datetime | None:
        """When a run on the index last ended."""
        return self._last_end.get((namespace, index))

    def _drop(self, index: IndexName, key: Key) -> None:
        keys = self._under_way.get(index, set())
        keys.discard(key)
        if not keys:
            self._under_way.pop(index, None)
