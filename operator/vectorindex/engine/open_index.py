"""An index's database, and what of it is kept in memory between two transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import journal, manifest
from vectorindex.engine.database import Database
from vectorindex.engine.rows import Rows
from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.tally import Tally


class OpenIndex:
    """``state``, ``segments`` (by ascending labels) and ``tally`` are those of the last transaction: whoever makes one
    that changes them reads again, or says what has changed. ``clock`` gives seconds since 1970."""

    def __init__(self, folder: Path, database: Database, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.database = database
        self.clock = clock
        self.read()

    def read(self) -> None:
        """From the database, all that is kept."""
        with self.database.guarded() as connection:
            self.segments: tuple[Segment, ...] = manifest.read_segments(connection)
            self.state = manifest.read_state(connection)
            self.tally = Tally(connection, self.segments)

    @property
    def dimensions(self) -> int:
        return self.state.spec.dimensions

    def tail(self, connection: sqlite3.Connection) -> Rows:
        """The rows of the journal. Raises CorruptFile."""
        return journal.read(connection, self.database.path, self.dimensions)

    def view(self, segments: tuple[Segment, ...], dead: NDArray[np.uint64], tail: Rows) -> ViewSpec:
        """Of segments and rows of this index."""
        return ViewSpec(self.folder, self.dimensions, self.state.spec.metric, segments, dead, tail)
