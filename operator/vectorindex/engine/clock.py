"""How far a build is, and how long each of its phases took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from vectorindex.engine.jobs import SEGMENT_PROGRESS, Phase, Progress, progress_within


class PhaseClock:
    """``seconds`` by phase, summed over all segments; ``report`` is called with a phase and its fraction 0..1."""

    def __init__(self, report: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self.report = report

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        self.report(phase, 0.0)
        start = time.perf_counter()
        yield
        self.seconds[phase.value] = round(self.seconds.get(phase.value, 0.0) + time.perf_counter() - start, 3)

    def share(self, first: float, last: float) -> PhaseClock:
        """For one of several segments: the same seconds, and its whole progress within ``first..last`` of the graph
        phase."""

        def report(phase: Phase, fraction: float) -> None:
            done = progress_within(SEGMENT_PROGRESS, phase, fraction) / 100
            self.report(Phase.GRAPH, first + (last - first) * done)

        part = PhaseClock(report)
        part.seconds = self.seconds
        return part
