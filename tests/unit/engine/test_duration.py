"""How long a build will take, by the last one of its kind, or by a model."""

from __future__ import annotations

import pytest

from vectorindex.engine.duration import Build, Measured, expected
from vectorindex.engine.jobs import JobKind

REBUILD = Build(JobKind.REBUILD, 10_000, 384, 16, 200, 1)
OPTIMIZE = Build(JobKind.OPTIMIZE, 10_000, 384, 16, 200, 1)


def seconds(build: Build, last: Measured | None = None) -> float:
    return expected(build, last).seconds


@pytest.mark.parametrize(
    ("build", "measured"),
    [
        (REBUILD, 2.7),
        (Build(JobKind.REBUILD, 20_000, 384, 16, 200, 1), 6.5),
        (Build(JobKind.REBUILD, 10_000, 384, 16, 50, 1), 0.9),
        (Build(JobKind.REBUILD, 10_000, 64, 16, 200, 1), 1.4),
        (Build(JobKind.REBUILD, 10_000, 384, 32, 200, 1), 3.1),
        (Build(JobKind.REBUILD, 10_000, 384, 8, 200, 1), 1.8),
        (Build(JobKind.OPTIMIZE, 32_000, 384, 16, 200, 1), 1.13),
        (Build(JobKind.OPTIMIZE, 80_000, 16, 16, 200, 2), 0.82),
    ],
)
def test_the_model_is_near_what_its_machine_took(build: Build, measured: float) -> None:
    """Sums of all phases, with real embeddings for the rebuilds; one second is for the processes."""
    answer = expected(build, None)
    assert not answer.measured
    assert measured / 1.6 < answer.seconds - 1 < 1.6 * measured


def test_the_last_build_of_the_kind_sets_the_model_right() -> None:
    modelled = seconds(REBUILD) - 1
    slow = Measured(REBUILD, 10 * modelled)
    assert expected(REBUILD, slow).measured
    assert seconds(REBUILD, slow) == pytest.approx(1 + 10 * modelled)
    larger = Build(JobKind.REBUILD, 40_000, 384, 16, 200, 1)
    assert seconds(larger, slow) - 1 == pytest.approx(10 * (seconds(larger) - 1))
    assert seconds(larger, slow) > 4 * seconds(REBUILD, slow)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(Measured(OPTIMIZE, 100.0), id="another kind"),
        pytest.param(Measured(Build(JobKind.REBUILD, 999, 384, 16, 200, 1), 100.0), id="too few items"),
    ],
)
def test_what_tells_nothing_of_the_machine_is_left_aside(last: Measured) -> None:
    assert expected(REBUILD, last) == expected(REBUILD, None)


@pytest.mark.parametrize("kind", [JobKind.REBUILD, JobKind.OPTIMIZE])
def test_more_work_takes_longer_and_more_threads_less(kind: JobKind) -> None:
    def built(items: int = 10_000, dimensions: int = 384, m: int = 16, threads: int = 1) -> float:
        return seconds(Build(kind, items, dimensions, m, 200, threads))

    assert built(items=0) == 1.0
    assert built(items=20_000) > built() > built(threads=4) > 1.0
    assert built(dimensions=768) > built()
    assert built(m=32) > built()
