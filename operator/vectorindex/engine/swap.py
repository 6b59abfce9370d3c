"""What a swap does to the segments: a pure decision, the same for the candidate view and for the commit.

A rebuild, an optimize and a flush replace the segments that their builder says, a session in mode build all of them.
Any other session adds its segment, as the main one where there is none, and those go that hold nothing live with it.
What an optimize puts in place of a segment has its role, parameters and writes; what a flush makes is always a delta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.jobs import BuildJob, BuildResult, BuiltSegment, JobKind
from vectorindex.engine.params import Parameters
from vectorindex.engine.segments import Role, Segment
from vectorindex.engine.session import SessionMode


@dataclass(frozen=True)
class Swap:
    """The segments that stay, those that go, and those that come. ``lsn`` is that of the index after the
    swap; tombstones of what goes are forgotten up to ``forget_lsn``, the last write that the new segments have seen."""

    kept: tuple[Segment, ...]
    dropped: tuple[Segment, ...]
    added: tuple[Segment, ...]
    lsn: int
    forget_lsn: int

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All of them after the swap, by ascending labels."""
        return tuple(sorted((*self.kept, *self.added), key=lambda segment: segment.min_label))

    @property
    def new_main(self) -> bool:
        """Whether the parameters of the build come in force: with a main segment, or where no segment is left."""
        return any(segment.role is Role.MAIN for segment in self.added) or not self.segments


def plan_swap(
    job: BuildJob,
    built: BuildResult,
    segments: tuple[Segment, ...],
    live: Mapping[int, int],
    replaced: NDArray[np.uint64],
    sequence: int,
    flushing: frozenset[int] = frozenset(),
) -> Swap:
    """``segments`` as they are, ``live``: items by generation, ``replaced``: labels that the new items replace,
    ``sequence``: LSN of the last write. ``flushing``: generations that a flush beside this build takes, and will drop:
    a session leaves them to it."""
    if job.session is None:
        gone = set(built.replaces)
        lsn, forget_lsn = sequence, job.seal.lsn
    else:
        lsn = forget_lsn = sequence + 1
        everything = job.session.mode is SessionMode.BUILD
        gone = {
            segment.generation
            for segment in segments
            if everything
            or (segment.generation not in flushing and live[segment.generation] == _within(replaced, segment))
        }
    kept = tuple(segment for segment in segments if segment.generation not in gone)
    dropped = tuple(segment for segment in segments if segment.generation in gone)
    if job.kind is JobKind.OPTIMIZE:
        added = tuple(_optimized(job, new) for new in built.segments)
    else:
        has_main = any(segment.role is Role.MAIN for segment in kept)
        role = Role.DELTA if has_main or job.kind is JobKind.FLUSH else Role.MAIN
        added = tuple(_new_segment(job, new, role, lsn) for new in built.segments)
    return Swap(kept, dropped, added, lsn, forget_lsn)


def parameters_after(job: BuildJob, current: Parameters) -> Parameters:
    """Those of the build; but an ef_search that it does not change may have been configured since its seal."""
    if job.parameters.ef_search == job.in_force.ef_search:
        return replace(job.parameters, ef_search=current.ef_search)
    return job.parameters


def _new_segment(job: BuildJob, new: BuiltSegment, role: Role, lsn: int) -> Segment:
    rewritten = job.session is None
    return Segment(
        generation=new.generation,
        role=role,
        count=new.count,
        min_label=new.min_label,
        max_label=new.max_label,
        first_lsn=job.first_lsn if rewritten else lsn,
        last_lsn=job.seal.lsn if rewritten else lsn,
        parameters=job.parameters,
        unreachable=new.structure.unreachable,
        hnsw=new.hnsw,
        ids=new.ids,
    )


def _optimized(job: BuildJob, new: BuiltSegment) -> Segment:
    return replace(
        job.view.segments[job.generations.index(new.generation)],
        generation=new.generation,
        count=new.count,
        min_label=new.min_label,
        max_label=new.max_label,
        unreachable=new.structure.unreachable,
        hnsw=new.hnsw,
        ids=new.ids,
    )


def _within(labels: NDArray[np.uint64], segment: Segment) -> int:
    return int(((labels >= segment.min_label) & (labels <= segment.max_label)).sum())
