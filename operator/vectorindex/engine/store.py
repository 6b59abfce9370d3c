"""The front's side of one index: the only SQLite connection, and the one commit point of everything.

What exists is what the ``segments`` table names. Files that no row names are left over, and removed by
:meth:`Store.open` - but only when every file that a row names is there and unchanged. The labels of the segments and of
the journal are exactly those of the live items and of the dead.

One process holds an index, by a lock on its folder (so children are started by exec, never by a bare fork, which would
share it), and one thread of it, which sqlite3 enforces. A write runs at any time, but none during a session in mode
build; how segments come and go is said in :mod:`vectorindex.engine.builds`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import applying, items, journal, ledger, manifest
from vectorindex.engine.belonging import require_database, require_own_database
from vectorindex.engine.builds import Builds
from vectorindex.engine.database import Database
from vectorindex.engine.digest import moved
from vectorindex.engine.erasure import NOTHING_SEALED, Erasure, SnapshotTrace, rfc3339, why_not
from vectorindex.engine.errors import CorruptFile, InvalidInput, OperationConflict, OutOfSpace, StoreFailed
from vectorindex.engine.files import fsync_path
from vectorindex.engine.ledger import NewOperation, OperationRecord
from vectorindex.engine.open_index import OpenIndex
from vectorindex.engine.opening import remove_leftovers, take_lock, verify_items, verify_segments
from vectorindex.engine.params import IndexSpec, Parameters
from vectorindex.engine.policy import Counts
from vectorindex.engine.rows import Rows
from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.traces import find_traces
from vectorindex.engine.writes import Delete, Deletion, Preview, Upsert, Upserted, Write, Written

DATABASE_NAME = "index.db"


@dataclass(frozen=True)
class IndexStatus:
    """``spec`` with the parameters in force; ``size``: bytes of the database and of all segments; ``sequence``: LSN
    of the last write, and ``digest`` of the live items as of it; ``tail_rows`` wait in the journal; ``sealed``: seal of
    the last rebuild or optimize (seconds since 1970); ``read_only``: why writes are refused, None if they are not;
    ``live``: items by generation."""

    spec: IndexSpec
    configuration: dict[str, Any]
    sequence: int
    digest: int
    counts: Counts
    tail_rows: int
    size: int
    sealed: float | None
    read_only: str | None
    segments: tuple[Segment, ...]
    live: dict[int, int]

    @property
    def parameters(self) -> Parameters:
        return self.spec.parameters


class Store:
    """An open index, and its ``builds``. Any method may raise StoreFailed and, when it writes, OutOfSpace."""

    def __init__(self, folder: Path, database: Database, lock: int, clock: Callable[[], float]) -> None:
        self.folder = folder
        self._index = OpenIndex(folder, database, clock)
        self._database = database
        self._lock = lock
        self.builds = Builds(self._index)

    @classmethod
    def open(cls, folder: Path, clock: Callable[[], float] = time.time) -> Store:
        """Opens the index in a folder, verifies every file that it names, and removes leftovers of builds and sessions.
        Raises IndexNotFound, IndexLocked, CorruptFile (and then nothing was removed), StoreFailed."""
        path = folder / DATABASE_NAME
        require_database(path)
        with contextlib.ExitStack() as undo:
            try:
                lock = take_lock(folder)
                undo.callback(os.close, lock)
                database = Database(path)
                undo.callback(database.close)
                store = cls._made_of(folder, database, lock, clock)
                store._verify()
                remove_leftovers(folder, store._index.segments)
                # The name of the WAL, too, is in the folder by now. SQLite syncs it as well, before the first commit,
                # but does not mind when that fails.
                fsync_path(folder)
            except OSError as error:
                raise StoreFailed(f"index {folder.name} cannot be opened: {error}; restart to try again") from error
            undo.pop_all()
        return store

    @classmethod
    def _made_of(cls, folder: Path, database: Database, lock: int, clock: Callable[[], float]) -> Store:
        """The store of a database that may hold anything."""
        try:
            return cls(folder, database, lock, clock)
        except (sqlite3.Error, InvalidInput, TypeError, ValueError) as error:
            raise CorruptFile(database.path, f"does not hold the state of an index ({error})") from error

    def close(self) -> None:
        """Ends the connection and gives up the lock."""
        self._database.close()
        os.close(self._lock)

    def status(self) -> IndexStatus:
        return IndexStatus(
            spec=self._index.state.spec,
            configuration=self._index.state.configuration,
            sequence=self._index.state.sequence,
            digest=self._index.state.digest,
            counts=self._index.tally.counts,
            tail_rows=self._index.tally.rows,
            size=self._database.size + sum(segment.size for segment in self._index.segments),
            sealed=None if self._index.state.seal is None else self._index.state.seal.time,
            read_only=self._database.read_only,
            segments=self._index.segments,
            live=dict(self._index.tally.live),
        )

    def configure(self, configuration: dict[str, Any], ef_search: int | None = None) -> None:
        """Keeps a configuration in place of the last one, and puts ``ef_search`` in force unless it is None."""
        parameters = self._index.state.parameters
        with self._database.transaction() as connection:
            manifest.write_configuration(connection, configuration)
            if ef_search is not None:
                manifest.write_parameters(connection, replace(parameters, ef_search=ef_search))
        with self._database.guarded() as connection:
            self._index.state = manifest.read_state(connection)

    def write(self, writes: Sequence[Write]) -> list[Written | OperationConflict]:
        """Makes writes in their order, durable when it returns: all of them in one transaction, or none. A repeated
        delete gives its first result; one whose operation is another one's gives the conflict, and changes nothing."""
        outcomes: list[Written | OperationConflict] = []
        state, live = self._index.state, self._index.tally.counts.live
        lsn, digest = state.sequence, state.digest
        with self._database.transaction() as connection:
            for write in writes:
                outcome = self._apply(connection, write, live, lsn + 1)
                outcomes.append(outcome)
                live += _grown(outcome)
                if not isinstance(outcome, OperationConflict) and (
                    isinstance(outcome, Upserted) or len(outcome.labels)
                ):
                    lsn += 1
                    digest = moved(digest, outcome.shift)
            if lsn > state.sequence:
                manifest.write_sequence(connection, lsn, digest)
        self._index.state = replace(state, sequence=lsn, digest=digest)
        for outcome in outcomes:
            if isinstance(outcome, Upserted):
                self._index.tally.added(len(outcome.rows))
            if not isinstance(outcome, OperationConflict):
                self._index.tally.died(outcome.labels)
        return outcomes

    def upsert(self, external_ids: Sequence[str], vectors: NDArray[np.float32]) -> Upserted:
        """Adds items or replaces those of the same IDs; ``vectors`` (n, dim) float32. Raises InvalidInput."""
        spec = self._index.state.spec
        (outcome,) = self.write([Upsert.of(external_ids, vectors, spec.dimensions, spec.metric)])
        assert isinstance(outcome, Upserted)
        return outcome

    def delete(
        self, external_ids: Sequence[str], operation: NewOperation | None = None, max_percent: int | None = None
    ) -> Deletion:
        """Deletes items, with the operation's record in the same transaction. Raises InvalidInput,
        OperationConflict."""
        (outcome,) = self.write([Delete(tuple(external_ids), operation, max_percent)])
        if isinstance(outcome, OperationConflict):
            raise outcome
        assert isinstance(outcome, Deletion)
        return outcome

    def preview(self, distinct: Sequence[str]) -> Preview:
        """What a delete of these distinct IDs would do now."""
        there = self.labels_of(distinct)
        return Preview(self._index.tally.counts.live, np.array([each in there for each in distinct], np.bool_))

    def labels_of(self, external_ids: Sequence[str]) -> dict[str, int]:
        """The label of each of these IDs that there is."""
        with self._database.guarded() as connection:
            return items.labels_of(connection, self._database.path, external_ids)

    def look_up(self, external_ids: Sequence[str]) -> tuple[dict[str, int], Rows]:
        """The label of each of these IDs that there is, and those items that are in no segment yet."""
        with self._database.guarded() as connection:
            labels = items.labels_of(connection, self._database.path, external_ids)
            rows = journal.find(connection, self._database.path, self._index.dimensions, labels.values())
        return labels, rows

    def page(self, after: str | None, limit: int) -> list[str]:
        """The first ``limit`` IDs behind ``after`` (None: all), in the order of their UTF-8."""
        with self._database.guarded() as connection:
            return items.page(connection, after, limit)

    def copy_database(self, path: Path) -> None:
        """Writes a copy of the database as it is now; the segments that it names are those of :meth:`status`. Raises
        CopyFailed, OutOfSpace."""
        self._database.copy_to(path)

    # --- views

    def view_spec(self) -> ViewSpec:
        """What a searcher has to serve now."""
        with self._database.guarded() as connection:
            return self._index.view(self._index.segments, items.dead_labels(connection), self._index.tail(connection))

    @property
    def tail_rows(self) -> int:
        """Rows that wait in the journal; any thread may ask."""
        return self._index.tally.rows

    def last_label(self) -> int:
        """The label that was given out last, -1 if none was."""
        with self._database.guarded() as connection:
            return manifest.next_label(connection) - 1

    def dead_labels(self) -> NDArray[np.uint64]:
        """All tombstones, ascending."""
        with self._database.guarded() as connection:
            return items.dead_labels(connection)

    def settle(self, snapshots: Sequence[SnapshotTrace]) -> Erasure:
        """What the last rebuild or optimize has erased, made durable before it is said; its operation, which has
        swapped, has succeeded then. ``snapshots``: all of this index on its volume. To be called after the swap, after
        an open, and whenever somebody asks: what stood against it may be gone."""
        seal = self._index.state.seal
        if seal is None:
            return NOTHING_SEALED
        with self._database.guarded() as connection:
            blocked = why_not(seal, find_traces(connection, self._database.path, self._index.segments, seal, snapshots))
            swapped = ledger.swapped(connection)
        if blocked is None and not seal.erased:
            try:
                self._database.erase()
            except OutOfSpace as error:
                blocked = str(error)
        erased = seal.erased or blocked is None
        if swapped or erased != seal.erased:
            said = {"erasure_blocked": blocked} if blocked else {"erased_before": rfc3339(seal.time)}
            with self._database.transaction() as connection:
                manifest.write_seal(connection, replace(seal, erased=erased))
                for record in swapped:
                    ledger.settle(connection, record.id, {**(record.result or {}), **said}, self._index.clock())
            self._index.state = replace(self._index.state, seal=replace(seal, erased=erased))
        return Erasure(None if blocked else seal.time, blocked)

    # --- operations

    def begin_operation(self, operation: NewOperation) -> OperationRecord:
        """Records an operation as Queued, or returns the record of the same one, whatever its state. Raises
        OperationConflict."""
        with self._database.transaction() as connection:
            record = ledger.known(connection, operation)
            if record is None:
                ledger.add(connection, operation, self._index.clock())
        return self._recorded(operation.id)

    def start_operation(self, operation_id: str) -> OperationRecord:
        """Queued → Running; or ended, if what the user calls the same has been done meanwhile. Raises
        OperationFinished."""
        with self._database.transaction() as connection:
            ledger.start(connection, operation_id, self._index.clock())
        return self._recorded(operation_id)

    def requeue_operation(self, operation_id: str, *, crashed: bool) -> OperationRecord:
        """Running → Queued with one restart more: the process that runs it ends, or has ``crashed``. Raises
        OperationFinished when it is not Running."""
        with self._database.transaction() as connection:
            ledger.requeue(connection, operation_id, crashed)
        return self._recorded(operation_id)

    def fail_operation(self, operation_id: str, reason: str, message: str) -> OperationRecord:
        """Queued or Running → Failed. ``message`` must not hold external IDs. Raises OperationFinished."""
        with self._database.transaction() as connection:
            ledger.fail(connection, operation_id, reason, message, self._index.clock())
        return self._recorded(operation_id)

    def cancel_operation(self, operation_id: str) -> OperationRecord:
        """Queued or Running → Cancelled; one that has ended stays as it is; one that never arrived is recorded as
        Cancelled, so that it is refused when it does."""
        with self._database.transaction() as connection:
            ledger.cancel(connection, operation_id, self._index.clock())
        return self._recorded(operation_id)

    def operation(self, operation_id: str) -> OperationRecord | None:
        with self._database.guarded() as connection:
            return ledger.find(connection, operation_id)

    def operations(self) -> list[OperationRecord]:
        """All of them, in order of creation."""
        with self._database.guarded() as connection:
            return ledger.all_records(connection)

    def last_result(self, kind: str) -> dict[str, Any] | None:
        """Of the last operation of this kind that swapped or succeeded; None: none has."""
        with self._database.guarded() as connection:
            return ledger.last_result(connection, kind)

    def unfinished_operations(self) -> list[OperationRecord]:
        """Those that are Queued or Running, in order of creation."""
        with self._database.guarded() as connection:
            return ledger.unfinished(connection)

    # --- inside

    def _recorded(self, operation_id: str) -> OperationRecord:
        record = self.operation(operation_id)
        assert record is not None
        return record

    def _apply(self, connection: sqlite3.Connection, write: Write, live: int, lsn: int) -> Written | OperationConflict:
        path = self._database.path
        if isinstance(write, Upsert):
            return applying.upsert(connection, path, write, lsn)
        try:
            return applying.delete(connection, path, write, live, lsn, self._index.clock())
        except OperationConflict as conflict:
            return conflict

    def _verify(self) -> None:
        with self._database.guarded() as connection:
            next_generation = manifest.next_generation(connection)
        require_own_database(self._database.path, self._index.state.spec.name, next_generation)
        verify_segments(self.folder, self._index.segments)
        with self._database.guarded() as connection:
            verify_items(connection, self._database.path, self._index.tally.counts, self._index.state.digest)
            self._index.tail(connection)


def _grown(outcome: Written | OperationConflict) -> int:
    """By how many live items a write has changed their number."""
    if isinstance(outcome, OperationConflict):
        return 0
    return (len(outcome.rows) if isinstance(outcome, Upserted) else 0) - len(outcome.labels)
