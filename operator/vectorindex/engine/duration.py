"""How long a build will take: a model of its work, set right by the last build of the same kind on this machine.

The model's constants are those of one core of an AMD EPYC (``docs/design/resources.md``); other machines, and what
else runs on them, differ from it by a factor, which the last build tells. So an estimate says whether it was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from vectorindex.engine.jobs import JobKind

_PROCESSES = 1.0
"""Seconds to start a builder and a searcher, and to switch."""
_LEAST_ITEMS = 1_000
"""A build of fewer tells nothing of a machine: what is fixed is most of it."""


@dataclass(frozen=True)
class Build:
    """A rebuild or an optimize of ``items`` live items, by ``threads``; ``m`` and ``ef_construction`` are those of the
    new graph."""

    kind: JobKind
    items: int
    dimensions: int
    m: int
    ef_construction: int
    threads: int


@dataclass(frozen=True)
class Measured:
    """A build of the past, and the seconds of all its phases."""

    build: Build
    seconds: float


@dataclass(frozen=True)
class Expected:
    """``measured``: by the last build of this kind; otherwise by the model alone."""

    seconds: float
    measured: bool


def expected(build: Build, last: Measured | None) -> Expected:
    """Seconds from the start of a build to its swap."""
    if last is None or last.build.kind is not build.kind or last.build.items < _LEAST_ITEMS:
        return Expected(_PROCESSES + work_seconds(build), measured=False)
    return Expected(_PROCESSES + work_seconds(build) * last.seconds / work_seconds(last.build), measured=True)


def work_seconds(build: Build) -> float:
    """Of all phases, by the model."""
    dimensions, items = build.dimensions, build.items
    if build.kind is JobKind.OPTIMIZE:
        graph = 1.1e-9 * items * (dimensions + 300) * build.m
    else:
        # An insertion computes distances in proportion to ef and to the root of M, each in proportion to what a vector
        # has beside a fixed part; a larger graph lies less in the processor's caches.
        ef, width = (build.ef_construction + 14) / 214, (dimensions + 300) / 684
        graph = 245e-6 * items * ef * width * (build.m / 16) ** 0.5 * (max(items, 1) / 10_000) ** 0.3
    sample = 33e-9 * items * (dimensions + 50)
    files = items * (2e-6 + 3e-9 * (8 * build.m + 4 * dimensions))
    return (graph + sample) / build.threads + files
