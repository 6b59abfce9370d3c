"""Pods of the user's own (``podSelector``) that a run has listed, and that are not there any more.

Invariant: such a pod is waited for, as one that does not answer, until it has been missing for a minute: a pod that is
replaced under its name comes back, and its volume with it. Then it is gone for good, and the run goes on without it.
Since when it is missing stands in the run's status, so the minute goes on while operators come and go. Pods of the
operator's need none of this: their ordinals say which should be there.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypeVar

from vectorindex.api.common import PodResult, PodState
from vectorindex.domain.members import Member, NoAnswer, place

GONE_AFTER = timedelta(seconds=60)
VANISHED = NoAnswer("does not exist any more")

Row = TypeVar("Row", bound=PodResult)


def with_missing(members: Iterable[Member], rows: Iterable[PodResult], now: datetime) -> tuple[Member, ...]:
    """The pods that there are, and those of the run's rows that have been missing for less than a minute."""
    there = {member.name: member for member in members}
    for row in rows:
        if row.name in there or row.state is PodState.GONE:
            continue
        since = min(row.missing_time or now, now)  # a time ahead is that of another clock
        if now - since < GONE_AFTER:
            there[row.name] = Member(row.name, None, VANISHED, missing_since=since)
    return tuple(sorted(there.values(), key=lambda member: place(member.name)))


def dated(rows: Iterable[Row], members: Iterable[Member]) -> tuple[Row, ...]:
    """The rows, each of which says since when its pod is missing. A pod that is gone keeps the time."""
    since = {member.name: member.missing_since for member in members}
    return tuple(
        row.model_copy(update={"missing_time": since[row.name]})
        if row.name in since and row.missing_time != since[row.name]
        else row
        for row in rows
    )


def until_gone(members: Iterable[Member], now: datetime) -> float | None:
    """Seconds until the next pod is gone for good; None: all are there."""
    times = [member.missing_since for member in members if member.missing_since is not None]
    return (min(times) + GONE_AFTER - now).total_seconds() if times else None
