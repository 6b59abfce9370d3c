"""The front's side of one index: the only SQLite connection, and the one commit point of everything.

What exists is what the ``segments`` table names. New files are written and fsynced before the transaction that names
them (:meth:`Store.commit`), old ones unlinked after it; so after a crash between any two steps an index is as it was
before a change or as it is after it, and files that no row names are left over and removed by :meth:`Store.open` -
but only when every file that a row names is there and unchanged. The labels of the segments and of the journal are
exactly those of the live items and of the dead.

One process holds an index, by a lock on its folder (so children are started by exec, never by a bare fork, which
would share it), and one thread of it, which sqlite3 enforces. A write runs at any time, but none during a session in
mode build. Builds run one at a time, and flushes beside them one at a time, as the caller sees to: plan →
:func:`~vectorindex.engine.build.build` in another process → :meth:`Store.candidate` → :meth:`Store.commit`. Finalize,
rebuild and optimize seal segments only, so a flush comes first, and none runs while they are planned.
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
from vectorindex.engine.database import Database
from vectorindex.engine.erasure import NOTHING_SEALED, Erasure, Seal, SnapshotTrace, rfc3339, why_not
from vectorindex.engine.errors import (
    CorruptFile,
    IdConflict,
    InvalidInput,
    OperationConflict,
    OutOfSpace,
    StoreFailed,
)
from vectorindex.engine.files import fsync_path
from vectorindex.engine.flush import choose_flush
from vectorindex.engine.ids_file import IdsFile
from vectorindex.engine.jobs import BuildJob, BuildResult, JobKind, SessionInput
from vectorindex.engine.ledger import NewOperation, OperationRecord
from vectorindex.engine.opening import remove_leftovers, take_lock, verify_counts, verify_segments
from vectorindex.engine.params import IndexSpec, Parameters
from vectorindex.engine.policy import Counts
from vectorindex.engine.recall import SampleRequest
from vectorindex.engine.rows import Rows
from vectorindex.engine.segments import Segment, ViewSpec, hnsw_path, ids_path
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.swap import Swap, parameters_after, plan_swap
from vectorindex.engine.tally import Tally
from vectorindex.engine.traces import find_traces
from vectorindex.engine.view_change import ViewChange
from vectorindex.engine.writes import Delete, Deletion, Preview, Upsert, Upserted, Write, Written

DATABASE_NAME = "index.db"


@dataclass(frozen=True)
class IndexStatus:
    """``spec`` with the parameters in force; ``size``: bytes of the database and of all segments; ``sequence``:
    LSN of the last write; ``tail_rows`` wait in the journal; ``sealed``: seal of the last rebuild or optimize (seconds
    since 1970); ``read_only``: why writes are refused, None if they are not; ``live``: items by generation."""

    spec: IndexSpec
    configuration: dict[str, Any]
    sequence: int
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
    """An open index. Any method may raise StoreFailed and, when it writes, OutOfSpace."""

    def __init__(self, folder: Path, database: Database, lock: int, clock: Callable[[], float]) -> None:
        self.folder = folder
        self._database = database
        self._lock = lock
        self._clock = clock
        self._planned: BuildJob | None = None  # the build that runs, other than a flush
        self._flushing: BuildJob | None = None
        self._state, self._segments, self._tally = self._read()

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
                remove_leftovers(folder, store._segments)
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
            spec=self._state.spec,
            configuration=self._state.configuration,
            sequence=self._state.sequence,
            counts=self._tally.counts,
            tail_rows=self._tally.rows,
            size=self._database.size + sum(segment.size for segment in self._segments),
            sealed=None if self._state.seal is None else self._state.seal.time,
            read_only=self._database.read_only,
            segments=self._segments,
            live=dict(self._tally.live),
        )

    def configure(self, configuration: dict[str, Any], ef_search: int | None = None) -> None:
        """Keeps a configuration in place of the last one, and puts ``ef_search`` in force unless it is None."""
        parameters = self._state.parameters
        with self._database.transaction() as connection:
            manifest.write_configuration(connection, configuration)
            if ef_search is not None:
                manifest.write_parameters(connection, replace(parameters, ef_search=ef_search))
        with self._database.guarded() as connection:
            self._state = manifest.read_state(connection)

    def write(self, writes: Sequence[Write]) -> list[Written | OperationConflict]:
        """Makes writes in their order, durable when it returns: all of them in one transaction, or none. A repeated
        delete gives its first result; one whose operation is another one's gives the conflict, and changes nothing."""
        outcomes: list[Written | OperationConflict] = []
        lsn, live = self._state.sequence, self._tally.counts.live
        with self._database.transaction() as connection:
            for write in writes:
                outcome = self._apply(connection, write, live, lsn + 1)
                outcomes.append(outcome)
                live += _grown(outcome)
                if not isinstance(outcome, OperationConflict) and (
                    isinstance(outcome, Upserted) or len(outcome.labels)
                ):
                    lsn += 1
            if lsn > self._state.sequence:
                manifest.write_sequence(connection, lsn)
        self._state = replace(self._state, sequence=lsn)
        for outcome in outcomes:
            if isinstance(outcome, Upserted):
                self._tally.added(len(outcome.rows))
            if not isinstance(outcome, OperationConflict):
                self._tally.died(outcome.labels)
        return outcomes

    def upsert(self, external_ids: Sequence[str], vectors: NDArray[np.float32]) -> Upserted:
        """Adds items or replaces those of the same IDs; ``vectors`` (n, dim) float32. Raises InvalidInput."""
        spec = self._state.spec
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
        return Preview(self._tally.counts.live, np.array([each in there for each in distinct], np.bool_))

    def labels_of(self, external_ids: Sequence[str]) -> dict[str, int]:
        """The label of each of these IDs that there is."""
        with self._database.guarded() as connection:
            return items.labels_of(connection, self._database.path, external_ids)

    def look_up(self, external_ids: Sequence[str]) -> tuple[dict[str, int], Rows]:
        """The label of each of these IDs that there is, and those items that are in no segment yet."""
        with self._database.guarded() as connection:
            labels = items.labels_of(connection, self._database.path, external_ids)
            rows = journal.find(connection, self._database.path, self._state.spec.dimensions, labels.values())
        return labels, rows

    def page(self, after: str | None, limit: int) -> list[str]:
        """The first ``limit`` IDs behind ``after`` (None: all), in the order of their UTF-8."""
        with self._database.guarded() as connection:
            return items.page(connection, after, limit)

    def copy_database(self, path: Path) -> None:
        """Writes a copy of the database as it is now; the segments that it names are those of :meth:`status`. Raises
        CopyFailed, OutOfSpace."""
        self._database.copy_to(path)

    # --- views and builds

    def view_spec(self) -> ViewSpec:
        """What a searcher has to serve now."""
        with self._database.guarded() as connection:
            return self._view(self._segments, items.dead_labels(connection), self._read_tail(connection))

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
        return self._plan(self._job(JobKind.FINALIZE, generations, parameters, threads, session=work))

    @property
    def tail_rows(self) -> int:
        """Rows that wait in the journal; any thread may ask."""
        return self._tally.rows

    def last_label(self) -> int:
        """The label that was given out last, -1 if none was."""
        with self._database.guarded() as connection:
            return manifest.next_label(connection) - 1

    def dead_labels(self) -> NDArray[np.uint64]:
        """All tombstones, ascending."""
        with self._database.guarded() as connection:
            return items.dead_labels(connection)

    def plan_flush(self, begins_by: int | None = None) -> BuildJob | None:
        """Seals the journal as far as a segment of its rows can reach, and the deltas that it is merged with. It may
        run beside another build. None: the journal is empty, or begins above the label ``begins_by``."""
        with self._database.guarded() as connection:
            labels = journal.labels(connection)
            if begins_by is not None and len(labels) and labels[0] > begins_by:
                return None
            planned = self._planned
            replacing = planned is not None and planned.session is None
            chosen = choose_flush(
                self._segments,
                self._tally.live,
                labels,
                self._tally.live_rows,
                sealed={old.generation for old in planned.view.segments} if planned and replacing else (),
                reserved=planned.session.first_label if planned and planned.session else None,
            )
        if chosen is None:
            return None
        with self._database.transaction() as connection:
            generations, _ = manifest.reserve(connection, 1, 0)
            rows = journal.read(connection, self._database.path, self._state.spec.dimensions, chosen.through)
            first_lsn = journal.first_lsn(connection, chosen.through)
            dead = items.dead_labels(connection)
        view = self._view(chosen.merged, dead, rows)
        self._flushing = replace(
            self._job(JobKind.FLUSH, generations, None, 1, view), first_lsn=_first_lsn(chosen.merged, first_lsn)
        )
        return self._flushing

    def plan_rebuild(self, parameters: Parameters | None, threads: int, sample: SampleRequest | None) -> BuildJob:
        """Seals all segments as they are now; ``parameters`` (None: those in force) come in force with the swap."""
        with self._database.transaction() as connection:
            generations, _ = manifest.reserve(connection, 1, 0)
        return self._plan(self._job(JobKind.REBUILD, generations, parameters, threads, sample=sample))

    def plan_optimize(self, threads: int, sample: SampleRequest | None) -> BuildJob:
        """Seals all segments as they are now, each to be rid of its dead by itself; nothing else changes."""
        with self._database.transaction() as connection:
            generations, _ = manifest.reserve(connection, len(self._segments), 0)
        return self._plan(self._job(JobKind.OPTIMIZE, generations, None, threads, sample=sample))

    def new_segments(self, job: BuildJob, built: BuildResult) -> tuple[Segment, ...]:
        """What the swap will add to the view."""
        return self._swap(job, built, _none()).added

    def candidate(self, job: BuildJob, built: BuildResult) -> ViewSpec:
        """The view as the swap will make it, with everything that is dead by now. A searcher that loads it must be
        told of each later write too, and of what the swap itself lets die."""
        replaces_all = job.session is not None and job.session.mode is SessionMode.BUILD
        with self._database.guarded() as connection:
            new = None if replaces_all else self._open_ids(job, built)
            replaced = _none() if new is None else items.replaced_by(connection, self._database.path, new.named())
            swap = self._swap(job, built, replaced)
            dead = np.union1d(items.dead_labels(connection), replaced)
            tail = Rows.none(self._state.spec.dimensions) if replaces_all else self._read_tail(connection)
        return self._view(swap.segments, dead, tail)

    def commit(
        self, job: BuildJob, built: BuildResult, operation_id: str | None = None, result: dict[str, Any] | None = None
    ) -> ViewChange:
        """The swap, in one transaction: the new segments are named, the old ones are not, the journal is trimmed of
        what they hold, parameters come in force, and the operation has succeeded; that of a rebuild or an optimize has
        swapped, and :meth:`settle` ends it. Deletes since the seal stay deleted. Old files are unlinked after it.
        Returns what it changes in a view.

        Raises OperationFinished when the operation is not Running (it was cancelled); nothing has changed then."""
        mode = None if job.session is None else job.session.mode
        with self._database.transaction() as connection:
            if job.kind.erases:
                manifest.write_seal(connection, job.seal)
            if operation_id is not None and job.kind.erases:
                ledger.swap(connection, operation_id, result or {})
            elif operation_id is not None:
                ledger.succeed(connection, operation_id, result or {}, self._clock())
            if mode is SessionMode.BUILD:
                items.clear(connection)
                journal.clear(connection)
            new = self._open_ids(job, built)
            lsn = self._state.sequence + 1
            replaced = _none() if new is None else items.add(connection, self._database.path, new.named(), lsn)
            if mode is SessionMode.INSERT and len(replaced):
                raise IdConflict((), len(replaced))
            swap = self._swap(job, built, replaced)
            for segment in swap.dropped:
                manifest.drop_segment(connection, segment)
                items.forget_dead(connection, segment.min_label, segment.max_label, swap.forget_lsn)
            if job.flushed_through is not None:
                items.forget_dead(connection, int(job.view.tail.labels[0]), job.flushed_through, swap.forget_lsn)
                journal.trim(connection, job.flushed_through)
            elif job.session is None:
                journal.trim_dead(connection, swap.forget_lsn)
            for segment in swap.added:
                manifest.add_segment(connection, segment)
            if swap.new_main:
                manifest.write_parameters(connection, parameters_after(job, self._state.parameters))
            manifest.write_sequence(connection, swap.lsn)
            died = [items.dead_labels(connection, new.min_label, new.max_label) for new in swap.added]
        self._ended(job)
        self._state, self._segments, self._tally = self._read()
        with contextlib.suppress(OSError):  # it is committed, and the next start removes what stays
            for segment in swap.dropped:
                _unlink(segment.hnsw_path(self.folder), segment.ids_path(self.folder))
        return ViewChange(
            rows=Rows.none(self._state.spec.dimensions),
            died=np.unique(np.concatenate([replaced, *died])),
            added=swap.added,
            dropped=tuple(segment.generation for segment in swap.dropped),
            flushed_through=-1 if job.flushed_through is None else job.flushed_through,
        )

    def settle(self, snapshots: Sequence[SnapshotTrace]) -> Erasure:
        """What the last rebuild or optimize has erased, made durable before it is said; its operation, which has
        swapped, has succeeded then. ``snapshots``: all of this index on its volume. To be called after the swap, after
        an open, and whenever somebody asks: what stood against it may be gone."""
        seal = self._state.seal
        if seal is None:
            return NOTHING_SEALED
        with self._database.guarded() as connection:
            blocked = why_not(seal, find_traces(connection, self._database.path, self._segments, seal, snapshots))
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
                    ledger.settle(connection, record.id, {**(record.result or {}), **said}, self._clock())
            self._state = replace(self._state, seal=replace(seal, erased=erased))
        return Erasure(None if blocked else seal.time, blocked)

    def discard(self, job: BuildJob) -> None:
        """Removes the files of a build that failed or was cancelled. Where the store has failed, perhaps in the
        swap, they stay: the next start knows whether it is on disk, and removes what nothing names."""
        self._ended(job)
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
            return applying.delete(connection, path, write, live, lsn, self._clock())
        except OperationConflict as conflict:
            return conflict

    def _read(self) -> tuple[manifest.State, tuple[Segment, ...], Tally]:
        """All of the database that is kept in memory."""
        with self._database.guarded() as connection:
            segments = manifest.read_segments(connection)
            return manifest.read_state(connection), segments, Tally(connection, segments)

    def _ended(self, job: BuildJob) -> None:
        """A build that runs no more keeps nothing from the next flush."""
        if job.kind is JobKind.FLUSH:
            self._flushing = None
        else:
            self._planned = None

    def _read_tail(self, connection: sqlite3.Connection) -> Rows:
        return journal.read(connection, self._database.path, self._state.spec.dimensions)

    def _view(self, segments: tuple[Segment, ...], dead: NDArray[np.uint64], tail: Rows) -> ViewSpec:
        spec = self._state.spec
        return ViewSpec(self.folder, spec.dimensions, spec.metric, segments, dead, tail)

    def _job(
        self,
        kind: JobKind,
        generations: tuple[int, ...],
        parameters: Parameters | None,
        threads: int,
        view: ViewSpec | None = None,
        session: SessionInput | None = None,
        sample: SampleRequest | None = None,
    ) -> BuildJob:
        """``view``: what is built from, by default all segments."""
        if view is None:
            with self._database.guarded() as connection:
                view = self._view(self._segments, items.dead_labels(connection), Rows.none(self._state.spec.dimensions))
        with self._database.guarded() as connection:
            seal = Seal(self._clock(), self._state.sequence, manifest.next_generation(connection))
        return BuildJob(
            kind=kind,
            view=view,
            generations=generations,
            first_lsn=_first_lsn(view.segments, None),
            seal=seal,
            in_force=self._state.parameters,
            parameters=self._state.parameters if parameters is None else parameters,
            threads=threads,
            session=session,
            sample=sample,
        )

    def _plan(self, job: BuildJob) -> BuildJob:
        self._planned = job
        return job

    def _open_ids(self, job: BuildJob, built: BuildResult) -> IdsFile | None:
        """The new items of a session; None for other builds, whose items are there already, or if there is none."""
        if job.session is None or not built.segments:
            return None
        (segment,) = built.segments
        return IdsFile.open(ids_path(self.folder, segment.generation))

    def _swap(self, job: BuildJob, built: BuildResult, replaced: NDArray[np.uint64]) -> Swap:
        merging = self._flushing.view.segments if self._flushing is not None else ()
        kept = frozenset(segment.generation for segment in merging)
        return plan_swap(job, built, self._segments, self._tally.live, replaced, self._state.sequence, kept)

    def _verify(self) -> None:
        with self._database.guarded() as connection:
            next_generation = manifest.next_generation(connection)
        require_own_database(self._database.path, self._state.spec.name, next_generation)
        verify_segments(self.folder, self._segments)
        with self._database.guarded() as connection:
            verify_counts(connection, self._database.path, self._tally.counts)
            self._read_tail(connection)


def _grown(outcome: Written | OperationConflict) -> int:
    """By how many live items a write has changed their number."""
    if isinstance(outcome, OperationConflict):
        return 0
    return (len(outcome.rows) if isinstance(outcome, Upserted) else 0) - len(outcome.labels)


def _first_lsn(segments: Sequence[Segment], journal_lsn: int | None) -> int:
    """The first write that a segment of all these holds; 0 when they hold none."""
    known = [segment.first_lsn for segment in segments] + ([] if journal_lsn is None else [journal_lsn])
    return min(known, default=0)


def _none() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
