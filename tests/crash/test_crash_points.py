"""SIGKILL and I/O errors at the engine's system calls: a sample by a seed, most of it of fsyncs and renames."""

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
    """So many of those that matter most, and half as many of the others."""
    chosen = essential(points)
    others = [point for point in points if point not in chosen]
    seeded = random.Random(SEED)
    return seeded.sample(chosen, count) + seeded.sample(others, count // 2)


def problems(found: list[Problem | None]) -> list[str]:
    return [str(problem) for problem in found if problem is not None]


def test_after_a_kill_an_index_is_as_before_the_step_or_as_after_it(
    team: Crew, recording: Recording, count: dict[str, int]
) -> None:
    points = sample(recording.points(), 60)
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
    seeded = random.Random(SEED)
    everything = error_points(recording.points())
    important = set(essential(recording.points()))
    points = seeded.sample([chosen for chosen in everything if chosen[0] in important and chosen[1] == "EIO"], 40)
    points += seeded.sample([other for other in everything if other not in points], 15)
    count["errors of calls"] = len(points)
    found = team.map(lambda driver, folder, job: fail_at(recording, driver, folder, *job), points)
    assert problems(found) == []
