"""Does an index need a rebuild, by which figures, and what would it take: for a person to decide."""

from __future__ import annotations

from collections.abc import Mapping

from vectorindex.engine import duration, estimate
from vectorindex.engine.duration import Build, Measured
from vectorindex.engine.jobs import JobKind
from vectorindex.engine.policy import rebuild_reasons
from vectorindex.engine.store import IndexStatus, Store
from vectorindex.sidecar import convert
from vectorindex.sidecar.limits import builder_threads
from vectorindex.wire.identity import GraphParameters
from vectorindex.wire.operations import GraphResult, OperationKind
from vectorindex.wire.state import Configuration, Estimate, Estimates, MaintenanceFigures, MaintenanceReason
from vectorindex.wire.text import rounded

Past = Mapping[JobKind, Measured]
"""The last run of each kind, as far as there is one."""

_KINDS = {JobKind.REBUILD: OperationKind.REBUILD, JobKind.OPTIMIZE: OperationKind.OPTIMIZE}


def reasons(status: IndexStatus, configuration: Configuration) -> tuple[MaintenanceReason, ...]:
    """Every reason that holds."""
    limits = convert.thresholds(configuration, status.spec.delta_ratio)
    found = rebuild_reasons(status.counts, status.parameters, limits, convert.desired(configuration))
    return tuple(MaintenanceReason(reason) for reason in found)


def figures(status: IndexStatus, configuration: Configuration) -> MaintenanceFigures:
    """What the reasons are judged by."""
    counts, limits = status.counts, convert.thresholds(configuration, status.spec.delta_ratio)
    desired = convert.desired(configuration)
    stored = counts.live + counts.deleted
    return MaintenanceFigures(
        stored=stored,
        deleted_percent=_percent(counts.deleted, stored),
        deleted_limit_percent=limits.deleted_percent,
        delta_percent=_percent(counts.delta, counts.live),
        delta_limit_percent=limits.delta_percent,
        min_items=limits.min_items,
        wanted=GraphParameters(m=desired.m, ef_construction=desired.ef_construction),
    )


def estimates(status: IndexStatus, configuration: Configuration, past: Past) -> Estimates:
    """What a rebuild, with the parameters that are wanted, and an optimize would take now."""
    return Estimates(
        rebuild=_estimate(JobKind.REBUILD, status, configuration, past),
        optimize=_estimate(JobKind.OPTIMIZE, status, configuration, past),
    )


def read_past(store: Store) -> Past:
    """The last runs by the ledger; in the writer thread."""
    past = {}
    for kind, operation in _KINDS.items():
        found = store.last_result(operation.value)
        result = None if found is None else GraphResult.model_validate(found)
        if result is not None and "graph" in result.seconds:  # otherwise there was nothing to do
            build = Build(
                kind=kind,
                items=result.vectors.after,
                dimensions=store.status().spec.dimensions,
                m=result.parameters.m,
                ef_construction=result.parameters.ef_construction,
                threads=result.threads,
            )
            past[kind] = Measured(build, sum(result.seconds.values()))
    return past


def _estimate(kind: JobKind, status: IndexStatus, configuration: Configuration, past: Past) -> Estimate:
    in_force, desired = status.parameters, convert.desired(configuration)
    changed = kind is JobKind.REBUILD
    m = (desired.m if changed else None) or in_force.m
    ef_construction = (desired.ef_construction if changed else None) or in_force.ef_construction
    threads = configuration.threads or builder_threads()
    flushed = status.counts.live - sum(status.live.values())  # a run begins with a flush of what is in the journal
    segments = [estimate.stored(segment, status.live[segment.generation]) for segment in status.segments]
    segments.append(estimate.Stored(flushed, flushed, m, 0, loaded=False))
    need = estimate.needs(estimate.Work(kind, status.spec.dimensions, tuple(segments), m, threads))
    touched = sum(part.live for part in segments if changed or part.live < part.count)
    build = Build(kind, touched, status.spec.dimensions, m, ef_construction, threads)
    time = duration.expected(build, past.get(kind))
    return Estimate(
        seconds=rounded(time.seconds),
        memory_bytes=rounded(need.memory),
        disk_bytes=rounded(need.disk),
        measured=time.measured,
    )


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
