"""Whose turn it is: of the builds of one index, and of the pods of one build.

Invariants: builds of one index run one at a time; of the pods of a build at most ``maxConcurrentPods`` are at it, taken
by ordinal, and one begins only while every pod serves. A pod that waits for its next attempt keeps its place. What a
pod has done is recorded with the volume that did it, and counts as long as the pod has that volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from vectorindex.api.builds import BuildPodResult
from vectorindex.api.common import PodState
from vectorindex.domain.build_rows import Rows
from vectorindex.domain.members import Member, troubles
from vectorindex.domain.run import BuildRun

Place = tuple[bool, datetime, str, str]
"""Of a build in the line of its index: what has started goes first, then by creation, then by name (and kind)."""


def place(*, started: bool, created: datetime | None, name: str, kind: str) -> Place:
    return not started, created or datetime.max.replace(tzinfo=UTC), name, kind


def first_in_line(builds: Iterable[BuildRun]) -> BuildRun | None:
    """Whose turn it is, of all builds of one index."""

    def place_of(run: BuildRun) -> Place:
        return place(
            started=run.status.start_time is not None,
            created=run.metadata.creation_timestamp,
            name=run.metadata.name,
            kind=run.definition.kind,
        )

    return min((run for run in builds if not run.status.finished), key=place_of, default=None)


def at_work(builds: Iterable[BuildRun]) -> BuildRun | None:
    """The build of one index that has begun, and has not ended."""
    first = first_in_line(builds)
    return None if first is None or first.status.start_time is None else first


@dataclass(frozen=True)
class Line:
    """The pods that have not done their part. ``at_work``: they have begun. ``later``: the last attempt failed, and
    the next one is not due. ``due``: they may begin, as soon as every pod serves; ``held_by``: what is wrong with those
    that do not."""

    at_work: Rows
    later: Rows
    due: Rows
    held_by: tuple[str, ...]

    @property
    def begin_now(self) -> Rows:
        return () if self.held_by else self.due

    @property
    def empty(self) -> bool:
        return not (self.at_work or self.later or self.due)


def line_up(rows: Rows, members: Iterable[Member], at_once: int, now: datetime) -> Line:
    """``rows``: in the order in which the pods take their turn; ``at_once``: how many at a time."""
    by_name = {member.name: member for member in members}
    left = [row for row in rows if row.name in by_name and not is_done(row, by_name[row.name])]
    at_work = tuple(row for row in left if has_begun(row))
    later = tuple(row for row in left if row.retry_time is not None and row.retry_time > now)
    again = tuple(row for row in left if row.retry_time is not None and row.retry_time <= now)
    fresh = tuple(row for row in left if row.retry_time is None and not has_begun(row))
    free = max(0, at_once - len(at_work) - len(later) - len(again))
    return Line(at_work, later, (*again, *fresh[:free]), troubles(by_name.values()))


def is_done(row: BuildPodResult, member: Member) -> bool:
    """The pod has done its part, on the volume that it has now."""
    return row.state is PodState.SUCCEEDED and member.volume in (None, row.volume_id)


def has_begun(row: BuildPodResult) -> bool:
    """The pod has answered that it is at work. One that never answered may be, but that shows in its turn."""
    if row.state is PodState.UNREACHABLE:
        return row.attempt is not None and row.retry_time is None
    return row.state is PodState.RUNNING
