"""How long an operation will still take, by how it got on so far."""

from __future__ import annotations

import math

_WINDOW = 20  # percent: its pace over the last of them counts, because a graph grows slower the larger it is
_LEAST_PERCENT, _LEAST_SECONDS = 3, 1.0  # before that nothing is known


class Pace:
    """Percentages done, 0..100 and growing, by the time at which they were reached."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []

    def note(self, percent: int, now: float) -> None:
        """``now`` in seconds of any clock that only goes forward."""
        self._points.append((now, percent))

    def remaining(self, now: float) -> int | None:
        """Whole seconds until 100 %, at least 1; None while too little has been done to tell."""
        if not self._points:
            return None
        reached_at, reached = self._points[-1]
        before = [point for point in self._points if point[1] <= reached - _WINDOW]
        since, first = before[-1] if before else self._points[0]
        if reached - first < _LEAST_PERCENT or reached_at - since < _LEAST_SECONDS:
            return None
        seconds = (100 - reached) * (reached_at - since) / (reached - first)
        return max(1, math.ceil(seconds - (now - reached_at)))
