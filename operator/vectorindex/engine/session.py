"""An ingest session: rows as they were received, in two flat files beside the store, until finalize makes a segment
of them.

Nothing here is durable: a session ends with its process, and :func:`remove_session` clears what it left. The IDs lie
one a line (they hold no control characters), the vectors as rows of float32.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.errors import InvalidInput
from vectorindex.engine.files import space_errors
from vectorindex.engine.params import Metric, validate_external_ids, validate_vectors

IDS_NAME = "session.ids"
VECTORS_NAME = "session.vectors"


class SessionMode(StrEnum):
    """What finalize does with the rows: ``build`` replaces the whole index, ``insert`` fails when an ID exists
    already or is given twice, ``upsert`` replaces items, the last row of an ID wins. The last row wins under
    ``build`` too."""

    BUILD = "build"
    INSERT = "insert"
    UPSERT = "upsert"


@dataclass(frozen=True)
class SessionRows:
    """The files of a session as a builder reads them: ``count`` rows."""

    ids_path: Path
    vectors_path: Path
    count: int
    dimensions: int

    def external_ids(self) -> list[bytes]:
        """The IDs (UTF-8) row by row."""
        return self.ids_path.read_bytes().split(b"\n")[: self.count]

    def vectors(self) -> NDArray[np.float32]:
        """(count, dimensions) float32, mapped. There must be a row."""
        return np.memmap(self.vectors_path, "<f4", "r", shape=(self.count, self.dimensions))


class IngestSession:
    """The open session of an index; it belongs to one caller at a time."""

    def __init__(self, folder: Path, dimensions: int, metric: Metric, mode: SessionMode) -> None:
        """Begins a session. Raises InvalidInput if one is open in the folder."""
        self.mode = mode
        self.rows = 0
        self._folder = folder
        self._dimensions = dimensions
        self._metric = metric
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        try:
            self._ids = os.open(folder / IDS_NAME, flags, 0o600)
        except FileExistsError:
            raise InvalidInput(f"index {folder.name}: an ingest session is open; finalize it first") from None
        try:
            self._vectors = os.open(folder / VECTORS_NAME, flags, 0o600)
        except BaseException:
            os.close(self._ids)
            remove_session(folder)
            raise
        self._sizes = (0, 0)

    def append(self, external_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Adds rows: IDs (n,) and vectors (n, dimensions) float32, all or none. Raises InvalidInput, OutOfSpace."""
        if len(external_ids) != len(vectors):
            raise InvalidInput(f"{len(external_ids)} external IDs for {len(vectors)} vectors")
        validate_external_ids(external_ids)
        validate_vectors(vectors, self._dimensions, self._metric)
        if not external_ids:
            return
        lines = ("\n".join(external_ids) + "\n").encode()
        rows = np.ascontiguousarray(vectors, "<f4").tobytes()
        try:
            with space_errors(self._folder):
                _write(self._ids, lines)
                _write(self._vectors, rows)
        except BaseException:
            for file, size in zip((self._ids, self._vectors), self._sizes, strict=True):
                os.ftruncate(file, size)
            raise
        self._sizes = (self._sizes[0] + len(lines), self._sizes[1] + len(rows))
        self.rows += len(external_ids)

    def contents(self) -> SessionRows:
        """What was received so far."""
        return SessionRows(self._folder / IDS_NAME, self._folder / VECTORS_NAME, self.rows, self._dimensions)

    def discard(self) -> None:
        """Ends the session and removes its files."""
        os.close(self._ids)
        os.close(self._vectors)
        remove_session(self._folder)


def remove_session(folder: Path) -> None:
    """Removes what a session left; nothing if there is none."""
    for name in (IDS_NAME, VECTORS_NAME):
        (folder / name).unlink(missing_ok=True)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
