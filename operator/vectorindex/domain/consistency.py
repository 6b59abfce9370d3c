"""Do the pods hold the same items: by their digests, and by what the status has recorded of them.

The pods are not asked at the same moment, so while items are written their answers differ and nothing follows from it.
Two looks at a time when nothing is written settle it. The earlier look is the status itself: with each write of it
stands what every pod answered then. So whoever comes next, and be it another operator, knows since when no sequence has
moved: since the last write, as long as every pod answers the sequence that stands there.

Under writes the condition becomes True again at most once a minute, however the looks fall.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vectorindex.api.common import Condition, ConditionStatus
from vectorindex.api.reasons import ConditionType, Reason
from vectorindex.api.vectorindex import PodStatus
from vectorindex.domain.conditions import FALSE, TRUE, UNKNOWN, Fact
from vectorindex.domain.members import Member
from vectorindex.domain.pacing import passed
from vectorindex.domain.verdicts import counted, enumerate_names
from vectorindex.wire.state import IndexState

QUIET = timedelta(seconds=60)
"""Between two looks that show a difference, during which no sequence moved; and how long the condition stays Unknown
while items are written."""


@dataclass(frozen=True)
class Looks:
    """``group``: what the pods answer now; ``recorded``: what they had answered when the status was last written, at
    ``last_write`` (None: it never was); ``standing``: the condition so far."""

    now: datetime
    group: Sequence[Member]
    recorded: Sequence[PodStatus]
    last_write: datetime | None
    standing: Condition | None

    def stands(self, status: ConditionStatus) -> bool:
        return self.standing is not None and self.standing.status is status


def consistency(looks: Looks) -> Fact:
    """The condition ReplicasConsistent."""
    kind = ConditionType.REPLICAS_CONSISTENT
    states = {member.name: member.answer for member in looks.group if isinstance(member.answer, IndexState)}
    silent = [member.name for member in looks.group if member.name not in states]
    if silent:
        return Fact(kind, UNKNOWN, Reason.PODS_NOT_READY, f"no answer from {enumerate_names(silent)}")
    agree = len({state.digest for state in states.values()}) <= 1
    if _quiet(states, looks.recorded):
        if agree:
            return _agreement()
        if looks.stands(FALSE) or (looks.last_write is not None and passed(looks.last_write, looks.now) >= QUIET):
            return Fact(kind, FALSE, Reason.REPLICAS_DIFFER, _difference(states))
    elif agree and not _waits(looks):
        return _agreement()
    return Fact(kind, UNKNOWN, Reason.WRITES_IN_PROGRESS, "items are being written, or were within the last minute")


def _agreement() -> Fact:
    """No figures: they change with every write, and a condition is written at once."""
    return Fact(ConditionType.REPLICAS_CONSISTENT, TRUE, Reason.REPLICAS_AGREE, "every pod holds the same items")


def _waits(looks: Looks) -> bool:
    """Whether the condition has changed to Unknown so recently that it stays so while items are written."""
    standing = looks.standing
    if standing is None or standing.reason != Reason.WRITES_IN_PROGRESS:
        return False
    return passed(standing.last_transition_time, looks.now) < QUIET


def _quiet(states: dict[str, IndexState], recorded: Iterable[PodStatus]) -> bool:
    """Whether every pod is where it was when the status was last written."""
    rows = {row.name: (row.volume_id, row.sequence, row.digest) for row in recorded}
    return all(rows.get(name) == (state.volume_id, state.sequence, state.digest) for name, state in states.items())


def _difference(states: dict[str, IndexState]) -> str:
    """Which pods hold the same, the most of them first: ``vi-0, vi-1: 1,000 items (digest …); vi-2: 998 items (…)``."""
    alike: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name, state in states.items():
        alike[state.digest, state.counts.live].append(name)
    groups = sorted(alike.items(), key=lambda group: -len(group[1]))
    listed = "; ".join(
        f"{enumerate_names(pods)}: {counted(items, 'item')} (digest {digest})" for (digest, items), pods in groups
    )
    return f"{listed}. Nothing is being written: write to each pod what it lacks, delete there what it should not hold"
