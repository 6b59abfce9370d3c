"""What a builder is told and what it answers. Picklable, and free of hnswlib, so that the front may import it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

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
    VERIFY = "verify"
    SAMPLE = "sample"


PROGRESS_AT: dict[Phase, tuple[int, int]] = {
    Phase.READ: (0, 2),
    Phase.GRAPH: (2, 90),
    Phase.WRITE: (90, 93),
    Phase.VERIFY: (93, 96),
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


@dataclass(frozen=True)
class BuildJob:
    """One build on top of ``view``, the segments at the seal with what was dead then. ``seal_lsn`` is the last write
    that it holds; ``in_force`` are the parameters then, ``parameters`` those of the new graph; ``threads`` ≥ 1 insert
    in parallel."""

    view: ViewSpec
    generation: int
    seal_lsn: int
    in_force: Parameters
    parameters: Parameters
    threads: int
    session: SessionInput | None  # None: a rebuild of the view
    sample: SampleRequest | None = None

    @property
    def folder(self) -> Path:
        return self.view.folder


@dataclass(frozen=True)
class BuiltSegment:
    """A new segment on disk, checked and fsynced."""

    min_label: int
    max_label: int
    structure: StructureReport
    hnsw: FileStamp
    ids: FileStamp

    @property
    def count(self) -> int:
        return self.structure.count


@dataclass(frozen=True)
class BuildResult:
    """``segment`` is None when nothing was live. ``unreachable_before``: live items of the old graphs that no search
    could find; ``seconds`` by phase."""

    segment: BuiltSegment | None
    unreachable_before: int
    seconds: dict[str, float] = field(default_factory=dict)
    sample: RecallSample | None = None


def overall_progress(phase: Phase, fraction: float) -> int:
    """Percent of the whole operation, rounded down, never 100."""
    start, end = PROGRESS_AT[phase]
    return int(start + (end - start) * min(max(fraction, 0.0), 1.0))
