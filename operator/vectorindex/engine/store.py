"""The front's side of one index: the only SQLite connection, and the one commit point of everything.

What exists is what the ``segments`` table names. New files are written and fsynced before the transaction that names
them (:meth:`Store.commit`), old ones unlinked after it; so after a crash between any two steps an index is as it was
before a change or as it is after it, and files that no row names are left over and removed by :meth:`Store.open` -
but only when every file that a row names is there and unchanged. The labels of the segments are exactly those of the
live items and of the dead.

One process holds an index, by a lock on its folder (so children are started by exec, never by a bare fork, which
would share it), and one thread of it, which sqlite3 enforces. A delete runs at any time. Builds run one at a time, as
the caller sees to: plan → :func:`~vectorindex.engine.build.build` in another process → :meth:`Store.candidate` →
:meth:`Store.commit`.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import items, ledger, manifest
from vectorindex.engine.belonging import require_database, require_own_database, segment_files
from vectorindex.engine.database import Database
from vectorindex.engine.erasure import NOTHING_SEALED, Erasure, Seal, SnapshotTrace, Traces, rfc3339, why_not
from vectorindex.engine.errors import CorruptFile, IdConflict, IndexLocked, InvalidInput, OutOfSpace, StoreFailed
from vectorindex.engine.files import fsync_path, verify_stamp
from vectorindex.engine.ids_file import IdsFile
from vectorindex.engine.jobs import BuildJob, BuildResult, JobKind, SessionInput
from vectorindex.engine.ledger import NewOperation, OperationRecord, OperationState
from vectorindex.engine.params import IndexSpec, Parameters, validate_external_ids
from vectorindex.engine.policy import Counts
from vectorindex.engine.recall import SampleRequest
from vectorindex.engine.segments import SEGMENT_FILE, Role, Segment, ViewSpec, generation_of, hnsw_path, ids_path
from vectorindex.engine.session import IDS_NAME, VECTORS_NAME, IngestSession, SessionMode, remove_session
from vectorindex.engine.swap import Swap, parameters_after, plan_swap

DATABASE_NAME = "index.db"
LOCK_NAME = "lock"

_OWN_NAMES = {DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", LOCK_NAME, IDS_NAME, VECTORS_NAME}
"""All that an index has in its folder besides segments. The ``-shm`` is of other programs; it holds no rows."""


@dataclass(frozen=True)
class IndexStatus:
    """``spec`` with the parameters in force; ``size``: bytes of the database and of all segments; ``sequence``:
    LSN of the last write; ``sealed``: seal of the last rebuild or optimize (seconds since 1970); ``read_only``: why
    writes are refused, None if they are not."""

    spec: IndexSpec
    configuration: dict[str, Any]
    sequence: int
    counts: Counts
    size: int
    sealed: float | None
    read_only: str | None
    segments: tuple[Segment, ...]

    @property
    def parameters(self) -> Parameters:
        return self.spec.parameters


@dataclass(frozen=True, eq=False)
class Deletion:
    """Over the distinct IDs (n,) of a request in order of first appearance: ``found`` (n,). ``labels`` are to be
    marked in every searcher before the delete is acknowledged; empty when an operation was repeated."""

    deleted: int
    not_found: int
    found: NDArray[np.bool_]
    labels: NDArray[np.uint64]
    record: OperationRecord | None


class Store:
    """An open index. Any method may raise StoreFailed and, when it writes, OutOfSpace."""

    def __init__(self, folder: Path, database: Database, lock: int, clock: Callable[[], float]) -> None:
        self.folder = folder
        self._database = database
        self._lock = lock
        self._clock = clock
        with database.guarded() as connection:
            self._state = manifest.read_state(connection)
            self._segments = manifest.read_segments(connection)
        self._counts = self._count()

    @classmethod
    def open(cls, folder: Path, clock: Callable[[], float] = time.time) -> Store:
        """Opens the index in a folder, verifies every file that it names, and removes leftovers of builds and sessions.
        Raises IndexNotFound, IndexLocked, CorruptFile (and then nothing was removed), StoreFailed."""
        path = folder / DATABASE_NAME
        require_database(path)
        with contextlib.ExitStack() as undo:
            try:
                lock = _lock(folder)
                undo.callback(os.close, lock)
                database = Database(path)
                undo.callback(database.close)
                store = cls._read(folder, database, lock, clock)
                store._verify_files()
                store._remove_leftovers()
                # The name of the WAL, too, is in the folder by now. SQLite syncs it as well, before the first commit,
                # but does not mind when that fails.
                fsync_path(folder)
            except OSError as error:
                raise StoreFailed(f"index {folder.name} cannot be opened: {error}; restart to try again") from error
            undo.pop_all()
        return store

    @classmethod
    def _read(cls, folder: Path, database: Database, lock: int, clock: Callable[[], float]) -> Store:
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
            spec=self._state.spec,
            configuration=self._state.configuration,
            sequence=self._state.sequence,
            counts=self._counts,
            size=self._database.size + sum(segment.size for segment in self._segments),
            sealed=None if self._state.seal is None else self._state.seal.time,
            read_only=self._database.read_only,
            segments=self._segments,
        )

    def configure(self, configuration: dict[str, Any], ef_search: int | None = None) -> None:
        """Keeps a configuration in place of the last one, and puts ``ef_search`` in force unless it is None."""
        parameters = self._state.parameters
        with self._database.transaction() as connection:
            manifest.write_configuration(connection, configuration)
            if ef_search is not None:
                manifest.write_parameters(connection, replace(parameters, ef_search=ef_search))
        self._refresh()

    def delete(self, external_ids: Sequence[str], operation: NewOperation | None = None) -> Deletion:
        """Deletes items: durable when it returns, with the operation's record in the same transaction. A repeated
        operation gives its first result. Raises InvalidInput, OperationConflict; ``record.state`` Cancelled: nothing
        was deleted."""
        validate_external_ids(external_ids)
        distinct = list(dict.fromkeys(external_ids))
        with self._database.transaction() as connection:
            if operation is not None:
                record = ledger.known(connection, operation)
                if record is not None and record.state.finished:
                    return _first_deletion(record, len(distinct))
                if record is None:
                    ledger.add(connection, operation, self._clock())
                if record is None or record.state is OperationState.QUEUED:
                    ledger.start(connection, operation.id)
            lsn = self._state.sequence + 1
            found, labels = items.kill(connection, self._database.path, distinct, lsn)
            if len(labels):
                manifest.write_sequence(connection, lsn)
            deleted = int(found.sum())
            record = None
            if operation is not None:
                bitmap = base64.b64encode(np.packbits(found, bitorder="little").tobytes()).decode()
                result = {"deleted": deleted, "not_found": len(distinct) - deleted, "bitmap": bitmap}
                ledger.succeed(connection, operation.id, result, self._clock())
                record = ledger.find(connection, operation.id)
        self._refresh()
        return Deletion(deleted, len(distinct) - deleted, found, labels, record)

    def copy_database(self, path: Path) -> None:
        """Writes a copy of the database as it is now; the segments that it names are those of :meth:`status`. Raises
        CopyFailed, OutOfSpace."""
        self._database.copy_to(path)

    # --- views and builds

    def view_spec(self) -> ViewSpec:
        """What a searcher has to serve now."""
        with self._database.guarded() as connection:
            return self._view(self._segments, items.dead_labels(connection))

    def plan_finalize(self, session: IngestSession, parameters: Parameters | None, threads: int) -> BuildJob:
        """Seals a session, which must not grow from here on. ``parameters`` (None: those in force) are those of the new
        segment, and come in force when it is the main one. Raises IdConflict (mode insert)."""
        rows = session.contents()
        with self._database.transaction() as connection:
            if session.mode is SessionMode.INSERT:
                shown, total = items.conflicts(connection, rows.external_ids())
                if total:
                    raise IdConflict(shown, total)
            generations, first_label = manifest.reserve(connection, 1, rows.count)
        work = SessionInput(rows, session.mode, first_label)
        return self._job(JobKind.FINALIZE, generations, parameters, threads, session=work)

    def plan_rebuild(self, parameters: Parameters | None, threads: int, sample: SampleRequest | None) -> BuildJob:
        """Seals all segments as they are now; ``parameters`` (None: those in force) come in force with the swap."""
        with self._database.transaction() as connection:
            generations, _ = manifest.reserve(connection, 1, 0)
        return self._job(JobKind.REBUILD, generations, parameters, threads, sample=sample)

    def plan_optimize(self, threads: int, sample: SampleRequest | None) -> BuildJob:
        """Seals all segments as they are now, each to be rid of its dead by itself; nothing else changes."""
        with self._database.transaction() as connection:
            generations, _ = manifest.reserve(connection, len(self._segments), 0)
        return self._job(JobKind.OPTIMIZE, generations, None, threads, sample=sample)

    def candidate(self, job: BuildJob, built: BuildResult) -> ViewSpec:
        """The view as the swap will make it, with everything that is dead by now. A searcher that loads it must be
        told of each later delete too."""
        replaces_all = job.session is not None and job.session.mode is SessionMode.BUILD
        with self._database.guarded() as connection:
            new = None if replaces_all else self._open_ids(job, built)
            replaced = _none() if new is None else items.replaced_by(connection, self._database.path, new)
            swap = self._swap(job, built, replaced)
            dead = np.union1d(items.dead_labels(connection), replaced)
        return self._view(swap.segments, dead)

    def commit(
        self, job: BuildJob, built: BuildResult, operation_id: str | None = None, result: dict[str, Any] | None = None
    ) -> None:
        """The swap, in one transaction: the new segments are named, the old ones are not, parameters come in force, and
        the operation has succeeded; that of a rebuild or an optimize has swapped, and :meth:`settle` ends it. Deletes
        since the seal stay deleted. Old files are unlinked after it.

        Raises OperationFinished when the operation is not Running (it was cancelled); nothing has changed then."""
        mode = None if job.session is None else job.session.mode
        with self._database.transaction() as connection:
            if job.session is None:
                manifest.write_seal(connection, job.seal)
            if operation_id is not None and job.session is None:
                ledger.swap(connection, operation_id, result or {})
            elif operation_id is not None:
                ledger.succeed(connection, operation_id, result or {}, self._clock())
            if mode is SessionMode.BUILD:
                items.clear(connection)
            new = self._open_ids(job, built)
            lsn = self._state.sequence + 1
            replaced = _none() if new is None else items.add(connection, self._database.path, new, lsn)
            if mode is SessionMode.INSERT and len(replaced):
                raise IdConflict((), len(replaced))
            swap = self._swap(job, built, replaced)
            for segment in swap.dropped:
                manifest.drop_segment(connection, segment)
                items.forget_dead(connection, segment.min_label, segment.max_label, swap.forget_lsn)
            for segment in swap.added:
                manifest.add_segment(connection, segment)
            if swap.new_main:
                manifest.write_parameters(connection, parameters_after(job, self._state.parameters))
            manifest.write_sequence(connection, swap.lsn)
        self._refresh()
        with contextlib.suppress(OSError):  # it is committed, and the next start removes what stays
            for segment in swap.dropped:
                _unlink(segment.hnsw_path(self.folder), segment.ids_path(self.folder))

    def settle(self, snapshots: Sequence[SnapshotTrace]) -> Erasure:
        """What the last rebuild or optimize has erased, made durable before it is said; its operation, which has
        swapped, has succeeded then. ``snapshots``: all of this index on its volume. To be called after the swap, after
        an open, and whenever somebody asks: what stood against it may be gone."""
        seal = self._state.seal
        if seal is None:
            return NOTHING_SEALED
        blocked = why_not(seal, self._traces(seal, snapshots))
        if blocked is None and not seal.erased:
            try:
                self._database.erase()
            except OutOfSpace as error:
                blocked = str(error)
        erased = seal.erased or blocked is None
        with self._database.guarded() as connection:
            swapped = ledger.swapped(connection)
        if swapped or erased != seal.erased:
            said = {"erasure_blocked": blocked} if blocked else {"erased_before": rfc3339(seal.time)}
            with self._database.transaction() as connection:
                manifest.write_seal(connection, replace(seal, erased=erased))
                for record in swapped:
                    ledger.settle(connection, record.id, {**(record.result or {}), **said}, self._clock())
            self._refresh()
        return Erasure(None if blocked else seal.time, blocked)

    def discard(self, job: BuildJob) -> None:
        """Removes the files of a build that failed or was cancelled. Where the store has failed, perhaps in the
        swap, they stay: the next start knows whether it is on disk, and removes what nothing names."""
        if self._database.failed:
            return
        assert not set(job.generations) & {segment.generation for segment in self._segments}
        for generation in job.generations:
            _unlink(hnsw_path(self.folder, generation), ids_path(self.folder, generation))

    # --- operations

    def begin_operation(self, operation: NewOperation) -> OperationRecord:
        """Records an operation as Queued, or returns the record of the same one, whatever its state. Raises
        OperationConflict."""
        with self._database.transaction() as connection:
            record = ledger.known(connection, operation)
            if record is None:
                ledger.add(connection, operation, self._clock())
        return self._recorded(operation.id)

    def start_operation(self, operation_id: str) -> OperationRecord:
        """Queued → Running. Raises OperationFinished."""
        with self._database.transaction() as connection:
            ledger.start(connection, operation_id)
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
            ledger.fail(connection, operation_id, reason, message, self._clock())
        return self._recorded(operation_id)

    def cancel_operation(self, operation_id: str) -> OperationRecord:
        """Queued or Running → Cancelled; one that has ended stays as it is; one that never arrived is recorded as
        Cancelled, so that it is refused when it does."""
        with self._database.transaction() as connection:
            ledger.cancel(connection, operation_id, self._clock())
        return self._recorded(operation_id)

    def operation(self, operation_id: str) -> OperationRecord | None:
        with self._database.guarded() as connection:
            return ledger.find(connection, operation_id)

    def operations(self) -> list[OperationRecord]:
        """All of them, in order of creation."""
        with self._database.guarded() as connection:
            return ledger.all_records(connection)

    def unfinished_operations(self) -> list[OperationRecord]:
        """Those that are Queued or Running, in order of creation."""
        with self._database.guarded() as connection:
            return ledger.unfinished(connection)

    # --- inside

    def _recorded(self, operation_id: str) -> OperationRecord:
        record = self.operation(operation_id)
        assert record is not None
        return record

    def _refresh(self) -> None:
        with self._database.guarded() as connection:
            self._state = manifest.read_state(connection)
            self._segments = manifest.read_segments(connection)
        self._counts = self._count()

    def _count(self) -> Counts:
        live = {}
        deleted = 0
        with self._database.guarded() as connection:
            for segment in self._segments:
                dead = items.count_dead(connection, segment.min_label, segment.max_label)
                live[segment.generation] = segment.count - dead
                deleted += dead
        delta = sum(live[segment.generation] for segment in self._segments if segment.role is Role.DELTA)
        self._live = live
        return Counts(sum(live.values()), deleted, delta)

    def _view(self, segments: tuple[Segment, ...], dead: NDArray[np.uint64]) -> ViewSpec:
        spec = self._state.spec
        return ViewSpec(self.folder, spec.dimensions, spec.metric, segments, dead)

    def _job(
        self,
        kind: JobKind,
        generations: tuple[int, ...],
        parameters: Parameters | None,
        threads: int,
        session: SessionInput | None = None,
        sample: SampleRequest | None = None,
    ) -> BuildJob:
        with self._database.guarded() as connection:
            seal = Seal(self._clock(), self._state.sequence, manifest.next_generation(connection))
        return BuildJob(
            kind=kind,
            view=self.view_spec(),
            generations=generations,
            seal=seal,
            in_force=self._state.parameters,
            parameters=self._state.parameters if parameters is None else parameters,
            threads=threads,
            session=session,
            sample=sample,
        )

    def _open_ids(self, job: BuildJob, built: BuildResult) -> IdsFile | None:
        """The new items; None for a rebuild or an optimize, whose items are there already, or if there is none."""
        if job.session is None or not built.segments:
            return None
        (segment,) = built.segments
        return IdsFile.open(ids_path(self.folder, segment.generation))

    def _swap(self, job: BuildJob, built: BuildResult, replaced: NDArray[np.uint64]) -> Swap:
        return plan_swap(job, built, self._segments, self._live, replaced, self._state.sequence)

    def _verify_files(self) -> None:
        with self._database.guarded() as connection:
            next_generation = manifest.next_generation(connection)
        require_own_database(self._database.path, self._state.spec.name, next_generation)
        for segment in self._segments:
            verify_stamp(segment.hnsw_path(self.folder), segment.hnsw)
            verify_stamp(segment.ids_path(self.folder), segment.ids)
        with self._database.guarded() as connection:
            rows = connection.execute("SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM dead)").fetchone()
        if rows != (self._counts.live, self._counts.deleted):
            raise CorruptFile(
                self._database.path,
                f"names {rows[0]:,} live and {rows[1]:,} dead items, its segments hold"
                f" {self._counts.live:,} and {self._counts.deleted:,}",
            )

    def _named(self) -> set[str]:
        """Names of the segments' files."""
        return {
            path.name
            for segment in self._segments
            for path in (segment.hnsw_path(self.folder), segment.ids_path(self.folder))
        }

    def _remove_leftovers(self) -> None:
        named = self._named()
        for path in segment_files(self.folder):
            if path.name not in named:
                path.unlink()
        remove_session(self.folder)

    def _traces(self, seal: Seal, snapshots: Sequence[SnapshotTrace]) -> Traces:
        with self._database.guarded() as connection:
            tombstones = items.count_dead_until(connection, seal.lsn)
        paths = {path.name: path for path in self.folder.iterdir()}
        unnamed = sorted(paths.keys() - self._named() - _OWN_NAMES)
        return Traces(
            tombstones=tombstones,
            session=bool(paths.keys() & {IDS_NAME, VECTORS_NAME}),
            leftovers=tuple(
                name
                for name in unnamed
                if SEGMENT_FILE.fullmatch(name) and generation_of(paths[name]) < seal.generation
            ),
            strangers=tuple(name for name in unnamed if not SEGMENT_FILE.fullmatch(name)),
            snapshots=snapshots,
        )


def _lock(folder: Path) -> int:
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise IndexLocked(f"index {folder.name} is open in another process; stop that one first") from None
    return lock


def _first_deletion(record: OperationRecord, count: int) -> Deletion:
    """What a repeated delete answers: the figures of the first call."""
    if record.result is None:  # cancelled before it ran
        return Deletion(0, 0, np.zeros(count, np.bool_), _none(), record)
    packed = np.frombuffer(base64.b64decode(record.result["bitmap"]), np.uint8)
    found = np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)
    return Deletion(record.result["deleted"], record.result["not_found"], found, _none(), record)


def _none() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
