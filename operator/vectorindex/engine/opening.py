"""What every open of an index does before anything in it is used: its lock, its files, what a crash left.

Nothing is removed before every file that the manifest names was verified.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from vectorindex.engine import items
from vectorindex.engine.belonging import segment_files
from vectorindex.engine.digest import as_text
from vectorindex.engine.errors import CorruptFile, IndexLocked
from vectorindex.engine.files import verify_stamp
from vectorindex.engine.policy import Counts
from vectorindex.engine.segments import Segment
from vectorindex.engine.session import remove_session

LOCK_NAME = "lock"


def take_lock(folder: Path) -> int:
    """The descriptor that holds the lock. Raises IndexLocked."""
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise IndexLocked(f"index {folder.name} is open in another process; stop that one first") from None
    return lock


def verify_segments(folder: Path, segments: Sequence[Segment]) -> None:
    """Raises CorruptFile."""
    for segment in segments:
        verify_stamp(segment.hnsw_path(folder), segment.hnsw)
        verify_stamp(segment.ids_path(folder), segment.ids)


def verify_items(connection: sqlite3.Connection, path: Path, counts: Counts, digest: int) -> None:
    """Raises CorruptFile unless the tables name as many items as segments and journal hold, and those that the digest
    is of."""
    live, dead = connection.execute("SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM dead)").fetchone()
    if (live, dead) != (counts.live, counts.deleted):
        raise CorruptFile(
            path,
            f"names {live:,} live and {dead:,} dead items, its segments and its journal hold"
            f" {counts.live:,} and {counts.deleted:,}",
        )
    if (named := items.digest(connection)) != digest:
        raise CorruptFile(path, f"names items of the digest {as_text(named)}, its state says {as_text(digest)}")


def remove_leftovers(folder: Path, segments: Sequence[Segment]) -> None:
    """Files of builds that nothing names, and what a session left."""
    named = {path.name for segment in segments for path in (segment.hnsw_path(folder), segment.ids_path(folder))}
    for path in segment_files(folder):
        if path.name not in named:
            path.unlink()
    remove_session(folder)
