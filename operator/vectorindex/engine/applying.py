"""One write, within a transaction of the caller's: what it changes in ``items``, ``dead``, ``journal`` and the
ledger."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path

import numpy as np

from vectorindex.engine import items, journal, ledger, manifest
from vectorindex.engine.ledger import OperationRecord, OperationState
from vectorindex.engine.rows import Rows
from vectorindex.engine.writes import Delete, Deletion, Upsert, Upserted


def upsert(connection: sqlite3.Connection, path: Path, write: Upsert, lsn: int) -> Upserted:
    """Raises CorruptFile."""
    count = len(write.external_ids)
    _, first = manifest.reserve(connection, 0, count)
    labels = range(first, first + count)
    replaced = items.add(connection, path, zip(write.external_ids, labels, strict=True), lsn)
    rows = Rows(np.array(labels, np.uint64), write.external_ids, write.vectors)
    journal.append(connection, rows, lsn)
    return Upserted(rows, replaced, lsn)


def delete(connection: sqlite3.Connection, path: Path, write: Delete, lsn: int, now: float) -> Deletion:
    """Raises CorruptFile, and OperationConflict before anything has changed. A repeated operation gives its first
    result; ``record.state`` Cancelled: nothing was deleted."""
    operation, distinct = write.operation, write.distinct
    if operation is not None:
        record = ledger.known(connection, operation)
        if record is not None and record.state.finished:
            return _first_deletion(record, len(distinct))
        if record is None:
            ledger.add(connection, operation, now)
        if record is None or record.state is OperationState.QUEUED:
            ledger.start(connection, operation.id)
    found, labels = items.kill(connection, path, distinct, lsn)
    deleted = int(found.sum())
    record = None
    if operation is not None:
        bitmap = base64.b64encode(np.packbits(found, bitorder="little").tobytes()).decode()
        result = {"deleted": deleted, "not_found": len(distinct) - deleted, "bitmap": bitmap}
        ledger.succeed(connection, operation.id, result, now)
        record = ledger.find(connection, operation.id)
    return Deletion(deleted, len(distinct) - deleted, found, labels, record)


def _first_deletion(record: OperationRecord, count: int) -> Deletion:
    """What a repeated delete answers: the figures of the first call."""
    none = np.empty(0, np.uint64)
    if record.result is None:  # cancelled before it ran
        return Deletion(0, 0, np.zeros(count, np.bool_), none, record)
    packed = np.frombuffer(base64.b64decode(record.result["bitmap"]), np.uint8)
    found = np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)
    return Deletion(record.result["deleted"], record.result["not_found"], found, none, record)
