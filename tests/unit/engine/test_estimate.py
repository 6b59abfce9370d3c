"""What a build will take: exact where it can be, near above what real builds took, and monotonous in what costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.engine.harness import load, new_index, plan_load, random_items, run
from vectorindex.engine.estimate import Need, Stored, Work, graph_bytes, ids_bytes, needs, work_of
from vectorindex.engine.jobs import BuildJob, JobKind
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.session import SessionMode

MB = 1_000_000


def work(kind: JobKind = JobKind.REBUILD, count: int = 40_000, dead: int = 0, m: int = 16, threads: int = 1) -> Work:
    """An index of one segment, 384 dimensions, IDs of 11 bytes."""
    return Work(kind, 384, (Stored(count, count - dead, m, 11 * count),), m, threads)


@pytest.mark.parametrize(("dimensions", "m"), [(8, 2), (8, 16), (100, 5), (384, 64)])
def test_files_have_the_estimated_size(tmp_path: Path, dimensions: int, m: int) -> None:
    """The upper levels are drawn: with 4,000 items they are within some percent of what is expected."""
    store = new_index(tmp_path, Metric.L2, dimensions, Parameters(m=m, ef_construction=8))
    built = load(store, random_items(4_000, dimensions=dimensions))
    (segment,) = built.segments
    assert segment.hnsw.size == pytest.approx(graph_bytes(4_000, dimensions, m), rel=0.03)
    text = sum(len(f"item-{number}") for number in range(4_000))
    assert segment.ids.size == ids_bytes(4_000, text)


MEASURED = [
    # kind, items, dead, dimensions, M, threads; peak of the builder and of the new searcher (docs/design/resources.md)
    (JobKind.REBUILD, 10_000, 0, 384, 16, 1, 43.4, 38.4),
    (JobKind.REBUILD, 40_000, 0, 384, 16, 1, 100.2, 92.5),
    (JobKind.REBUILD, 40_000, 0, 384, 16, 2, 99.0, 92.5),
    (JobKind.REBUILD, 100_000, 0, 16, 16, 2, 68.8, 53.8),
    (JobKind.REBUILD, 40_000, 0, 64, 32, 2, 51.8, 46.1),
    (JobKind.REBUILD, 20_000, 0, 768, 32, 1, 98.7, 89.6),
    (JobKind.OPTIMIZE, 10_000, 2_000, 384, 16, 1, 30.8, 34.8),
    (JobKind.OPTIMIZE, 40_000, 8_000, 384, 16, 1, 73.0, 78.1),
    (JobKind.OPTIMIZE, 100_000, 20_000, 16, 16, 2, 46.7, 46.6),
    (JobKind.OPTIMIZE, 40_000, 8_000, 64, 32, 2, 36.2, 41.0),
    (JobKind.OPTIMIZE, 20_000, 4_000, 768, 32, 1, 71.5, 75.8),
]


@pytest.mark.parametrize(("kind", "count", "dead", "dimensions", "m", "threads", "builder", "searcher"), MEASURED)
def test_estimates_lie_above_what_was_measured_but_not_far(
    kind: JobKind, count: int, dead: int, dimensions: int, m: int, threads: int, builder: float, searcher: float
) -> None:
    need = needs(Work(kind, dimensions, (Stored(count, count - dead, m, 11 * count),), m, threads))
    assert builder * MB < need.builder < 1.3 * builder * MB
    assert searcher * MB < need.searcher < 1.1 * searcher * MB


def test_memory_is_the_higher_of_two_peaks_that_do_not_meet() -> None:
    assert Need(builder=5, searcher=3, disk=0).memory == 5
    assert Need(builder=2, searcher=3, disk=0).memory == 3


def test_a_rebuild_costs_what_is_live_with_the_new_parameters() -> None:
    whole, half = needs(work()), needs(work(dead=20_000))
    assert whole.builder - half.builder > 20_000 * 4 * 384
    assert whole.disk - half.disk > 20_000 * 4 * 384 - 24 * 20_000
    wider = needs(Work(JobKind.REBUILD, 384, work().segments, 48, 1))
    assert wider.disk - whole.disk > 40_000 * 8 * (48 - 16)


def test_an_optimize_rewrites_only_the_segments_with_dead_items() -> None:
    main, delta = Stored(40_000, 40_000, 16, 440_000), Stored(1_000, 800, 16, 11_000)
    need = needs(Work(JobKind.OPTIMIZE, 384, (main, delta), 16, 1))
    assert need.disk < 11 * MB
    assert need.builder < 35 * MB
    assert need.searcher > graph_bytes(40_800, 384, 16), "the new searcher holds the other one as well"
    nothing = needs(Work(JobKind.OPTIMIZE, 384, (main,), 16, 1))
    assert nothing.disk < 9 * MB


@pytest.mark.parametrize("kind", [JobKind.REBUILD, JobKind.OPTIMIZE])
def test_an_index_of_nothing_costs_little(kind: JobKind) -> None:
    for segments in ((), (Stored(1_000, 0, 16, 11_000),)):
        need = needs(Work(kind, 384, segments, 16, 1))
        assert need.memory < 35 * MB
        assert need.disk < 9 * MB


def test_a_session_that_replaces_everything_needs_no_room_for_the_rest_in_the_searcher() -> None:
    old, new = Stored(40_000, 40_000, 16, 440_000), Stored(10_000, 10_000, 16, 110_000)
    beside = needs(Work(JobKind.FINALIZE, 384, (old,), 16, 1, new))
    instead = needs(Work(JobKind.FINALIZE, 384, (old,), 16, 1, new, replaces_all=True))
    assert beside.searcher - instead.searcher > graph_bytes(39_000, 384, 16)
    assert beside.builder == instead.builder


def test_the_sizes_of_real_jobs(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    items = random_items(500)
    session, job = plan_load(store, items, SessionMode.BUILD)
    text = sum(map(len, items))
    assert work_of(job) == Work(JobKind.FINALIZE, 8, (), 4, 1, Stored(500, 500, 4, text), replaces_all=True)
    store.commit(job, run(job))
    session.discard()
    store.delete([f"item-{number}" for number in range(100)])
    rebuild: BuildJob = store.plan_rebuild(Parameters(m=9), 3, None)
    assert work_of(rebuild) == Work(JobKind.REBUILD, 8, (Stored(500, 400, 4, text),), 9, 3)
    load(store, random_items(50, prefix="more"))
    counts = [(part.count, part.live) for part in work_of(store.plan_optimize(1, None)).segments]
    assert counts == [(500, 400), (50, 50)]
    assert np.array_equal(store.view_spec().dead, np.arange(100, dtype=np.uint64))
