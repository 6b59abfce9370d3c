"""One write, within a transaction of the caller's: what it changes in ``items``, ``dead``, ``journal`` and the
ledger."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path

import numpy as np

from vectorindex.engine import items, journal, ledger, manifest
from vectorindex.engine.digest import EMPTY, moved
from vectorindex.engine.ledger import OperationRecord, OperationState
from vectorindex.engine.rows import Rows
from vectorindex.engine.writes import Delete, Deletion, Upsert, Upserted

LIMIT_EXCEEDED = "DeleteLimitExceeded"
"""The reason of a delete that would have taken too much."""


def upsert(connection: sqlite3.Connection, path: Path, write: Upsert, lsn: int) -> Upserted:
    """Raises CorruptFile."""
    count = len(write.external_ids)
    _, first = manifest.reserve(connection, 0, count)
    rows = Rows(np.arange(first, first + count, dtype=np.uint64), write.external_ids, write.vectors)
    new = items.NewItems(write.external_ids, rows.labels, write.fingerprints)
    replaced, shift = items.add(connection, path, new, lsn)
    journal.append(connection, rows, lsn)
    return Upserted(rows, replaced, lsn, shift)


def delete(connection: sqlite3.Connection, path: Path, write: Delete, live: int, lsn: int, now: float) -> Deletion:
    """``live``: how many items there are. Raises CorruptFile, and OperationConflict before anything has changed. A
    repeated operation gives its first result; ``record.state`` Cancelled or Failed: nothing was deleted."""
    operation, distinct = write.operation, write.distinct
    if operation is not None:
        record = ledger.known(connection, operation)
        if record is None:
            ledger.add(connection, operation, now)
            record = ledger.find(connection, operation.id)
            assert record is not None
        if record.state.finished:
            return _first_deletion(record, len(distinct))
        if write.max_percent is not None:
            going = len(items.labels_of(connection, path, distinct))
            if 100 * going > write.max_percent * live:
                message = f"{going:,} of {live:,} items would go, the limit is {write.max_percent} %; none has gone"
                ledger.fail(connection, operation.id, LIMIT_EXCEEDED, message, now)
                return _no_deletion(ledger.find(connection, operation.id), len(distinct))
        if record.state is OperationState.QUEUED:
            ledger.start(connection, operation.id, now)
    found, labels, went = items.kill(connection, path, distinct, lsn)
    deleted = int(found.sum())
    record = None
    if operation is not None:
        bitmap = base64.b64encode(np.packbits(found, bitorder="little").tobytes()).decode()
        result = {"deleted": deleted, "not_found": len(distinct) - deleted, "bitmap": bitmap}
        ledger.succeed(connection, operation.id, result, now)
        record = ledger.find(connection, operation.id)
    return Deletion(deleted, len(distinct) - deleted, found, labels, record, moved(EMPTY, EMPTY, went))


def _first_deletion(record: OperationRecord, count: int) -> Deletion:
    """What a repeated delete answers: the figures of the first call."""
    if record.result is None:  # cancelled before it ran, or refused
        return _no_deletion(record, count)
    packed = np.frombuffer(base64.b64decode(record.result["bitmap"]), np.uint8)
    found = np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)
    return Deletion(record.result["deleted"], record.result["not_found"], found, np.empty(0, np.uint64), record)


def _no_deletion(record: OperationRecord | None, count: int) -> Deletion:
    return Deletion(0, 0, np.zeros(count, np.bool_), np.empty(0, np.uint64), record)
