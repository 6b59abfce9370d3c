"""A segment without its dead: the live items keep graph, labels and parameters, and get links across the gaps.

A dead item costs every search that passes it. Dropped with its links alone, it takes recall along; so each neighbour
of it is offered its neighbours first (the algorithm and its sources stand in kernels/compact.hpp). It costs a fraction
of a new graph, because only lists that lost a link are looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import _kernels
from vectorindex.engine.clock import PhaseClock
from vectorindex.engine.hnsw_file import chunks, header
from vectorindex.engine.ids_file import write_ids
from vectorindex.engine.jobs import BuildJob, Phase
from vectorindex.engine.output import NewSegment, finish
from vectorindex.engine.params import Metric
from vectorindex.engine.segments import Segment, ViewSpec, hnsw_path, ids_path
from vectorindex.engine.sources import OldSegment

REACH = {
    Metric.L2: (1 / 1.1**2, 0.0),
    Metric.COSINE: (1 / 1.1**2, 0.0),
    Metric.INNER_PRODUCT: (2.0, -1.0),
}
"""Slope and intercept of the rule by which a link u of p covers a candidate c: d(c, u) < slope x d(p, c) + intercept.
That is alpha = 1.1 on distances whose squares are stored. Under an inner product 1 - <p, c> may be negative, where a
factor would turn the rule round; so the factor is on the product itself: c is covered when <c, u> > 2 <p, c>."""


def needs_optimize(view: ViewSpec, segment: Segment) -> bool:
    """Whether there is anything to do: dead items, or items that no search can find."""
    first, last = np.searchsorted(view.dead, np.array([segment.min_label, segment.max_label + 1], np.uint64))
    return bool(last > first) or segment.unreachable > 0


def optimize_segment(job: BuildJob, old: OldSegment, generation: int, clock: PhaseClock) -> tuple[NewSegment, int]:
    """The new segment of one that holds something live, and how many links it got across gaps. Raises BuildFailed,
    OSError."""
    labels = old.ids.labels[old.live]
    with clock.phase(Phase.GRAPH):
        compaction = _kernels.Compaction(old.graph.graph, old.dead.view(np.uint8))
        words, links = _compacted(compaction, job, clock)
    with clock.phase(Phase.WRITE):
        with hnsw_path(job.folder, generation).open("xb") as file:
            file.write(
                header(
                    count=compaction.count,
                    dimensions=job.view.dimensions,
                    m=old.graph.m,
                    ef_construction=old.graph.ef_construction,
                    entry_point=compaction.entry_point,
                    max_level=compaction.max_level,
                )
            )
            file.write(words.data)
        del words
        external_ids = [old.ids.raw_id(row) for row in old.live.tolist()]
        write_ids(ids_path(job.folder, generation), labels, external_ids, old.ids.norms[old.live])
    return finish(job, generation, labels, clock), links


def _compacted(compaction: _kernels.Compaction, job: BuildJob, clock: PhaseClock) -> tuple[NDArray[np.uint32], int]:
    words = np.empty(compaction.words, np.uint32)
    links = 0
    for part in chunks(compaction.count):
        links += compaction.write(words, part.start, part.stop, *REACH[job.view.metric], job.threads)
        clock.report(Phase.GRAPH, part.stop / compaction.count)
    return words, links
