"""SIGKILL and I/O errors at the engine's system calls: a sample by a seed, and every fsync and rename."""

from __future__ import annotations

import random
from functools import partial

from tests.crash.campaign import (
    Crew,
    Point,
    Problem,
    Recording,
    error_points,
    essential,
    fail_at,
    kill_at,
    kill_twice,
)

SEED = 1


def sample(points: list[Point], count: int) -> list[Point]:
    """All that matter most, and so many of the others."""
    chosen = essential(points)
    others = [point for point in points if point not in chosen]
    return chosen + random.Random(SEED).sample(others, count)


def problems(found: list[Problem | None]) -> list[str]:
    return [str(problem) for problem in found if problem is not None]


def test_after_a_kill_an_index_is_as_before_the_step_or_as_after_it(
    team: Crew, recording: Recording, count: dict[str, int]
) -> None:
    points = sample(recording.points(), 25)
    count["kills"] = len(points)
    assert problems(team.map(partial(kill_at, recording), points)) == []


def test_a_start_may_be_killed_as_well(team: Crew, recording: Recording, count: dict[str, int]) -> None:
    points = random.Random(SEED).sample(essential(recording.points()), 2)
    found = team.map(partial(kill_twice, recording), points)
    count["kills of the start after a kill"] = sum(number for number, _ in found)
    assert count["kills of the start after a kill"] > len(points)
    assert problems([problem for _, wrong in found for problem in wrong]) == []


def test_an_error_is_reported_and_loses_nothing_that_was_acknowledged(
    team: Crew, recording: Recording, count: dict[str, int]
) -> None:
    """Not even when power is lost after an fsync that failed."""
    everything = error_points(recording.points())
    important = set(essential(recording.points()))
    points = [chosen for chosen in everything if chosen[0] in important and chosen[1] == "EIO"]
    points += random.Random(SEED).sample([other for other in everything if other not in points], 15)
    count["errors of calls"] = len(points)
    found = team.map(lambda driver, folder, job: fail_at(recording, driver, folder, *job), points)
    assert problems(found) == []
