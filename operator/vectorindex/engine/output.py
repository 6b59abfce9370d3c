"""The last steps of every new segment: its graph is repaired, made durable, read back and checked.

A build of hnswlib leaves items unreachable, and so do the dead that are dropped. So every new graph is repaired in its
file: only lists that have to change are written, and the file stays one that any hnswlib loads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import _kernels
from vectorindex.engine.clock import PhaseClock
from vectorindex.engine.errors import BuildFailed, CorruptFile
from vectorindex.engine.files import fsync_path, stamp
from vectorindex.engine.hnsw_file import HEADER, HnswFile
from vectorindex.engine.ids_file import IdsFile
from vectorindex.engine.jobs import BuildJob, BuiltSegment, Phase
from vectorindex.engine.segments import hnsw_path, ids_path
from vectorindex.engine.structure import check_structure


@dataclass(frozen=True, eq=False)
class NewSegment:
    """``graph``: the new file; ``links_repaired`` to make its items reachable."""

    graph: HnswFile
    built: BuiltSegment
    links_repaired: int


def finish(job: BuildJob, generation: int, labels: NDArray[np.uint64], clock: PhaseClock) -> NewSegment:
    """From two files that were written to a segment that may be named; ``labels`` (n,) ascending are what it must
    hold. Raises BuildFailed."""
    graph, ids = hnsw_path(job.folder, generation), ids_path(job.folder, generation)
    try:
        with clock.phase(Phase.REPAIR):
            repaired = _repair(HnswFile.open(graph, job.view.dimensions, job.view.metric), job.threads)
            fsync_path(graph)
            fsync_path(job.folder)
        with clock.phase(Phase.VERIFY):
            file = HnswFile.open(graph, job.view.dimensions, job.view.metric)
            structure = check_structure(file)
            ids_labels = IdsFile.open(ids).labels
    except CorruptFile as error:
        raise BuildFailed(f"the new graph does not pass its checks: {error.path.name}: {error.why}") from error
    if structure.unreachable:
        raise BuildFailed(f"of the new graph's {structure.count:,} items {structure.unreachable:,} cannot be reached")
    if not np.array_equal(np.sort(file.labels), labels) or not np.array_equal(ids_labels, labels):
        raise BuildFailed(f"the new graph does not hold the {len(labels):,} items that it was built from")
    built = BuiltSegment(generation, int(labels[0]), int(labels[-1]), structure, stamp(graph), stamp(ids))
    return NewSegment(file, built, repaired)


def _repair(file: HnswFile, threads: int) -> int:
    """Returns how many links were put. By write, not by the mapping: so what the volume refuses is an error and not a
    signal."""
    links, *changes = _kernels.repair(file.graph, threads)
    if links:
        descriptor = os.open(file.path, os.O_WRONLY)
        try:
            for places, lists in changes:
                for place, words in zip(places.tolist(), lists, strict=True):
                    _write_at(descriptor, file.path, words.tobytes(), HEADER.size + 4 * place)
        finally:
            os.close(descriptor)
    return links


def _write_at(descriptor: int, path: Path, content: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, content, offset)
    if written != len(content):
        raise BuildFailed(f"{path.name}: wrote {written} of {len(content)} bytes")
