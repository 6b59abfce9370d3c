"""What a build will take of memory and disk: pure functions of the sizes that go in, for a decision before it starts.

Upper bounds, meant to be near: measured peaks of anonymous memory are 85 to 99 % of them (``docs/design/resources.md``
has the table). A graph's file is exact but for its upper levels, which the level generator draws: 1/(M - 1) lists per
item are expected.

A swap goes through two peaks, one after the other: the searcher that serves and the builder, then, once the builder has
ended, the searcher that serves and the new one. Never all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vectorindex.engine import hnsw_file, ids_file
from vectorindex.engine.jobs import INSERT_ROWS, BuildJob, JobKind
from vectorindex.engine.session import SessionMode

BUILDER_BYTES = 23_000_000
"""Of a builder that does nothing: interpreter, numpy and the modules, 17 MB, and room for small things."""
SEARCHER_BYTES = 22_000_000
"""Of a searcher without a graph."""
_HNSWLIB_ITEM = 125
"""Beside its part of the file: link pointer 8, level 4, mutex 40, entry of the label table about 45, order and labels
of the view 12, and what the allocator adds."""
_INSERTED_ITEM = 240
"""As above in a builder, and the source: labels, owners, rows and elements, norms; the ID as an object of Python."""
_COMPACTED_ITEM = 100
"""Of each stored item of the segments that an optimize reads: levels, places, order, numbers in the new graph."""
_VISITED_ITEM = 2
"""Of each item for each thread that searches or inserts."""
_STAGED_ITEM = 150
"""Of each row of a session in the front's temporary table, while its items are named."""
_ROW_BYTES = 24
"""Of a row of ``items`` beside its ID, or of ``dead``, with its part of the B-tree's pages."""
_SPARE_DISK = 8 * 2**20
"""What stays free for the writes that come meanwhile, and for SQLite to work at all."""


@dataclass(frozen=True)
class Stored:
    """``count`` items in one graph with ``m``, of which ``live``; all their IDs together have ``id_bytes``."""

    count: int
    live: int
    m: int
    id_bytes: int


@dataclass(frozen=True)
class Work:
    """A build, as far as its size counts. ``segments`` are sealed; ``m`` is the new graph's; ``session``: rows that
    come, ``replaces_all``: they take the place of everything."""

    kind: JobKind
    dimensions: int
    segments: tuple[Stored, ...]
    m: int
    threads: int
    session: Stored | None = None
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
        segments.append(stored(segment.count, int(last - first), segment.parameters.m, segment.ids.size))
    session = None
    if job.session is not None:
        rows = job.session.rows
        id_bytes = rows.ids_path.stat().st_size - rows.count  # one newline each
        session = Stored(rows.count, rows.count, job.parameters.m, id_bytes)
    return Work(
        kind=job.kind,
        dimensions=job.view.dimensions,
        segments=tuple(segments),
        m=job.parameters.m,
        threads=job.threads,
        session=session,
        replaces_all=job.session is not None and job.session.mode is SessionMode.BUILD,
    )


def stored(count: int, dead: int, m: int, ids_file_bytes: int) -> Stored:
    """A segment by the figures of the manifest."""
    return Stored(count, count - dead, m, ids_file_bytes - ids_bytes(count, 0))


def needs(work: Work) -> Need:
    """What the build will take."""
    if work.kind is JobKind.OPTIMIZE:
        return _optimize(work)
    return _rebuild(work) if work.session is None else _finalize(work, work.session)


def _rebuild(work: Work) -> Need:
    new = _live_part(work.segments, work.m)
    forgotten = sum(segment.count - segment.live for segment in work.segments)
    return Need(
        builder=_inserting(work, new),
        searcher=_searching(work, [new]),
        disk=_files(work, [new]) + _ROW_BYTES * forgotten + _SPARE_DISK,
    )


def _finalize(work: Work, session: Stored) -> Need:
    kept = [] if work.replaces_all else list(work.segments)
    # The rows may touch every page of the items that are there, once in the log; and the file grows by their own.
    items = [*work.segments, session, session]
    rows = sum(_ROW_BYTES * part.live + part.id_bytes for part in items)
    return Need(
        builder=_inserting(work, session) + session.id_bytes,
        searcher=_searching(work, [*kept, session]) + _STAGED_ITEM * session.count + session.id_bytes,
        disk=_files(work, [session]) + rows + _SPARE_DISK,
    )


def _optimize(work: Work) -> Need:
    """Segments with dead items, one after the other; what was read of each stays until the end."""
    changed = [segment for segment in work.segments if segment.live < segment.count]
    new = [_live_part([segment], segment.m) for segment in changed]
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
    rows = 16 * INSERT_ROWS * work.dimensions  # as read, as stored, and their lengths in float64
    items = _INSERTED_ITEM * new.count + new.id_bytes + _visited(work, new.count)
    return BUILDER_BYTES + rows + graph_bytes(new.count, work.dimensions, new.m) + items


def _repairing(part: Stored) -> int:
    """A copy of the lists of level 0, who links to whom backwards, and marks."""
    return (16 * part.m + 56) * part.count


def _searching(work: Work, segments: Sequence[Stored]) -> int:
    count = sum(segment.count for segment in segments)
    graphs = sum(graph_bytes(segment.count, work.dimensions, segment.m) for segment in segments if segment.count)
    return SEARCHER_BYTES + graphs + _HNSWLIB_ITEM * count + _visited(work, count)


def _visited(work: Work, count: int) -> int:
    return _VISITED_ITEM * count * (work.threads + 1)


def _files(work: Work, segments: Sequence[Stored]) -> int:
    return sum(
        graph_bytes(segment.count, work.dimensions, segment.m) + ids_bytes(segment.count, segment.id_bytes)
        for segment in segments
        if segment.count
    )
