"""Which external ID is which label, and which labels are dead: set-based SQL, for the store to call in its
transactions. What changes the items says by how much their digest moves.

The labels in ``items`` and in ``dead`` together are exactly those that the segments and the journal hold. Each function
works through one temporary table in memory, ordered like ``items``, so that the B-tree is walked once.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.digest import EMPTY, moved, total
from vectorindex.engine.errors import CorruptFile

SHOWN_CONFLICTS = 5


@dataclass(frozen=True, eq=False)
class NewItems:
    """n items: distinct ``external_ids`` (n), which are read once, their ``labels`` (n,) and ``fingerprints`` (n,)."""

    external_ids: Iterable[str]
    labels: NDArray[np.uint64]
    fingerprints: NDArray[np.int64]

    @property
    def digest(self) -> int:
        return total(self.fingerprints)

    def rows(self) -> Iterator[tuple[str, int, int, int]]:
        """As they lie in ``items``."""
        for item in zip(self.external_ids, self.labels.tolist(), self.fingerprints.tolist(), strict=True):
            yield (*item, item_crc(*item))


def item_crc(external_id: str, label: int, fingerprint: int) -> int:
    """Guards a row of ``items``: CRC-32 of the ID in UTF-8, started with the label and the fingerprint."""
    return zlib.crc32(external_id.encode(), (label ^ fingerprint ^ fingerprint >> 32) & 0xFFFFFFFF)


def kill(
    connection: sqlite3.Connection, path: Path, external_ids: Sequence[str], lsn: int
) -> tuple[NDArray[np.bool_], NDArray[np.uint64], int]:
    """Makes items dead as of ``lsn``: which of the distinct IDs (n,) there were, their labels, and their digest. Raises
    CorruptFile."""
    with _temporary(connection, "requested", "external_id TEXT PRIMARY KEY, position INTEGER NOT NULL"):
        connection.execute(
            "INSERT INTO temp.requested SELECT value, key FROM json_each(?) ORDER BY value",
            (json.dumps(external_ids, ensure_ascii=False),),
        )
        found = bytearray(len(external_ids))

        def rows() -> Iterator[tuple[int, str, int, int]]:
            named = "SELECT position, label, fingerprint, crc FROM temp.requested JOIN items USING (external_id)"
            for position, label, fingerprint, crc in connection.execute(named):
                found[position] = True
                yield label, external_ids[position], fingerprint, crc

        labels, went = _verified(rows(), path)
        tombstones = json.dumps(np.sort(labels).tolist())
        connection.execute("INSERT INTO dead SELECT value, ? FROM json_each(?)", (lsn, tombstones))
        connection.execute("DELETE FROM items WHERE external_id IN (SELECT external_id FROM temp.requested)")
    return np.frombuffer(found, np.bool_), labels, went


def conflicts(connection: sqlite3.Connection, external_ids: Iterable[bytes]) -> tuple[list[str], int]:
    """IDs that exist already or are given twice: the first few, and how many there are."""
    with _temporary(connection, "given", "external_id TEXT PRIMARY KEY, times INTEGER NOT NULL"):
        connection.executemany(
            "INSERT INTO temp.given VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
            ((external_id.decode(),) for external_id in external_ids),
        )
        twice = (
            "FROM temp.given WHERE times > 1"
            " OR EXISTS (SELECT 1 FROM items WHERE items.external_id = temp.given.external_id)"
        )
        total = connection.execute(f"SELECT count(*) {twice}").fetchone()[0]
        shown = connection.execute(f"SELECT external_id {twice} LIMIT ?", (SHOWN_CONFLICTS,))
        return [external_id for (external_id,) in shown], total


def replaced_by(connection: sqlite3.Connection, path: Path, new: NewItems) -> NDArray[np.uint64]:
    """Labels of the items that new ones of these IDs would replace. Raises CorruptFile."""
    with _staged(connection, new):
        labels, _ = _replaced(connection, path)
        return labels


def clear(connection: sqlite3.Connection) -> None:
    """Forgets every item and every tombstone."""
    connection.execute("DELETE FROM items")
    connection.execute("DELETE FROM dead")


def add(connection: sqlite3.Connection, path: Path, new: NewItems, lsn: int) -> tuple[NDArray[np.uint64], int]:
    """Adds items; those that they replace are dead as of ``lsn``. Returns the labels of those, and by how much the
    digest moves. Raises CorruptFile."""
    with _staged(connection, new):
        replaced, went = _replaced(connection, path)
        connection.execute(
            "INSERT INTO dead SELECT items.label, ? FROM temp.staged JOIN items USING (external_id) ORDER BY 1", (lsn,)
        )
        connection.execute("INSERT OR REPLACE INTO items SELECT * FROM temp.staged ORDER BY external_id")
        return replaced, moved(EMPTY, new.digest, went)


def fill(connection: sqlite3.Connection, live: NewItems, dead: Iterable[int], lsn: int) -> None:
    """Names the items and the dead labels of the first segment of an empty index."""
    rows = sorted(live.rows(), key=lambda row: row[0].encode())
    connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
    connection.executemany("INSERT INTO dead VALUES (?, ?)", ((label, lsn) for label in dead))


def digest(connection: sqlite3.Connection) -> int:
    """Of all items, summed anew. In halves, because a sum of SQLite's does not wrap."""
    low, high = connection.execute(
        "SELECT coalesce(sum(fingerprint & 4294967295), 0), coalesce(sum(fingerprint >> 32), 0) FROM items"
    ).fetchone()
    return moved(EMPTY, low + (high << 32))


def labels_of(connection: sqlite3.Connection, path: Path, external_ids: Sequence[str]) -> dict[str, int]:
    """The label of each ID that there is. Raises CorruptFile."""
    rows = connection.execute(
        "SELECT label, external_id, fingerprint, crc FROM items WHERE external_id IN (SELECT value FROM json_each(?))",
        (json.dumps(external_ids, ensure_ascii=False),),
    ).fetchall()
    _verified(rows, path)
    return {external_id: label for label, external_id, *_ in rows}


def page(connection: sqlite3.Connection, after: str | None, limit: int) -> list[str]:
    """The first ``limit`` IDs behind ``after`` (None: from the beginning), in the order of their UTF-8."""
    rows = connection.execute(
        "SELECT external_id FROM items WHERE external_id > ? ORDER BY external_id LIMIT ?", (after or "", limit)
    )
    return [external_id for (external_id,) in rows]


def dead_labels(connection: sqlite3.Connection, min_label: int = 0, max_label: int = 2**63 - 1) -> NDArray[np.uint64]:
    """All tombstones within a range of labels, ascending."""
    within = connection.execute(
        "SELECT label FROM dead WHERE label BETWEEN ? AND ? ORDER BY label", (min_label, max_label)
    )
    return _labels(within)


def count_dead(connection: sqlite3.Connection, min_label: int, max_label: int) -> int:
    """Tombstones within a range of labels."""
    within = connection.execute("SELECT count(*) FROM dead WHERE label BETWEEN ? AND ?", (min_label, max_label))
    return int(within.fetchone()[0])


def count_dead_until(connection: sqlite3.Connection, lsn: int) -> int:
    """Tombstones of deletes up to a write."""
    return int(connection.execute("SELECT count(*) FROM dead WHERE lsn <= ?", (lsn,)).fetchone()[0])


def forget_dead(connection: sqlite3.Connection, min_label: int, max_label: int, up_to_lsn: int) -> None:
    """Drops the tombstones of a segment that is no more, up to the write that its successor has seen."""
    connection.execute("DELETE FROM dead WHERE label BETWEEN ? AND ? AND lsn <= ?", (min_label, max_label, up_to_lsn))


@contextmanager
def _temporary(connection: sqlite3.Connection, name: str, columns: str) -> Iterator[None]:
    """A table in memory for the length of a block."""
    connection.execute(f"CREATE TEMP TABLE {name} ({columns}) WITHOUT ROWID")
    try:
        yield
    finally:
        # Where an error has undone the transaction, the table is gone with it.
        connection.execute(f"DROP TABLE IF EXISTS temp.{name}")


@contextmanager
def _staged(connection: sqlite3.Connection, new: NewItems) -> Iterator[None]:
    """The rows of ``items`` for new items."""
    columns = "external_id TEXT PRIMARY KEY, label INTEGER NOT NULL, fingerprint INTEGER NOT NULL, crc INTEGER NOT NULL"
    with _temporary(connection, "staged", columns):
        connection.executemany("INSERT INTO temp.staged VALUES (?, ?, ?, ?)", new.rows())
        yield


def _replaced(connection: sqlite3.Connection, path: Path) -> tuple[NDArray[np.uint64], int]:
    rows = connection.execute(
        "SELECT items.label, external_id, items.fingerprint, items.crc"
        " FROM temp.staged JOIN items USING (external_id) ORDER BY 1"
    )
    return _verified(rows, path)


def _verified(rows: Iterable[tuple[int, str, int, int]], path: Path) -> tuple[NDArray[np.uint64], int]:
    """The labels of these rows, and the digest of their items."""
    labels, found = [], []
    for label, external_id, fingerprint, crc in rows:
        if crc != item_crc(external_id, label, fingerprint):
            raise CorruptFile(path, f"the row of the item with label {label} is damaged (its crc differs)")
        labels.append(label)
        found.append(fingerprint)
    return np.array(labels, np.uint64), total(np.array(found, np.int64))


def _labels(rows: Iterable[tuple[int]]) -> NDArray[np.uint64]:
    return np.fromiter((label for (label,) in rows), np.uint64)
