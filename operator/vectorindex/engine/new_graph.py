"""A segment by a new graph of hnswlib: of the rows of a session, or of all live items."""

from __future__ import annotations

import os

import hnswlib
import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.clock import PhaseClock
from vectorindex.engine.distance import hnswlib_space
from vectorindex.engine.errors import BuildFailed, OutOfSpace
from vectorindex.engine.hnsw_file import chunks
from vectorindex.engine.ids_file import write_ids
from vectorindex.engine.jobs import INSERT_ROWS, BuildJob, Phase
from vectorindex.engine.output import NewSegment, finish
from vectorindex.engine.segments import hnsw_path, ids_path
from vectorindex.engine.sources import Source

_OUT_OF_MEMORY = "Not enough memory"
"""How hnswlib begins when malloc refused it something; what C++ itself refuses is a MemoryError already."""


def build_segment(job: BuildJob, source: Source, clock: PhaseClock) -> NewSegment:
    """The one segment of a finalize or rebuild, from at least one item. Raises BuildFailed, OutOfSpace, OSError."""
    (generation,) = job.generations
    with clock.phase(Phase.GRAPH):
        index, norms = _graph(job, source, clock)
    with clock.phase(Phase.WRITE):
        _save(job, generation, index)
        del index  # its memory goes before the IDs, the repair and the checks take theirs
        write_ids(ids_path(job.folder, generation), source.labels, source.external_ids(), norms)
    return finish(job, generation, source.labels, clock)


def _graph(job: BuildJob, source: Source, clock: PhaseClock) -> tuple[hnswlib.Index, NDArray[np.float32]]:
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
            clock.report(Phase.GRAPH, part.stop / count)
    except RuntimeError as error:
        if _OUT_OF_MEMORY in str(error):
            raise MemoryError(str(error)) from error
        raise BuildFailed(f"hnswlib could not build a graph of {count:,} items: {error}") from error
    return index, norms


def _save(job: BuildJob, generation: int, index: hnswlib.Index) -> None:
    path = hnsw_path(job.folder, generation)
    expected = index.index_file_size()
    index.save_index(str(path))  # reports no error, so the file is looked at
    written = path.stat().st_size if path.exists() else 0
    if written != expected:
        volume = os.statvfs(job.folder)
        missing = expected - written
        if volume.f_bavail * volume.f_frsize < missing:
            raise OutOfSpace(f"no space left on the volume of {job.folder.name}: {missing:,} bytes more are needed")
        raise BuildFailed(f"hnswlib wrote {written:,} of {expected:,} bytes of {path.name}")
