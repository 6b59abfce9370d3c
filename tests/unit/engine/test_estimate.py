"""What a build will take: exact where it can be, near above what real builds took, and monotonous in what costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.engine.harness import load, new_index, plan_load, random_items, run, write
from vectorindex.engine.estimate import Need, Stored, Work, graph_bytes, ids_bytes, needs, work_of
from vectorindex.engine.jobs import JobKind
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
    (JobKind.REBUILD, 12_500, 0, 384, 16, 1, 49.0, 41.9),
    (JobKind.REBUILD, 44_096, 0, 384, 16, 2, 108.5, 99.3),
    (JobKind.REBUILD, 104_096, 0, 16, 16, 2, 73.7, 53.9),
    (JobKind.REBUILD, 44_096, 0, 64, 32, 2, 57.7, 48.2),
    (JobKind.REBUILD, 24_096, 0, 768, 32, 1, 115.0, 102.9),
    (JobKind.OPTIMIZE, 12_500, 2_500, 384, 16, 1, 34.5, 37.3),
    (JobKind.OPTIMIZE, 44_096, 8_820, 384, 16, 2, 79.3, 83.0),
    (JobKind.OPTIMIZE, 104_096, 20_820, 16, 16, 2, 48.1, 46.5),
    (JobKind.OPTIMIZE, 44_096, 8_820, 64, 32, 2, 38.7, 42.1),
    (JobKind.OPTIMIZE, 24_096, 4_820, 768, 32, 1, 83.0, 86.1),
]


@pytest.mark.parametrize(("kind", "count", "dead", "dimensions", "m", "threads", "builder", "searcher"), MEASURED)
def test_estimates_lie_above_what_was_measured_but_not_far(
    kind: JobKind, count: int, dead: int, dimensions: int, m: int, threads: int, builder: float, searcher: float
) -> None:
    need = needs(Work(kind, dimensions, (Stored(count, count - dead, m, 11 * count),), m, threads))
    assert builder * MB < need.builder < 1.3 * builder * MB
    assert searcher * MB < need.searcher < 1.1 * searcher * MB


@pytest.mark.parametrize(
    ("count", "dimensions", "m", "builder"),
    [
        (2_500, 384, 16, 37.8),
        (4_096, 384, 16, 47.4),
        (4_096, 16, 16, 23.4),
        (4_096, 64, 32, 27.0),
        (4_096, 768, 32, 73.1),
    ],
)
def test_a_flush_and_what_it_took(count: int, dimensions: int, m: int, builder: float) -> None:
    rows = Stored(count, count, m, 11 * count)
    need = needs(Work(JobKind.FLUSH, dimensions, (), m, 1, rows))
    assert builder * MB < need.builder < 1.15 * builder * MB
    assert need.searcher < MB, "the searcher that serves maps the file"
    assert need.disk > (8 * m + 8 * dimensions) * count, "the file, and the journal's pages in the log"


def test_memory_is_the_higher_of_two_peaks_that_do_not_meet() -> None:
    assert Need(builder=5, searcher=3, disk=0).memory == 5
    assert Need(builder=2, searcher=3, disk=0).memory == 3


def test_a_rebuild_costs_what_is_live_with_the_new_parameters() -> None:
    whole, half = needs(work()), needs(work(dead=20_000))
    assert whole.builder - half.builder > 20_000 * 4 * 384
    assert whole.disk - half.disk > 20_000 * 4 * 384 - 24 * 20_000
    wider = needs(Work(JobKind.REBUILD, 384, work().segments, 48, 1))
    assert wider.disk - whole.disk > 40_000 * (8 * (48 - 16) - 1)


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


def test_a_searcher_maps_a_delta_and_loads_a_main_segment() -> None:
    main = Stored(40_000, 40_000, 16, 440_000)
    delta = Stored(1_000, 800, 16, 11_000, loaded=False)
    beside = needs(Work(JobKind.OPTIMIZE, 384, (main, delta), 16, 1))
    alone = needs(Work(JobKind.OPTIMIZE, 384, (main,), 16, 1))
    assert 0 < beside.searcher - alone.searcher < 100_000


def test_a_session_beside_a_main_segment_starts_no_searcher() -> None:
    old, new = Stored(40_000, 40_000, 16, 440_000), Stored(10_000, 10_000, 16, 110_000)
    beside = needs(Work(JobKind.FINALIZE, 384, (old,), 16, 1, new))
    instead = needs(Work(JobKind.FINALIZE, 384, (old,), 16, 1, new, replaces_all=True))
    first = needs(Work(JobKind.FINALIZE, 384, (replace(old, loaded=False),), 16, 1, new))
    assert beside.searcher < 5 * MB
    assert graph_bytes(10_000, 384, 16) < instead.searcher < first.searcher
    assert beside.builder == instead.builder


def test_the_sizes_of_real_jobs(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    items = random_items(500)
    session, job = plan_load(store, items, SessionMode.BUILD)
    text = sum(map(len, items))
    assert work_of(job) == Work(JobKind.FINALIZE, 8, (), 4, 1, Stored(500, 500, 4, text), replaces_all=True)
    store.builds.commit(job, run(job))
    session.discard()
    store.delete([f"item-{number}" for number in range(100)])
    rebuild = store.builds.plan_rebuild(Parameters(m=9), 3, None)
    assert work_of(rebuild) == Work(JobKind.REBUILD, 8, (Stored(500, 400, 4, text),), 9, 3)
    store.builds.discard(rebuild)
    write(store, random_items(50, prefix="more"))
    store.delete(["more-7"])
    flush = store.builds.plan_flush()
    assert flush is not None
    written = Stored(49, 49, 4, sum(len(f"more-{number}") for number in range(50) if number != 7))
    assert work_of(flush) == Work(JobKind.FLUSH, 8, (), 4, 1, written)
    store.builds.commit(flush, run(flush))
    segments = work_of(store.builds.plan_optimize(1, None)).segments
    assert [(part.count, part.live, part.loaded) for part in segments] == [(500, 400, True), (49, 49, False)]
    store.close()
