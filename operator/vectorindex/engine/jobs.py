"""What a builder is told and what it answers. Picklable, and free of hnswlib, so that the front may import it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.erasure import Seal
from vectorindex.engine.params import Parameters
from vectorindex.engine.recall import RecallSample, SampleRequest
from vectorindex.engine.segments import FileStamp, ViewSpec
from vectorindex.engine.session import SessionMode, SessionRows
from vectorindex.engine.structure import StructureReport


class Phase(StrEnum):
    """The steps of a build, in order."""

    READ = "read"
    GRAPH = "graph"
    WRITE = "write"
    REPAIR = "repair"
    VERIFY = "verify"
    SAMPLE = "sample"


INSERT_ROWS = 1_024
"""Rows given to hnswlib at a time: progress is reported, and a builder can be ended, between two."""

Progress = Callable[[Phase, float], None]


@dataclass(frozen=True)
class SessionInput:
    """Finalize: the rows of a session; row r gets the label ``first_label + r``."""

    rows: SessionRows
    mode: SessionMode
    first_label: int


class JobKind(StrEnum):
    """``FINALIZE`` makes a segment of a session, ``FLUSH`` one of the journal's rows and of some deltas, ``REBUILD``
    one of all segments, by new graphs. ``OPTIMIZE`` drops the dead of each segment by itself and mends its graph."""

    FINALIZE = "finalize"
    FLUSH = "flush"
    REBUILD = "rebuild"
    OPTIMIZE = "optimize"

    @property
    def erases(self) -> bool:
        """Whether nothing that was dead at the seal is left by its swap."""
        return self in (JobKind.REBUILD, JobKind.OPTIMIZE)


_NEW_GRAPH = {
    Phase.READ: (0, 1),
    Phase.GRAPH: (1, 93),
    Phase.WRITE: (93, 94),
    Phase.REPAIR: (94, 95),
    Phase.VERIFY: (95, 96),
    Phase.SAMPLE: (96, 99),
}
PROGRESS_AT: dict[JobKind, dict[Phase, tuple[int, int]]] = {
    JobKind.FINALIZE: _NEW_GRAPH,
    JobKind.FLUSH: _NEW_GRAPH,
    JobKind.REBUILD: _NEW_GRAPH,
    JobKind.OPTIMIZE: {Phase.GRAPH: (0, 60), Phase.SAMPLE: (60, 95)},
}
"""Percent of the whole operation at the start and the end of each phase, about by the time that it takes of 40,000
items; the swap makes it 100. Of an optimize, ``GRAPH`` is all that is done to its segments, one after the other."""
SEGMENT_PROGRESS: dict[Phase, tuple[int, int]] = {
    Phase.READ: (0, 8),
    Phase.GRAPH: (8, 67),
    Phase.WRITE: (67, 87),
    Phase.REPAIR: (87, 97),
    Phase.VERIFY: (97, 100),
}
"""Percent of what an optimize does to one segment."""


@dataclass(frozen=True)
class BuildJob:
    """One build on top of ``view``, the segments and rows that it reads, with what was dead at the seal.
    ``generations``: one for the new segment, or when optimizing one for each of the view. It holds the writes from
    ``first_lsn`` up to the ``seal``; ``in_force`` are the parameters then, ``parameters`` those of the new graph;
    ``threads`` ≥ 1 work in parallel."""

    kind: JobKind
    view: ViewSpec
    generations: tuple[int, ...]
    first_lsn: int
    seal: Seal
    in_force: Parameters
    parameters: Parameters
    threads: int
    session: SessionInput | None = None  # of a finalize alone
    sample: SampleRequest | None = None

    @property
    def folder(self) -> Path:
        return self.view.folder

    @property
    def flushed_through(self) -> int | None:
        """The label up to which the journal's rows are in the new segment, or dead; None: it takes none."""
        return int(self.view.tail.labels[-1]) if len(self.view.tail) else None


@dataclass(frozen=True)
class BuiltSegment:
    """A new segment on disk, checked and fsynced."""

    generation: int
    min_label: int
    max_label: int
    structure: StructureReport
    hnsw: FileStamp
    ids: FileStamp

    @property
    def count(self) -> int:
        return self.structure.count

    @property
    def size(self) -> int:
        """Bytes of both files."""
        return self.hnsw.size + self.ids.size


@dataclass(frozen=True)
class Computations:
    """Distances computed per query of the sample, over all segments, each with the ef_search in force."""

    before: float
    after: float


@dataclass(frozen=True)
class BuildResult:
    """``segments`` are new, by ascending labels; ``replaces``: generations of the view that they take the place of (a
    session's swap finds out by itself). ``unreachable_before``: live items of the old graphs that no search could find;
    ``links_repaired``: links that were put across the gaps of dead items, or to make items reachable; ``seconds`` by
    phase. ``sample`` and ``computations`` are None when nothing was to be measured or nothing has changed;
    ``fingerprints`` (n,) of the items of a session by ascending labels, None of any other build."""

    segments: tuple[BuiltSegment, ...]
    replaces: tuple[int, ...]
    unreachable_before: int
    links_repaired: int
    seconds: dict[str, float] = field(default_factory=dict)
    sample: RecallSample | None = None
    computations: Computations | None = None
    fingerprints: NDArray[np.int64] | None = field(default=None, compare=False)

    @property
    def unreachable(self) -> int:
        """Items of the new graphs that no search can find."""
        return sum(segment.structure.unreachable for segment in self.segments)


def progress_within(steps: Mapping[Phase, tuple[int, int]], phase: Phase, fraction: float) -> float:
    """Percent of all ``steps`` at a fraction 0..1 of one of them."""
    start, end = steps[phase]
    return start + (end - start) * min(max(fraction, 0.0), 1.0)


def overall_progress(kind: JobKind, phase: Phase, fraction: float) -> int:
    """Percent of the whole operation, rounded down, never 100."""
    return int(progress_within(PROGRESS_AT[kind], phase, fraction))
