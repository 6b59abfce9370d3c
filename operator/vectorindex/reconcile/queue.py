"""The keyed queue: which key is reconciled when.

Invariants: a key is taken by at most one worker at a time; a key that is entered while it is being reconciled is
reconciled again, so the newest state is always seen; of several wishes for one key the earliest time stands; a failed
key comes back after a delay that doubles, with jitter, until it succeeds once. Long waits end a little earlier, by
chance, so that keys that were entered together, as at the start, do not come back together for ever. The queue holds
keys and times only: no object, and no task.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from vectorindex.reconcile.keys import Key


@dataclass(frozen=True)
class Backoff:
    """Seconds until a key is tried again after ``failures`` in a row: doubling up to ``longest``, of which a random
    half is taken, so that keys that failed together do not come back together."""

    first: float = 0.5
    longest: float = 120.0

    def delay(self, failures: int, rng: random.Random) -> float:
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return full * (0.5 + 0.5 * rng.random())


LONG = 60.0
"""Seconds from which a wait is long."""
EARLIER = 0.2
"""The part of a long wait that may be left out."""


@dataclass(frozen=True)
class Done:
    """The reconcile succeeded; ``again`` is the number of seconds until the next one at the latest, None: when
    something happens."""

    again: float | None = None


@dataclass(frozen=True)
class Failed:
    """The reconcile could not be finished; it is repeated with back-off."""

    error: Exception


Outcome = Done | Failed


@dataclass
class _Entry:
    due: float | None = None
    running: bool = False
    failures: int = 0


@dataclass
class KeyedQueue:
    """Keys with the time at which each is due, in seconds of ``clock``."""

    clock: Callable[[], float]
    rng: random.Random
    backoff: Backoff = Backoff()
    _entries: dict[Key, _Entry] = field(default_factory=dict, init=False)
    _heap: list[tuple[float, Key]] = field(default_factory=list, init=False)

    def enter(self, key: Key, after: float = 0.0) -> None:
        """Reconcile ``key`` in ``after`` seconds at the latest."""
        self._schedule(self._entries.setdefault(key, _Entry()), key, self.clock() + after)

    def take(self) -> Key | None:
        """The key that is due longest and not being reconciled, or None. It is the caller's until :meth:`finish`."""
        now = self.clock()
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            if entry is None or entry.due != due or entry.running:
                continue
            entry.due, entry.running = None, True
            return key
        return None

    def finish(self, key: Key, outcome: Outcome) -> None:
        """Give back a key that was taken."""
        entry = self._entries[key]
        entry.running = False
        match outcome:
            case Failed():
                entry.failures += 1
                again: float | None = self.backoff.delay(entry.failures, self.rng)
            case Done():
                entry.failures = 0
                again = self._spread(outcome.again)
        wished, entry.due = entry.due, None
        for due in (wished, None if again is None else self.clock() + again):
            if due is not None:
                self._schedule(entry, key, due)
        if entry.due is None:
            del self._entries[key]

    def _spread(self, again: float | None) -> float | None:
        return again if again is None or again < LONG else again * (1 - EARLIER * self.rng.random())

    def next_due(self) -> float | None:
        """The clock's time at which :meth:`take` may answer again; None when nothing is scheduled."""
        while self._heap:
            due, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.due == due and not entry.running:
                return due
            heapq.heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._entries)

    def _schedule(self, entry: _Entry, key: Key, due: float) -> None:
        if entry.due is not None and entry.due <= due:
            return
        entry.due = due
        if not entry.running:
            heapq.heappush(self._heap, (due, key))
