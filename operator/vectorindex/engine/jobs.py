"""What a builder is told and what it answers. Picklable, and free of hnswlib, so that the front may import it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

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


PROGRESS_AT: dict[Phase, tuple[int, int]] = {
    Phase.READ: (0, 2),
    Phase.GRAPH: (2, 89),
    Phase.WRITE: (89, 91),
    Phase.REPAIR: (91, 94),
    Phase.VERIFY: (94, 96),
    Phase.SAMPLE: (96, 99),
}
"""Percent of the whole operation at the start and the end of each phase; the swap makes it 100."""

Progress = Callable[[Phase, float], None]


@dataclass(frozen=True)
class SessionInput:
    """Finalize: the rows of a session; row r gets the label ``first_label + r``."""

    rows: SessionRows
    mode: SessionMode
    first_label: int


class JobKind(StrEnum):
    """``FINALIZE`` makes a segment of a session, ``REBUILD`` one of all segments, by new graphs. ``OPTIMIZE`` drops the
    dead of each segment by itself and mends its graph."""

    FINALIZE = "finalize"
    REBUILD = "rebuild"
    OPTIMIZE = "optimize"


@dataclass(frozen=True)
class BuildJob:
    """One build on top of ``view``, the segments at the seal with what was dead then. ``generations``: one for the new
    segment, or when optimizing one for each of the view. ``in_force`` are the parameters at the ``seal``,
    ``parameters`` those of the new graph; ``threads`` ≥ 1 work in parallel."""

    kind: JobKind
    view: ViewSpec
    generations: tuple[int, ...]
    seal: Seal
    in_force: Parameters
    parameters: Parameters
    threads: int
    session: SessionInput | None = None  # of a finalize alone
    sample: SampleRequest | None = None

    @property
    def folder(self) -> Path:
        return self.view.folder


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
    phase. ``sample`` and ``computations`` are None when nothing was to be measured or nothing has changed."""

    segments: tuple[BuiltSegment, ...]
    replaces: tuple[int, ...]
    unreachable_before: int
    links_repaired: int
    seconds: dict[str, float] = field(default_factory=dict)
    sample: RecallSample | None = None
    computations: Computations | None = None

    @property
    def unreachable(self) -> int:
        """Items of the new graphs that no search can find."""
        return sum(segment.structure.unreachable for segment in self.segments)


def overall_progress(phase: Phase, fraction: float) -> int:
    """Percent of the whole operation, rounded down, never 100."""
    start, end = PROGRESS_AT[phase]
    return int(start + (end - start) * min(max(fraction, 0.0), 1.0))
