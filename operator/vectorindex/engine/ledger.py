"""The ledger of operations: SQL for the store to call in its transactions.

An operation is Queued, then Running, then one of Succeeded, Failed and Cancelled, for good. A rebuild or an optimize is
Swapped before it has Succeeded: its change is made, and what it replaced is being erased. Its record is durable
before anyone is told of it, and kept as long as the volume. It never holds an external ID: a delete keeps its digest,
counts and bitmap. What has succeeded once under a user's ``operation_id`` is not done again under it: an operation
that asks for the same has succeeded at once, with that result, and one that asks for something else has failed.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vectorindex.engine.errors import EngineError, OperationConflict, OperationFinished

DELETE = "Delete"
"""The kind of operation whose request is not kept."""

ALREADY_APPLIED = "AlreadyApplied"
OPERATION_ID_CONFLICT = "OperationIDConflict"
"""Reasons of operations whose ``operation_id`` was used before."""

_COLUMNS = (
    "id, kind, object_name, object_uid, digest, request, state, reason, message, progress, restarts, crashes, result,"
    " created, finished"
)


class OperationState(StrEnum):
    QUEUED = "Queued"
    RUNNING = "Running"
    SWAPPED = "Swapped"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def finished(self) -> bool:
        return self in (OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED)


@dataclass(frozen=True)
class NewOperation:
    """What a caller asks for. ``digest`` tells requests apart; ``request`` (JSON) is what is needed to take the
    operation up again after a restart, None for a delete; ``operation_id`` is what the user calls it, if not ''."""

    id: str
    kind: str
    digest: str
    request: dict[str, Any] | None = None
    object_name: str = ""
    object_uid: str = ""
    operation_id: str = ""


@dataclass(frozen=True)
class OperationRecord:
    """A row of the ledger; times in seconds since 1970. ``restarts``: how often it was begun anew, ``crashes``: how
    often of these the process that ran it had crashed. A Cancelled record of an operation that never arrived has
    neither kind nor digest."""

    id: str
    kind: str
    object_name: str
    object_uid: str
    digest: str
    request: dict[str, Any] | None
    state: OperationState
    reason: str
    message: str
    progress: int
    restarts: int
    crashes: int
    result: dict[str, Any] | None
    created: float
    finished: float | None


def find(connection: sqlite3.Connection, operation_id: str) -> OperationRecord | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM operations WHERE id = ?", (operation_id,)).fetchone()  # noqa: S608
    return None if row is None else _record(row)


def all_records(connection: sqlite3.Connection) -> list[OperationRecord]:
    """In order of creation."""
    return [_record(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM operations ORDER BY number")]  # noqa: S608


def unfinished(connection: sqlite3.Connection) -> list[OperationRecord]:
    """Those that are Queued or Running, in order of creation."""
    query = f"SELECT {_COLUMNS} FROM operations WHERE state IN (?, ?) ORDER BY number"  # noqa: S608
    states = (OperationState.QUEUED.value, OperationState.RUNNING.value)
    return [_record(row) for row in connection.execute(query, states)]


def last_result(connection: sqlite3.Connection, kind: str) -> dict[str, Any] | None:
    """Of the last operation of this kind that swapped or succeeded; None: none has."""
    query = "SELECT result FROM operations WHERE kind = ? AND state IN (?, ?) ORDER BY number DESC LIMIT 1"
    row = connection.execute(query, (kind, OperationState.SWAPPED.value, OperationState.SUCCEEDED.value)).fetchone()
    return None if row is None or row[0] is None else json.loads(row[0])


def known(connection: sqlite3.Connection, operation: NewOperation) -> OperationRecord | None:
    """The record of the same operation; None if it is new. Raises OperationConflict if the ID was used for another."""
    record = find(connection, operation.id)
    if record is None or not record.kind:  # cancelled before it arrived
        return record
    if (record.kind, record.digest) != (operation.kind, operation.digest):
        other = "request" if record.kind == operation.kind else "kind"
        raise OperationConflict(
            f"operation {operation.id} was recorded with another {other} before; use a new ID for a new operation"
        )
    return record


def add(connection: sqlite3.Connection, operation: NewOperation, now: float) -> None:
    """Records a new operation as Queued; or as ended, if its ``operation_id`` was used before."""
    if operation.kind == DELETE and operation.request is not None:
        raise EngineError("the ledger keeps no external IDs: a delete is recorded by its digest alone")
    connection.execute(
        "INSERT INTO operations (id, kind, object_name, object_uid, digest, request, state, created, operation_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (operation.id, operation.kind, operation.object_name, operation.object_uid, operation.digest,
         None if operation.request is None else json.dumps(operation.request), OperationState.QUEUED.value, now,
         operation.operation_id),
    )  # fmt: skip
    _end_if_applied(connection, operation.id, now)


def _end_if_applied(connection: sqlite3.Connection, queued: str, now: float) -> bool:
    """Ends an operation that is Queued if another one of the same ``operation_id`` has made its change."""
    operation_id, kind, digest = connection.execute(
        "SELECT operation_id, kind, digest FROM operations WHERE id = ?", (queued,)
    ).fetchone()
    earlier = connection.execute(
        "SELECT kind, digest, result FROM operations WHERE operation_id = ? AND operation_id <> '' AND id <> ?"
        " AND state IN (?, ?) ORDER BY number",
        (operation_id, queued, OperationState.SWAPPED.value, OperationState.SUCCEEDED.value),
    ).fetchone()
    if earlier is None:
        return False
    if earlier[:2] != (kind, digest):
        other = "request" if earlier[0] == kind else "kind"
        message = f"operationID {operation_id} was used for a run with another {other}; use a new one"
        fail(connection, queued, OPERATION_ID_CONFLICT, message, now)
    else:
        connection.execute(
            "UPDATE operations SET state = ?, reason = ?, progress = 100, result = ?, finished = ? WHERE id = ?",
            (OperationState.SUCCEEDED.value, ALREADY_APPLIED, earlier[2], now, queued),
        )
    return True


def start(connection: sqlite3.Connection, operation_id: str, now: float) -> None:
    """Queued → Running; or ended, if another one of its ``operation_id`` has made the change while it waited."""
    require(connection, operation_id, OperationState.QUEUED)
    if _end_if_applied(connection, operation_id, now):
        return
    connection.execute("UPDATE operations SET state = ? WHERE id = ?", (OperationState.RUNNING.value, operation_id))


def requeue(connection: sqlite3.Connection, operation_id: str, crashed: bool) -> None:
    """Running → Queued: the process that runs it ends, or has ``crashed``."""
    require(connection, operation_id, OperationState.RUNNING)
    connection.execute(
        "UPDATE operations SET state = ?, restarts = restarts + 1, crashes = crashes + ? WHERE id = ?",
        (OperationState.QUEUED.value, crashed, operation_id),
    )


def succeed(connection: sqlite3.Connection, operation_id: str, result: dict[str, Any], now: float) -> None:
    """Running → Succeeded."""
    require(connection, operation_id, OperationState.RUNNING)
    connection.execute(
        "UPDATE operations SET state = ?, progress = 100, message = '', result = ?, finished = ? WHERE id = ?",
        (OperationState.SUCCEEDED.value, json.dumps(result), now, operation_id),
    )


def swap(connection: sqlite3.Connection, operation_id: str, result: dict[str, Any]) -> None:
    """Running → Swapped."""
    require(connection, operation_id, OperationState.RUNNING)
    connection.execute(
        "UPDATE operations SET state = ?, progress = 99, message = '', result = ? WHERE id = ?",
        (OperationState.SWAPPED.value, json.dumps(result), operation_id),
    )


def swapped(connection: sqlite3.Connection) -> list[OperationRecord]:
    """Those that have swapped and not succeeded yet."""
    query = f"SELECT {_COLUMNS} FROM operations WHERE state = ?"  # noqa: S608
    return [_record(row) for row in connection.execute(query, (OperationState.SWAPPED.value,))]


def settle(connection: sqlite3.Connection, operation_id: str, result: dict[str, Any], now: float) -> None:
    """Swapped → Succeeded."""
    require(connection, operation_id, OperationState.SWAPPED)
    connection.execute(
        "UPDATE operations SET state = ?, progress = 100, result = ?, finished = ? WHERE id = ?",
        (OperationState.SUCCEEDED.value, json.dumps(result), now, operation_id),
    )


def fail(connection: sqlite3.Connection, operation_id: str, reason: str, message: str, now: float) -> None:
    """Queued or Running → Failed."""
    require(connection, operation_id, OperationState.QUEUED, OperationState.RUNNING)
    connection.execute(
        "UPDATE operations SET state = ?, reason = ?, message = ?, finished = ? WHERE id = ?",
        (OperationState.FAILED.value, reason, message, now, operation_id),
    )


def forget_unfinished(connection: sqlite3.Connection) -> None:
    """Drops those that are Queued or Running: in a copy of an index nobody works on them, and none has changed it."""
    states = (OperationState.QUEUED.value, OperationState.RUNNING.value)
    connection.execute("DELETE FROM operations WHERE state IN (?, ?)", states)


def cancel(connection: sqlite3.Connection, operation_id: str, now: float) -> None:
    """Queued, Running or never heard of → Cancelled; one that has swapped or ended stays as it is."""
    cancelled = OperationState.CANCELLED.value
    connection.execute(
        "INSERT INTO operations (id, kind, object_name, object_uid, digest, state, reason, created, finished)"
        " VALUES (?, '', '', '', '', ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
        " SET state = excluded.state, reason = excluded.reason, finished = excluded.finished WHERE state IN (?, ?)",
        (operation_id, cancelled, cancelled, now, now, OperationState.QUEUED.value, OperationState.RUNNING.value),
    )


def require(connection: sqlite3.Connection, operation_id: str, *states: OperationState) -> None:
    """Raises OperationFinished unless the operation is in one of these states."""
    record = find(connection, operation_id)
    if record is None or record.state not in states:
        found = "not recorded" if record is None else record.state.value
        raise OperationFinished(f"operation {operation_id} is {found}, not {' or '.join(states)}")


def _record(row: tuple[Any, ...]) -> OperationRecord:
    (id_, kind, name, uid, digest, request, state, reason, message, progress, restarts, crashes, result,
     created, finished) = row  # fmt: skip
    return OperationRecord(
        id=id_,
        kind=kind,
        object_name=name,
        object_uid=uid,
        digest=digest,
        request=None if request is None else json.loads(request),
        state=OperationState(state),
        reason=reason,
        message=message,
        progress=progress,
        restarts=restarts,
        crashes=crashes,
        result=None if result is None else json.loads(result),
        created=created,
        finished=finished,
    )
