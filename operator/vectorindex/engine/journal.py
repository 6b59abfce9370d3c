"""The table ``journal``: items that were written singly and are in no segment yet, with their vectors as received.

A row stays until a swap has put it, or what replaced it, into a file: also when its item has died, and then its label
is among the dead like any other. So the rows of the journal and of the segments together are all labels that are live
or dead. Each row carries a crc, because SQLite's pages have none.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.rows import Rows


def append(connection: sqlite3.Connection, rows: Rows, lsn: int) -> None:
    """Adds rows, which the write ``lsn`` has made."""
    vectors = np.ascontiguousarray(rows.vectors, "<f4")
    connection.executemany(
        "INSERT INTO journal VALUES (?, ?, ?, ?, ?)",
        (
            (label, lsn, external_id, content, _crc(label, lsn, external_id, content))
            for label, external_id, content in zip(
                rows.labels.tolist(), rows.external_ids, (vector.tobytes() for vector in vectors), strict=True
            )
        ),
    )


def read(connection: sqlite3.Connection, path: Path, dimensions: int, through: int | None = None) -> Rows:
    """The rows by ascending labels, up to the label ``through``, dead ones among them. Raises CorruptFile."""
    return _verified(
        connection.execute(
            "SELECT label, lsn, external_id, vector, crc FROM journal WHERE label <= ? ORDER BY label",
            (2**63 - 1 if through is None else through,),
        ),
        path,
        dimensions,
    )


def find(connection: sqlite3.Connection, path: Path, dimensions: int, labels: Collection[int]) -> Rows:
    """Those of these labels that are here. Raises CorruptFile."""
    return _verified(
        connection.execute(
            "SELECT label, lsn, external_id, vector, crc FROM journal"
            " WHERE label IN (SELECT value FROM json_each(?)) ORDER BY label",
            (json.dumps(list(labels)),),
        ),
        path,
        dimensions,
    )


def labels(connection: sqlite3.Connection) -> NDArray[np.uint64]:
    """Of all rows, ascending."""
    return np.array([label for (label,) in connection.execute("SELECT label FROM journal ORDER BY label")], np.uint64)


def count(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many rows there are, and how many of them are dead."""
    rows, dead = connection.execute(
        "SELECT count(*), count(dead.label) FROM journal LEFT JOIN dead USING (label)"
    ).fetchone()
    return rows, dead


def first_lsn(connection: sqlite3.Connection, through: int) -> int | None:
    """The first write of the rows up to the label ``through``; None when there is none."""
    (lsn,) = connection.execute("SELECT min(lsn) FROM journal WHERE label <= ?", (through,)).fetchone()
    return None if lsn is None else int(lsn)


def trim(connection: sqlite3.Connection, through: int) -> None:
    """Drops the rows up to the label ``through``, which are in a segment now."""
    connection.execute("DELETE FROM journal WHERE label <= ?", (through,))


def trim_dead(connection: sqlite3.Connection, up_to_lsn: int) -> None:
    """Drops the rows whose items had died by the write ``up_to_lsn``, and forgets their tombstones."""
    doomed = connection.execute(
        "SELECT label FROM journal JOIN dead USING (label) WHERE dead.lsn <= ?", (up_to_lsn,)
    ).fetchall()
    connection.executemany("DELETE FROM journal WHERE label = ?", doomed)
    connection.executemany("DELETE FROM dead WHERE label = ?", doomed)


def clear(connection: sqlite3.Connection) -> None:
    """Drops every row."""
    connection.execute("DELETE FROM journal")


def _verified(found: Iterable[tuple[int, int, str, bytes, int]], path: Path, dimensions: int) -> Rows:
    labels, external_ids, contents = [], [], []
    for label, lsn, external_id, content, crc in found:
        if crc != _crc(label, lsn, external_id, content) or len(content) != 4 * dimensions:
            raise CorruptFile(path, f"the journal's row with label {label} is damaged (its crc differs)")
        labels.append(label)
        external_ids.append(external_id)
        contents.append(content)
    vectors = np.frombuffer(b"".join(contents), "<f4").reshape(len(labels), dimensions)
    return Rows(np.array(labels, np.uint64), tuple(external_ids), vectors)


def _crc(label: int, lsn: int, external_id: str, content: bytes) -> int:
    """CRC-32 of the vector, started with those of the ID and of both numbers."""
    return zlib.crc32(content, zlib.crc32(external_id.encode(), zlib.crc32(f"{label} {lsn}".encode())))
