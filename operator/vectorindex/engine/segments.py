"""What the parts tell each other of an index: segments (rows of the manifest) and views (what a searcher serves).

Immutable and picklable. A segment is two files, ``<generation>.hnsw`` and ``<generation>.ids``; generations and labels
only grow and are never reused, and the label ranges of two segments never overlap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.rows import Rows

SEGMENT_FILE = re.compile(r"\d{10}\.(hnsw|ids)")
"""Names of segment files; nothing else in a folder is ever removed as a leftover of a build."""


class Role(StrEnum):
    MAIN = "main"
    DELTA = "delta"


@dataclass(frozen=True)
class FileStamp:
    """How a file must look: size in bytes and SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """A row of the manifest. ``count`` items with labels in ``min_label..max_label``; they hold the writes
    ``first_lsn..last_lsn``; ``unreachable`` items no search of the graph can find."""

    generation: int
    role: Role
    count: int
    min_label: int
    max_label: int
    first_lsn: int
    last_lsn: int
    parameters: Parameters
    unreachable: int
    hnsw: FileStamp
    ids: FileStamp

    def hnsw_path(self, folder: Path) -> Path:
        return hnsw_path(folder, self.generation)

    def ids_path(self, folder: Path) -> Path:
        return ids_path(folder, self.generation)

    @property
    def size(self) -> int:
        """Bytes of both files."""
        return self.hnsw.size + self.ids.size


@dataclass(frozen=True, eq=False)
class ViewSpec:
    """What a searcher loads: segments by ascending labels, the ``tail`` of rows that are in none, and the labels
    (uint64, sorted) that are dead in either."""

    folder: Path
    dimensions: int
    metric: Metric
    segments: tuple[Segment, ...]
    dead: NDArray[np.uint64]
    tail: Rows

    @property
    def live_tail(self) -> Rows:
        """The rows of the tail that are not dead."""
        return self.tail.take(~np.isin(self.tail.labels, self.dead))


def generation_of(path: Path) -> int:
    """Of a file that :data:`SEGMENT_FILE` matches."""
    return int(path.stem)


def hnsw_path(folder: Path, generation: int) -> Path:
    return folder / f"{generation:010d}.hnsw"


def ids_path(folder: Path, generation: int) -> Path:
    return folder / f"{generation:010d}.ids"
