"""What a build will take of memory and disk: pure functions of the sizes that go in, for a decision before it starts.

Upper bounds, meant to be near: measured peaks of anonymous memory are 79 to 97 % of them (``docs/design/resources.md``
has the table). A graph's file is exact but for its upper levels, which the level generator draws: 1/(M - 1) lists per
item are expected.

A swap goes through two peaks, one after the other: the searcher that serves and the builder, then, once the builder has
ended, the searcher that serves and the new one. Never all three. Where a delta is put beside a main segment, no new
searcher is started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vectorindex.engine import hnsw_file, ids_file
from vectorindex.engine.jobs import INSERT_ROWS, BuildJob, JobKind
from vectorindex.engine.segments import Role, Segment
from vectorindex.engine.session import SessionMode

BUILDER_BYTES = 23_000_000
"""Of a builder that does nothing: interpreter, numpy and the modules, 17 MB, and room for small things."""
SEARCHER_BYTES = 22_000_000
"""Of a searcher without a graph."""
_HNSWLIB_ITEM = 125
"""Beside its part of the file: link pointer 8, level 4, mutex 40, entry of the label table about 45, order and labels
of the view 12, and what the allocator adds."""
_MAPPED_ITEM = 40
"""Of a delta, which is searched in its file: levels and places of the lists, order, labels, marks."""
_INSERTED_ITEM = 280
"""As above in a builder, and the source: labels, owners, rows and elements, their order; the ID as an object."""
_COMPACTED_ITEM = 100
"""Of each stored item of the segments that an optimize reads: levels, places, order, numbers in the new graph."""
_VISITED_ITEM = 2
"""Of each item for each thread that searches or inserts."""
_STAGED_ITEM = 160
"""Of each row of a session in the front's temporary table, while its items are named."""
_ROW_BYTES = 33
"""Of a row of ``items`` beside its ID, or of ``dead``, with its part of the B-tree's pages."""
_SPARE_DISK = 8 * 2**20
"""What stays free for the writes that come meanwhile, and for SQLite to work at all."""


@dataclass(frozen=True)
class Stored:
    """``count`` items in one graph with ``m``, of which ``live``; all their IDs together have ``id_bytes``. ``loaded``:
    by hnswlib, as a main segment is."""

    count: int
    live: int
    m: int
    id_bytes: int
    loaded: bool = True


@dataclass(frozen=True)
class Work:
    """A build, as far as its size counts. ``segments`` are sealed; ``m`` is the new graph's; ``rows`` come from a
    session or the journal; ``replaces_all``: they take the place of everything."""

    kind: JobKind
    dimensions: int
    segments: tuple[Stored, ...]
    m: int
    threads: int
    rows: Stored | None = None
    replaces_all: bool = False


@dataclass(frozen=True)
class Need:
    """Bytes beyond what is taken before the build: of memory by the ``builder``, and after it by the new ``searcher``
    (and the front, while it commits); of ``disk`` for new files, beside the old ones, and SQLite's log."""

    builder: int
    searcher: int
    disk: int

    @property
    def memory(self) -> int:
        return max(self.builder, self.searcher)


def graph_bytes(count: int, dimensions: int, m: int) -> int:
    """Of the hnswlib file of ``count`` items (header, elements, sizes of the upper lists, expected upper lists)."""
    element = 4 + 4 * 2 * m + 4 * dimensions + 8
    upper = (4 + 4 * m) * count / (m - 1)
    return hnsw_file.HEADER.size + count * (element + 4) + round(upper)


def ids_bytes(count: int, id_bytes: int) -> int:
    """Of the file of IDs, exactly: label, offset and norm of each, and the IDs."""
    return ids_file.HEADER.size + 8 * count + 8 * (count + 1) + 4 * count + id_bytes


def work_of(job: BuildJob) -> Work:
    """The sizes of a job. Looks at the size of the session's file."""
    dead = job.view.dead
    segments = []
    for segment in job.view.segments:
        first, last = np.searchsorted(dead, np.array([segment.min_label, segment.max_label + 1], np.uint64))
        segments.append(stored(segment, segment.count - int(last - first)))
    return Work(
        kind=job.kind,
        dimensions=job.view.dimensions,
        segments=tuple(segments),
        m=job.parameters.m,
        threads=job.threads,
        rows=_rows_of(job),
        replaces_all=job.session is not None and job.session.mode is SessionMode.BUILD,
    )


def stored(segment: Segment, live: int) -> Stored:
    """A segment by the figures of the manifest, of whose items ``live`` are so."""
    id_bytes = segment.ids.size - ids_bytes(segment.count, 0)
    return Stored(segment.count, live, segment.parameters.m, id_bytes, segment.role is Role.MAIN)


def _rows_of(job: BuildJob) -> Stored | None:
    if job.session is not None:
        rows = job.session.rows
        id_bytes = rows.ids_path.stat().st_size - rows.count  # one newline each
        return Stored(rows.count, rows.count, job.parameters.m, id_bytes)
    if job.kind is JobKind.FLUSH:
        tail = job.view.live_tail
        return Stored(len(tail), len(tail), job.parameters.m, sum(len(name.encode()) for name in tail.external_ids))
    return None


def needs(work: Work) -> Need:
    """What the build will take."""
    if work.kind is JobKind.OPTIMIZE:
        return _optimize(work)
    if work.rows is None:
        return _rebuild(work)
    return _flush(work, work.rows) if work.kind is JobKind.FLUSH else _finalize(work, work.rows)


def _rebuild(work: Work) -> Need:
    new = _live_part(work.segments, work.m)
    forgotten = sum(segment.count - segment.live for segment in work.segments)
    return Need(
        builder=_inserting(work, new),
        searcher=_searching(work, [new]),
        disk=_files(work, [new]) + _ROW_BYTES * forgotten + _SPARE_DISK,
    )


def _finalize(work: Work, rows: Stored) -> Need:
    beside = not work.replaces_all and any(segment.loaded for segment in work.segments)
    kept = [] if work.replaces_all else list(work.segments)
    serving = _MAPPED_ITEM * rows.count if beside else _searching(work, [*kept, rows])
    # The rows may touch every page of the items that are there, once in the log; and the file grows by their own.
    items = sum(_ROW_BYTES * part.live + part.id_bytes for part in (*work.segments, rows, rows))
    return Need(
        builder=_inserting(work, rows) + rows.id_bytes,
        searcher=serving + _STAGED_ITEM * rows.count + rows.id_bytes,
        disk=_files(work, [rows]) + items + _SPARE_DISK,
    )


def _flush(work: Work, rows: Stored) -> Need:
    """A delta of the journal's rows and of some deltas; the rows are overwritten in the journal, by way of the log."""
    new = _live_part([*work.segments, rows], work.m)
    journal = (_ROW_BYTES + 4 * work.dimensions) * rows.count + rows.id_bytes
    return Need(
        builder=_inserting(work, new) + 2 * journal,
        searcher=_MAPPED_ITEM * new.count,
        disk=_files(work, [new]) + journal + _SPARE_DISK,
    )


def _optimize(work: Work) -> Need:
    """Segments with dead items, one after the other; what was read of each stays until the end."""
    changed = [segment for segment in work.segments if segment.live < segment.count]
    new = [replace(_live_part([segment], segment.m), loaded=segment.loaded) for segment in changed]
    largest = max((max(graph_bytes(part.count, work.dimensions, part.m), _repairing(part)) for part in new), default=0)
    read = sum(_COMPACTED_ITEM * segment.count + segment.id_bytes for segment in work.segments)
    after = [segment for segment in work.segments if segment.live == segment.count] + new
    forgotten = sum(segment.count - segment.live for segment in changed)
    return Need(
        builder=BUILDER_BYTES + largest + read + _visited(work, sum(segment.count for segment in work.segments)),
        searcher=_searching(work, after),
        disk=_files(work, new) + _ROW_BYTES * forgotten + _SPARE_DISK,
    )


def _live_part(segments: Sequence[Stored], m: int) -> Stored:
    live = sum(segment.live for segment in segments)
    id_bytes = sum(segment.id_bytes * segment.live // max(1, segment.count) for segment in segments)
    return Stored(live, live, m, id_bytes)


def _inserting(work: Work, new: Stored) -> int:
    """The graph grows in memory, before its repair and its checks work on the file."""
    rows = 16 * min(INSERT_ROWS, new.count) * work.dimensions  # as read, as stored, and their lengths in float64
    items = _INSERTED_ITEM * new.count + new.id_bytes + _visited(work, new.count)
    return BUILDER_BYTES + rows + graph_bytes(new.count, work.dimensions, new.m) + items


def _repairing(part: Stored) -> int:
    """A copy of the lists of level 0, who links to whom backwards, and marks."""
    return (16 * part.m + 56) * part.count


def _searching(work: Work, segments: Sequence[Stored]) -> int:
    loaded = [segment for segment in segments if segment.loaded and segment.count]
    graphs = sum(graph_bytes(segment.count, work.dimensions, segment.m) for segment in loaded)
    items = sum(_HNSWLIB_ITEM * segment.count for segment in loaded)
    mapped = sum(_MAPPED_ITEM * segment.count for segment in segments if not segment.loaded)
    return SEARCHER_BYTES + graphs + items + mapped + _visited(work, sum(segment.count for segment in segments))


def _visited(work: Work, count: int) -> int:
    return _VISITED_ITEM * count * (work.threads + 1)


def _files(work: Work, segments: Sequence[Stored]) -> int:
    return sum(
        graph_bytes(segment.count, work.dimensions, segment.m) + ids_bytes(segment.count, segment.id_bytes)
        for segment in segments
        if segment.count
    )
