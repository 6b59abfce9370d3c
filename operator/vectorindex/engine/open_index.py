"""An index's database, and what of it is kept in memory between two transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import journal, manifest
from vectorindex.engine.database import Database
from vectorindex.engine.rows import Rows
from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.tally import Tally


class Kept(NamedTuple):
    """What is kept, all of one transaction; ``segments`` by ascending labels."""

    state: manifest.State
    segments: tuple[Segment, ...]
    tally: Tally


class OpenIndex:
    """``kept`` is of the last transaction: whoever makes one that changes it reads again, or says what has changed. Any
    thread may look at it, at all of it in one look. ``clock`` gives seconds since 1970."""

    def __init__(self, folder: Path, database: Database, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.database = database
        self.clock = clock
        self.kept = self._read()

    def read(self) -> None:
        """From the database, all that is kept."""
        self.kept = self._read()

    def _read(self) -> Kept:
        with self.database.guarded() as connection:
            segments = manifest.read_segments(connection)
            return Kept(manifest.read_state(connection), segments, Tally(connection, segments))

    @property
    def state(self) -> manifest.State:
        return self.kept.state

    @state.setter
    def state(self, state: manifest.State) -> None:
        self.kept = self.kept._replace(state=state)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self.kept.segments

    @property
    def tally(self) -> Tally:
        return self.kept.tally

    @property
    def dimensions(self) -> int:
        return self.state.spec.dimensions

    def tail(self, connection: sqlite3.Connection) -> Rows:
        """The rows of the journal. Raises CorruptFile."""
        return journal.read(connection, self.database.path, self.dimensions)

    def view(self, segments: tuple[Segment, ...], dead: NDArray[np.uint64], tail: Rows) -> ViewSpec:
        """Of segments and rows of this index."""
        return ViewSpec(self.folder, self.dimensions, self.state.spec.metric, segments, dead, tail)
