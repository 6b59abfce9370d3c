"""What a builder process runs once: it reads files, writes the two files of one new segment, checks them, and returns.

The names that it writes are known to nobody until the store commits them, so that it may be killed at any point. When
it returns, both files and their folder are fsynced and read back. A label survives a rebuild; that is what carries
deletes over that come while it runs. With one thread and the same seed the files are the same, byte for byte.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import hnswlib
import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.distance import hnswlib_space
from vectorindex.engine.errors import BuildFailed, CorruptFile, OutOfSpace
from vectorindex.engine.files import fsync_path, space_errors, stamp
from vectorindex.engine.hnsw_file import HnswFile, chunks
from vectorindex.engine.ids_file import IdsFile, write_ids
from vectorindex.engine.jobs import BuildJob, BuildResult, BuiltSegment, Phase, Progress
from vectorindex.engine.recall import make_sample
from vectorindex.engine.segments import hnsw_path, ids_path
from vectorindex.engine.sources import SegmentSource, SessionSource, Source
from vectorindex.engine.structure import check_structure

INSERT_ROWS = 1_024
"""Rows given to hnswlib at a time: progress is reported, and a builder can be ended, between two."""


def build(job: BuildJob, progress: Progress) -> BuildResult:
    """Runs a job. ``progress`` is called with the phase and its fraction 0..1; what it raises ends the build.

    Raises CorruptFile (an input is not what the manifest says), BuildFailed (the new graph does not pass its checks),
    OutOfSpace. The files that it leaves then are removed by ``Store.discard``."""
    clock = _Clock(progress)
    with space_errors(job.folder):
        with clock.phase(Phase.READ):
            source = _open_source(job)
        if not len(source.labels):
            return BuildResult(None, source.unreachable, clock.seconds)
        with clock.phase(Phase.GRAPH):
            index, norms = _graph(job, source, progress)
        with clock.phase(Phase.WRITE):
            _write(job, source, index, norms)
            del index  # its memory goes before the checks take theirs
        with clock.phase(Phase.VERIFY):
            graph, segment = _verify(job, source)
        sample = None
        if job.sample is not None:
            with clock.phase(Phase.SAMPLE):
                sample = make_sample(graph, job.view.metric, job.sample)
    return BuildResult(segment, source.unreachable, clock.seconds, sample)


class _Clock:
    """Reports the start of each phase and keeps how long it took."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        self._progress(phase, 0.0)
        start = time.perf_counter()
        yield
        self.seconds[phase.value] = round(time.perf_counter() - start, 3)


def _open_source(job: BuildJob) -> Source:
    if job.session is not None:
        return SessionSource(job.session.rows, job.session.first_label, job.view.metric)
    return SegmentSource(job.view)


def _graph(job: BuildJob, source: Source, progress: Progress) -> tuple[hnswlib.Index, NDArray[np.float32]]:
    count = len(source.labels)
    norms = np.empty(count, np.float32)
    index = hnswlib.Index(hnswlib_space(job.view.metric), job.view.dimensions)
    try:
        index.init_index(
            max_elements=count,
            M=job.parameters.m,
            ef_construction=job.parameters.ef_construction,
            random_seed=job.parameters.seed,
        )
        for part in chunks(count, INSERT_ROWS):
            vectors, norms[part] = source.vectors(part)
            index.add_items(vectors, source.labels[part], num_threads=job.threads)
            progress(Phase.GRAPH, part.stop / count)
    except RuntimeError as error:
        raise BuildFailed(f"hnswlib could not build a graph of {count:,} items: {error}") from error
    return index, norms


def _write(job: BuildJob, source: Source, index: hnswlib.Index, norms: NDArray[np.float32]) -> None:
    path = hnsw_path(job.folder, job.generation)
    expected = index.index_file_size()
    index.save_index(str(path))  # reports no error, so the file is looked at
    written = path.stat().st_size if path.exists() else 0
    if written != expected:
        volume = os.statvfs(job.folder)
        missing = expected - written
        if volume.f_bavail * volume.f_frsize < missing:
            raise OutOfSpace(f"no space left on the volume of {job.folder.name}: {missing:,} bytes more are needed")
        raise BuildFailed(f"hnswlib wrote {written:,} of {expected:,} bytes of {path.name}")
    fsync_path(path)
    write_ids(ids_path(job.folder, job.generation), source.labels, source.external_ids(), norms)
    fsync_path(job.folder)


def _verify(job: BuildJob, source: Source) -> tuple[HnswFile, BuiltSegment]:
    try:
        graph = HnswFile.open(hnsw_path(job.folder, job.generation), job.view.dimensions)
        ids = IdsFile.open(ids_path(job.folder, job.generation))
        structure = check_structure(graph)
    except CorruptFile as error:
        raise BuildFailed(f"the new graph does not pass its checks: {error.path.name}: {error.why}") from error
    if not np.array_equal(np.sort(graph.labels), source.labels) or not np.array_equal(ids.labels, source.labels):
        raise BuildFailed(f"the new graph does not hold the {len(source.labels):,} items that it was built from")
    segment = BuiltSegment(
        min_label=int(source.labels[0]),
        max_label=int(source.labels[-1]),
        structure=structure,
        hnsw=stamp(graph.path),
        ids=stamp(ids.path),
    )
    return graph, segment
