"""Which operator leads: one at a time, by a Lease.

Invariant: a process counts itself the leader for ``renew_deadline`` seconds from when it *sent* a write of the Lease
that succeeded; another one takes the Lease no sooner than ``duration`` seconds after it *received* the last change that
it has seen of it. Both times are the process's own, so the clocks of the machines need not agree, only run about as
fast; and as the deadline is the shorter one, the first has stopped before the second begins. No time is waited for a
leader that gave the Lease back, and for one of the same container, which must have ended for the next one to run.

Times of the Lease itself are written for people, and as the epoch (:mod:`vectorindex.wire.epoch`): they are never
compared with a clock to find out whether the Lease has expired.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vectorindex.wire.epoch import MAX_AHEAD

MAX_OUTBID_AHEAD = MAX_AHEAD + 60_000_000
"""Microseconds that an epoch which a pod has seen may be ahead of our clock, to be outbid: what the pod allows itself,
and a difference of the clocks. Higher ones no other pod would take."""


@dataclass(frozen=True)
class Timing:
    """Seconds: how long the Lease counts without being renewed, for how long its holder relies on it, and how often it
    is looked at."""

    duration: int = 15
    renew_deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renew_deadline < self.duration:
            raise ValueError(
                f"a Lease is tried every {self.retry:g} s, relied on for {self.renew_deadline:g} s and counts for "
                f"{self.duration} s: each of these must be shorter than the next"
            )


@dataclass(frozen=True)
class Candidate:
    """A process that may lead. ``name`` is its own, unlike that of any other process; ``container``: what the names of
    all processes begin with of which only one can run at a time, empty where there is no such thing."""

    name: str
    container: str = ""

    def replaces(self, holder: str) -> bool:
        """Is the holder this process itself, or one that must have ended for this one to run?"""
        return holder == self.name or (bool(self.container) and holder.startswith(self.container))


@dataclass(frozen=True)
class Record:
    """What the Lease says. ``holder``: empty, when it was given back; ``duration``: seconds; ``acquired`` is the epoch;
    ``acquired`` and ``renewed``: microseconds since 1970."""

    holder: str
    duration: int
    acquired: int
    renewed: int
    transitions: int = 0


@dataclass(frozen=True)
class View:
    """What a process has seen of the Lease. ``record``: the last one, also when the Lease is not there any more;
    ``since``: by its own clock, when it was first seen so."""

    record: Record | None = None
    since: float = 0.0
    exists: bool = False

    def after(self, record: Record | None, now: float) -> View:
        """The view after a look that found ``record``, None: no Lease. A look that finds what was there says only that
        it has not been renewed; a Lease that was deleted has a holder who may not know it yet."""
        if record is None:
            return replace(self, exists=False)
        if record == self.record:
            return replace(self, exists=True)
        return View(record, now, exists=True)


@dataclass(frozen=True)
class Acquire:
    """Write the Lease, as :func:`claim` says."""


@dataclass(frozen=True)
class Renew:
    """Write the Lease, as :func:`renewed` says."""


@dataclass(frozen=True)
class Wait:
    """``holder`` leads, for ``seconds`` at least, if nothing changes."""

    holder: str
    seconds: float


@dataclass(frozen=True)
class Lost:
    """This process leads no more, and must not act again."""

    why: str


Decision = Acquire | Renew | Wait | Lost


def decide(me: Candidate, held_until: float | None, view: View, now: float) -> Decision:
    """What to do about the Lease. ``held_until``: for a leader, the time until which it relies on it."""
    if held_until is None:
        return _as_standby(me, view, now)
    if now >= held_until:
        return Lost("it was not renewed in time")
    if not view.exists:
        return Acquire()
    assert view.record is not None
    if view.record.holder != me.name:
        return Lost(f"it is held by {view.record.holder}" if view.record.holder else "somebody has taken it away")
    return Renew()


def _as_standby(me: Candidate, view: View, now: float) -> Decision:
    if view.record is None or not view.record.holder or me.replaces(view.record.holder):
        return Acquire()
    left = view.since + view.record.duration - now
    return Acquire() if left <= 0 else Wait(view.record.holder, left)


def claim(me: Candidate, view: View, timing: Timing, wall: int) -> Record:
    """The Lease with this process as its new holder. ``wall``: microseconds since 1970."""
    before = view.record
    return Record(
        holder=me.name,
        duration=timing.duration,
        acquired=next_epoch(0 if before is None else before.acquired, wall),
        renewed=wall,
        transitions=0 if before is None else before.transitions + (before.holder != me.name),
    )


def renewed(record: Record, wall: int, epoch: int) -> Record:
    """The Lease as its holder renews it: with its own epoch, whatever somebody has made of that meanwhile."""
    return replace(record, renewed=wall, acquired=epoch)


def released(record: Record, wall: int) -> Record:
    """The Lease as its holder gives it back. The epoch stays: the next one is higher."""
    return replace(record, holder="", duration=1, renewed=wall)


def next_epoch(previous: int, wall: int) -> int:
    """The epoch of a new leader: its time, but higher than the previous one. A previous one that is so far ahead that
    no pod takes it was given by a wrong clock, and does not count; pods that have taken it will say so."""
    return wall if previous > wall + MAX_AHEAD else max(wall, previous + 1)


def outbid(seen: int, wall: int) -> int | None:
    """An epoch higher than ``seen``, which a pod has seen; None where no pod would take it."""
    return seen + 1 if seen < wall + MAX_OUTBID_AHEAD else None
