"""When a pod that is at work is looked at again, and when its progress is worth a write.

Invariant: how often follows from how long the work takes already, which the status holds; so a short operation is seen
to end at once, a long one is not asked for all the time, and an operator that was started anew goes on as its
predecessor.
"""

from __future__ import annotations

from datetime import datetime, timedelta

SHORTEST, LONGEST = 0.2, 2.0
"""Seconds between two looks at a pod that is at work."""
PROGRESS_INTERVAL = timedelta(seconds=2)
"""Progress that changed alone is written this long after the last write."""


def look_after(began: datetime | None, now: datetime) -> float:
    """Seconds until the next look at work that began then (None: now): a quarter of what it has taken so far, so its
    end is seen at most a quarter late."""
    taken = (now - (began or now)).total_seconds()
    return min(LONGEST, max(SHORTEST, taken / 4))


def passed(last_write: datetime, now: datetime) -> timedelta:
    """The time since a write, whose time is by the API server's clock, and may lie in the future of ours: that is no
    reason to wait until the clocks agree."""
    return abs(now - last_write)


def progress_is_due(last_write: datetime | None, now: datetime) -> bool:
    return last_write is None or passed(last_write, now) >= PROGRESS_INTERVAL
