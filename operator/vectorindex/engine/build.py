"""What a builder process runs once: it reads files, writes the two files of each new segment, checks them, and returns.

The names that it writes are known to nobody until the store commits them, so that it may be killed at any point. When
it returns, all files and their folder are fsynced and read back. A label survives every build; that is what carries
deletes over that come while it runs. With one thread and the same seed the files are the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vectorindex.engine.clock import PhaseClock
from vectorindex.engine.files import space_errors
from vectorindex.engine.hnsw_file import HnswFile
from vectorindex.engine.jobs import BuildJob, BuildResult, Computations, JobKind, Phase, Progress
from vectorindex.engine.new_graph import build_segment
from vectorindex.engine.optimize import needs_optimize, optimize_segment
from vectorindex.engine.output import NewSegment
from vectorindex.engine.recall import RecallSample, make_sample, mean_computations
from vectorindex.engine.sources import OldSegment, SessionSource, Source, ViewSource


def build(job: BuildJob, progress: Progress) -> BuildResult:
    """Runs a job. ``progress`` is called with the phase and its fraction 0..1; what it raises ends the build.

    Raises CorruptFile (an input is not what the manifest says), BuildFailed (a new graph does not pass its checks),
    OutOfSpace. The files that it leaves then are removed by ``Builds.discard``."""
    clock = PhaseClock(progress)
    with space_errors(job.folder):
        return _optimize(job, clock) if job.kind is JobKind.OPTIMIZE else _build_new(job, clock)


def _build_new(job: BuildJob, clock: PhaseClock) -> BuildResult:
    """One segment, of a session or in place of all others."""
    with clock.phase(Phase.READ):
        source: Source
        hashes = None
        if job.session is not None:
            source = session = SessionSource(job.session.rows, job.session.first_label, job.view.metric)
            hashes = session.fingerprints()
        else:
            source = ViewSource(job.view)
    replaces = tuple(old.segment.generation for old in source.segments)
    unreachable = sum(old.unreachable for old in source.segments)
    if not len(source.labels):
        return BuildResult((), replaces, unreachable, 0, clock.seconds)
    new = build_segment(job, source, clock)
    sample, computations = _measure(job, source.segments, [new.graph], clock)
    return BuildResult(
        (new.built,), replaces, unreachable, new.links_repaired, clock.seconds, sample, computations, hashes
    )


def _optimize(job: BuildJob, clock: PhaseClock) -> BuildResult:
    """A segment in place of each that needs it, one after the other; none for one that holds nothing live."""
    chosen = [needs_optimize(job.view, segment) for segment in job.view.segments]
    total = sum(segment.count for segment, needed in zip(job.view.segments, chosen, strict=True) if needed)
    if not total:
        return BuildResult((), (), 0, 0, clock.seconds)
    before: list[OldSegment] = []
    after: list[HnswFile] = []
    new: list[NewSegment] = []
    links = done = 0
    for segment, generation, needed in zip(job.view.segments, job.generations, chosen, strict=True):
        part = clock.share(done / total, (done + segment.count * needed) / total)
        done += segment.count * needed
        with part.phase(Phase.READ):
            old = OldSegment(job.view, segment)
        before.append(old)
        if not needed:
            after.append(old.graph)
        elif len(old.live):
            optimized, added = optimize_segment(job, old, generation, part)
            links += added + optimized.links_repaired
            new.append(optimized)
            after.append(optimized.graph)
    sample, computations = _measure(job, before, after, clock)
    return BuildResult(
        segments=tuple(segment.built for segment in new),
        replaces=tuple(segment.generation for segment, needed in zip(job.view.segments, chosen, strict=True) if needed),
        unreachable_before=sum(old.unreachable for old in before),
        links_repaired=links,
        seconds=clock.seconds,
        sample=sample,
        computations=computations,
    )


def _measure(
    job: BuildJob, before: Sequence[OldSegment], after: Sequence[HnswFile], clock: PhaseClock
) -> tuple[RecallSample | None, Computations | None]:
    """The sample that was asked for, and what its queries cost in the graphs ``before`` and ``after``."""
    if job.sample is None:
        return None, None
    with clock.phase(Phase.SAMPLE):
        sample = make_sample(after, job.view.metric, job.sample, job.threads)
        if sample is None:
            return None, None
        ef_before, ef_after = job.in_force.ef_search, job.parameters.ef_search
        old = sum(mean_computations(old.graph, old.dead, sample, ef_before, job.threads) for old in before)
        none_dead = [np.zeros(graph.count, np.bool_) for graph in after]
        new = sum(
            mean_computations(graph, dead, sample, ef_after, job.threads)
            for graph, dead in zip(after, none_dead, strict=True)
        )
    return sample, Computations(round(old, 1), round(new, 1))
