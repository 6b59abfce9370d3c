"""How long an operation still takes, by its progress so far."""

from __future__ import annotations

import pytest

from vectorindex.sidecar.pace import Pace


@pytest.mark.parametrize(
    ("points", "now", "remaining"),
    [
        pytest.param([], 5.0, None, id="nothing has begun"),
        pytest.param([(0.0, 0)], 9.0, None, id="it has just begun"),
        pytest.param([(0.0, 0), (2.0, 2)], 2.0, None, id="too little was done"),
        pytest.param([(0.0, 0), (0.9, 50)], 0.9, None, id="too soon"),
        pytest.param([(0.0, 0), (10.0, 10)], 10.0, 90, id="a second for a percent"),
        pytest.param([(0.0, 0), (10.0, 10)], 14.5, 86, id="it goes on between two steps"),
        pytest.param([(0.0, 0), (10.0, 90)], 60.0, 1, id="it takes longer than it should"),
        pytest.param([(0.0, 0), (10.0, 40), (50.0, 60)], 50.0, 80, id="the last twenty percent count"),
        pytest.param([(0.0, 0), (10.0, 40), (12.0, 41)], 12.0, 18, id="or more, so that one step is not all"),
    ],
)
def test_remaining(points: list[tuple[float, int]], now: float, remaining: int | None) -> None:
    pace = Pace()
    for at, percent in points:
        pace.note(percent, at)
    assert pace.remaining(now) == remaining
