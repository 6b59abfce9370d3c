"""The builds of an open index: what each of them reads, and the swap that puts what it made in place.

Builds run one at a time, and flushes beside them one at a time, as the caller sees to: plan →
:func:`~vectorindex.engine.build.build` in another process → :meth:`Builds.candidate`, where a new searcher is to serve
→ :meth:`Builds.commit`, or :meth:`Builds.discard`. Finalize, rebuild and optimize seal segments only, so a flush comes
first, and none runs while they are planned.

New files are written and fsynced before the transaction that names them, old ones unlinked after it; so after a crash
between any two steps an index is as it was before a build or as it is after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import items, journal, ledger, manifest
from vectorindex.engine.digest import EMPTY, moved
from vectorindex.engine.erasure import Seal
from vectorindex.engine.errors import IdConflict
from vectorindex.engine.flush import MERGED, Deltas, choose_flush, choose_merge, rows_of_a_flush
from vectorindex.engine.ids_file import IdsFile
from vectorindex.engine.jobs import BuildJob, BuildResult, JobKind, SessionInput
from vectorindex.engine.open_index import OpenIndex
from vectorindex.engine.params import Parameters
from vectorindex.engine.recall import SampleRequest
from vectorindex.engine.rows import Rows
from vectorindex.engine.segments import Segment, ViewSpec, hnsw_path, ids_path
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.swap import Swap, parameters_after, plan_swap
from vectorindex.engine.view_change import ViewChange


class Builds:
    """Of one index. Any method may raise StoreFailed and, when it writes, OutOfSpace."""

    def __init__(self, index: OpenIndex) -> None:
        self._index = index
        self._planned: BuildJob | None = None  # the build that runs, other than a flush
        self._flushing: BuildJob | None = None

    def plan_finalize(self, session: IngestSession, parameters: Parameters | None, threads: int) -> BuildJob:
        """Seals a session, which must not grow from here on. ``parameters`` (None: those in force) are those of the new
        segment, and come in force when it is the main one. Raises IdConflict (mode insert)."""
        rows = session.contents()
        with self._index.database.transaction() as connection:
            if session.mode is SessionMode.INSERT:
                shown, total = items.conflicts(connection, rows.external_ids())
                if total:
                    raise IdConflict(shown, total)
            generations, first_label = manifest.reserve(connection, 1, rows.count)
        work = SessionInput(rows, session.mode, first_label)
        return self._plan(self._job(JobKind.FINALIZE, generations, parameters, threads, session=work))

    def plan_flush(self, begins_by: int | None = None) -> BuildJob | None:
        """Seals the journal as far as a segment of its rows can reach, and the deltas that it is merged with. It may
        run beside another build. None: the journal is empty, or begins above the label ``begins_by``."""
        with self._index.database.guarded() as connection:
            labels = journal.labels(connection)
        if begins_by is not None and len(labels) and labels[0] > begins_by:
            return None
        chosen = choose_flush(self._deltas(labels), self._index.tally.live_rows)
        if chosen is None:
            return None
        with self._index.database.guarded() as connection:
            rows = journal.read(connection, self._index.database.path, self._index.dimensions, chosen.through)
            first_lsn = journal.first_lsn(connection, chosen.through)
        return self._plan_flush(chosen.merged, rows, first_lsn)

    def plan_merge(self) -> BuildJob | None:
        """Seals deltas that are to be one; the journal stays. It runs beside another build like a flush. None: there is
        nothing to merge."""
        with self._index.database.guarded() as connection:
            labels = journal.labels(connection)
        merged = choose_merge(self._deltas(labels))
        return self._plan_flush(merged, Rows.none(self._index.dimensions), None) if merged else None

    @property
    def can_merge(self) -> bool:
        """Whether a merge may be due; any thread may ask."""
        return bool(choose_merge(self._deltas(np.empty(0, np.uint64))))

    def _deltas(self, labels: NDArray[np.uint64]) -> Deltas:
        kept, planned = self._index.kept, self._planned
        replacing = planned is not None and planned.session is None
        return Deltas(
            kept.segments,
            kept.tally.live,
            labels,
            sealed={old.generation for old in planned.view.segments} if planned and replacing else (),
            reserved=planned.session.first_label if planned and planned.session else None,
            most=MERGED * rows_of_a_flush(self._index.dimensions),
        )

    def _plan_flush(self, merged: tuple[Segment, ...], rows: Rows, first_lsn: int | None) -> BuildJob:
        with self._index.database.transaction() as connection:
            generations, _ = manifest.reserve(connection, 1, 0)
            dead = items.dead_labels(connection)
        view = self._index.view(merged, dead, rows)
        job = self._job(JobKind.FLUSH, generations, None, 1, view)
        self._flushing = replace(job, first_lsn=_first_lsn(merged, first_lsn))
        return self._flushing

    def plan_rebuild(self, parameters: Parameters | None, threads: int, sample: SampleRequest | None) -> BuildJob:
        """Seals all segments as they are now; ``parameters`` (None: those in force) come in force with the swap."""
        with self._index.database.transaction() as connection:
            generations, _ = manifest.reserve(connection, 1, 0)
        return self._plan(self._job(JobKind.REBUILD, generations, parameters, threads, sample=sample))

    def plan_optimize(self, threads: int, sample: SampleRequest | None) -> BuildJob:
        """Seals all segments as they are now, each to be rid of its dead by itself; nothing else changes."""
        with self._index.database.transaction() as connection:
            generations, _ = manifest.reserve(connection, len(self._index.segments), 0)
        return self._plan(self._job(JobKind.OPTIMIZE, generations, None, threads, sample=sample))

    def new_segments(self, job: BuildJob, built: BuildResult) -> tuple[Segment, ...]:
        """What the swap will add to the view."""
        return self._swap(job, built, _none()).added

    def candidate(self, job: BuildJob, built: BuildResult) -> ViewSpec:
        """The view as the swap will make it, with everything that is dead by now. A searcher that loads it must be
        told of each later write too, and of what the swap itself lets die."""
        replaces_all = job.session is not None and job.session.mode is SessionMode.BUILD
        with self._index.database.guarded() as connection:
            new = None if replaces_all else self._new_items(job, built)
            replaced = _none() if new is None else items.replaced_by(connection, self._index.database.path, new)
            swap = self._swap(job, built, replaced)
            dead = np.union1d(items.dead_labels(connection), replaced)
            tail = Rows.none(self._index.dimensions) if replaces_all else self._index.tail(connection)
        return self._index.view(swap.segments, dead, tail)

    def commit(
        self, job: BuildJob, built: BuildResult, operation_id: str | None = None, result: dict[str, Any] | None = None
    ) -> ViewChange:
        """The swap, in one transaction: the new segments are named, the old ones are not, the journal is trimmed of
        what they hold, parameters come in force, and the operation has succeeded; that of a rebuild or an optimize has
        swapped, and ``Store.settle`` ends it. Deletes since the seal stay deleted. Old files are unlinked after it.
        Returns what it changes in a view.

        Raises OperationFinished when the operation is not Running (it was cancelled); nothing has changed then."""
        mode = None if job.session is None else job.session.mode
        with self._index.database.transaction() as connection:
            if job.kind.erases:
                manifest.write_seal(connection, job.seal)
            if operation_id is not None and job.kind.erases:
                ledger.swap(connection, operation_id, result or {})
            elif operation_id is not None:
                ledger.succeed(connection, operation_id, result or {}, self._index.clock())
            lsn, digest = self._index.state.sequence + 1, self._index.state.digest
            if mode is SessionMode.BUILD:
                items.clear(connection)
                journal.clear(connection)
                digest = EMPTY
            replaced = _none()
            if (new := self._new_items(job, built)) is not None:
                replaced, shift = items.add(connection, self._index.database.path, new, lsn)
                digest = moved(digest, shift)
            if mode is SessionMode.INSERT and len(replaced):
                raise IdConflict((), len(replaced))
            swap = self._swap(job, built, replaced)
            for segment in swap.dropped:
                manifest.drop_segment(connection, segment)
                items.forget_dead(connection, segment.min_label, segment.max_label, swap.forget_lsn)
            if job.flushed_through is not None:
                items.forget_dead(connection, int(job.view.tail.labels[0]), job.flushed_through, swap.forget_lsn)
                journal.trim(connection, job.flushed_through)
            elif job.kind.erases:
                journal.trim_dead(connection, swap.forget_lsn)
            for segment in swap.added:
                manifest.add_segment(connection, segment)
            if swap.new_main:
                manifest.write_parameters(connection, parameters_after(job, self._index.state.parameters))
            manifest.write_sequence(connection, swap.lsn, digest)
            died = [items.dead_labels(connection, new.min_label, new.max_label) for new in swap.added]
        self._ended(job)
        self._index.read()
        with contextlib.suppress(OSError):  # it is committed, and the next start removes what stays
            for segment in swap.dropped:
                _unlink(segment.hnsw_path(self._index.folder), segment.ids_path(self._index.folder))
        return ViewChange(
            rows=Rows.none(self._index.dimensions),
            died=np.unique(np.concatenate([replaced, *died])),
            added=swap.added,
            dropped=tuple(segment.generation for segment in swap.dropped),
            flushed_through=-1 if job.flushed_through is None else job.flushed_through,
        )

    def discard(self, job: BuildJob) -> None:
        """Removes the files of a build that failed or was cancelled. Where the store has failed, perhaps in the
        swap, they stay: the next start knows whether it is on disk, and removes what nothing names."""
        self._ended(job)
        if self._index.database.failed:
            return
        with self._index.database.guarded() as connection:  # what is in memory may be older than what is committed
            named = {segment.generation for segment in manifest.read_segments(connection)}
        assert not set(job.generations) & named
        for generation in job.generations:
            _unlink(hnsw_path(self._index.folder, generation), ids_path(self._index.folder, generation))

    # --- inside

    def _ended(self, job: BuildJob) -> None:
        """A build that runs no more keeps nothing from the next flush."""
        if job.kind is JobKind.FLUSH:
            self._flushing = None
        else:
            self._planned = None

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
            with self._index.database.guarded() as connection:
                view = self._index.view(
                    self._index.segments, items.dead_labels(connection), Rows.none(self._index.dimensions)
                )
        with self._index.database.guarded() as connection:
            seal = Seal(self._index.clock(), self._index.state.sequence, manifest.next_generation(connection))
        return BuildJob(
            kind=kind,
            view=view,
            generations=generations,
            first_lsn=_first_lsn(view.segments, None),
            seal=seal,
            in_force=self._index.state.parameters,
            parameters=self._index.state.parameters if parameters is None else parameters,
            threads=threads,
            session=session,
            sample=sample,
        )

    def _plan(self, job: BuildJob) -> BuildJob:
        self._planned = job
        return job

    def _new_items(self, job: BuildJob, built: BuildResult) -> items.NewItems | None:
        """Those of a session; None for other builds, whose items are there already, or if there is none."""
        if job.session is None or not built.segments:
            return None
        (segment,) = built.segments
        assert built.fingerprints is not None
        file = IdsFile.open(ids_path(self._index.folder, segment.generation))
        return items.NewItems(file.names(), file.labels, built.fingerprints)

    def _swap(self, job: BuildJob, built: BuildResult, replaced: NDArray[np.uint64]) -> Swap:
        merging = self._flushing.view.segments if self._flushing is not None else ()
        kept = frozenset(segment.generation for segment in merging)
        return plan_swap(
            job, built, self._index.segments, self._index.tally.live, replaced, self._index.state.sequence, kept
        )


def _first_lsn(segments: Sequence[Segment], journal_lsn: int | None) -> int:
    """The first write that a segment of all these holds; 0 when they hold none."""
    known = [segment.first_lsn for segment in segments] + ([] if journal_lsn is None else [journal_lsn])
    return min(known, default=0)


def _none() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
