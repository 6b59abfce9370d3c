"""What a swap does to the segments: a pure decision, the same for the candidate view and for the commit.

A rebuild replaces the segments that it read, a session in mode build all of them. Any other session adds its segment,
as the main one where there is none, and those go that hold nothing live with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.jobs import BuildJob, BuildResult
from vectorindex.engine.params import Parameters
from vectorindex.engine.segments import Role, Segment
from vectorindex.engine.session import SessionMode


@dataclass(frozen=True)
class Swap:
    """The segments that stay, those that go, and the one that comes, if any. ``lsn`` is that of the index after the
    swap; tombstones of what goes are forgotten up to ``forget_lsn``, the last write that the new segment has seen."""

    kept: tuple[Segment, ...]
    dropped: tuple[Segment, ...]
    added: Segment | None
    lsn: int
    forget_lsn: int

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All of them after the swap, by ascending labels."""
        return self.kept if self.added is None else (*self.kept, self.added)

    @property
    def new_main(self) -> bool:
        """Whether the parameters of the build come in force: with a main segment, or where no segment is left."""
        return not self.kept if self.added is None else self.added.role is Role.MAIN


def plan_swap(
    job: BuildJob,
    built: BuildResult,
    segments: tuple[Segment, ...],
    live: Mapping[int, int],
    replaced: NDArray[np.uint64],
    sequence: int,
) -> Swap:
    """``segments`` as they are, ``live``: items by generation, ``replaced``: labels that the new items replace,
    ``sequence``: LSN of the last write."""
    if job.session is None:
        gone = {segment.generation for segment in job.view.segments}
        lsn, forget_lsn = sequence, job.seal_lsn
    else:
        lsn = forget_lsn = sequence + 1
        everything = job.session.mode is SessionMode.BUILD
        gone = {
            segment.generation
            for segment in segments
            if everything or live[segment.generation] == _within(replaced, segment)
        }
    kept = tuple(segment for segment in segments if segment.generation not in gone)
    dropped = tuple(segment for segment in segments if segment.generation in gone)
    role = Role.DELTA if any(segment.role is Role.MAIN for segment in kept) else Role.MAIN
    return Swap(kept, dropped, _new_segment(job, built, role, lsn), lsn, forget_lsn)


def parameters_after(job: BuildJob, current: Parameters) -> Parameters:
    """Those of the build; but an ef_search that it does not change may have been configured since its seal."""
    if job.parameters.ef_search == job.in_force.ef_search:
        return replace(job.parameters, ef_search=current.ef_search)
    return job.parameters


def _new_segment(job: BuildJob, built: BuildResult, role: Role, lsn: int) -> Segment | None:
    if built.segment is None:
        return None
    rebuilt = job.session is None
    return Segment(
        generation=job.generation,
        role=role,
        count=built.segment.count,
        min_label=built.segment.min_label,
        max_label=built.segment.max_label,
        first_lsn=min(segment.first_lsn for segment in job.view.segments) if rebuilt else lsn,
        last_lsn=job.seal_lsn if rebuilt else lsn,
        parameters=job.parameters,
        unreachable=built.segment.structure.unreachable,
        hnsw=built.segment.hnsw,
        ids=built.segment.ids,
    )


def _within(labels: NDArray[np.uint64], segment: Segment) -> int:
    return int(((labels >= segment.min_label) & (labels <= segment.max_label)).sum())
