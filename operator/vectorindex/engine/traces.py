"""What lies around an index that may still hold bytes of deleted items: found here, judged in
:mod:`vectorindex.engine.erasure`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from vectorindex.engine import items
from vectorindex.engine.erasure import Seal, SnapshotTrace, Traces
from vectorindex.engine.opening import LOCK_NAME
from vectorindex.engine.segments import SEGMENT_FILE, Segment, generation_of
from vectorindex.engine.session import IDS_NAME, VECTORS_NAME


def find_traces(
    connection: sqlite3.Connection,
    database: Path,
    segments: Sequence[Segment],
    seal: Seal,
    snapshots: Sequence[SnapshotTrace],
) -> Traces:
    """``database``: the file that ``connection`` is to, in the folder of the index; ``segments``: all that it names."""
    folder = database.parent
    # The -shm file is of other programs; it holds no rows.
    known = {LOCK_NAME, IDS_NAME, VECTORS_NAME, *(f"{database.name}{end}" for end in ("", "-wal", "-shm"))}
    known |= {path.name for segment in segments for path in (segment.hnsw_path(folder), segment.ids_path(folder))}
    paths = {path.name: path for path in folder.iterdir()}
    unnamed = sorted(paths.keys() - known)
    built = [name for name in unnamed if SEGMENT_FILE.fullmatch(name)]
    return Traces(
        tombstones=items.count_dead_until(connection, seal.lsn),
        session=bool(paths.keys() & {IDS_NAME, VECTORS_NAME}),
        leftovers=tuple(name for name in built if generation_of(paths[name]) < seal.generation),
        strangers=tuple(name for name in unnamed if name not in built),
        snapshots=snapshots,
    )
