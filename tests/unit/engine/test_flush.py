"""What a flush takes, and that nothing is lost or found twice by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.engine.harness import bury, flush, live_ids, load, new_index, random_items, rebuild, run, write
from vectorindex.engine.errors import CorruptFile, InvalidInput
from vectorindex.engine.flush import Deltas, FlushPlan, choose_flush, choose_merge, rows_of_a_flush
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.rows import Rows
from vectorindex.engine.segments import FileStamp, Role, Segment
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.store import Store
from vectorindex.engine.view import View
from vectorindex.engine.view_change import ViewChange, difference

STAMP = FileStamp(1, "")


def segment(first: int, last: int, role: Role = Role.DELTA) -> Segment:
    """Its generation is its first label."""
    return Segment(first, role, last - first + 1, first, last, 1, 1, Parameters(), 0, STAMP, STAMP)


MAIN = segment(0, 99, Role.MAIN)
A, B, C = segment(100, 139), segment(140, 159), segment(160, 169)


@pytest.mark.parametrize(
    ("segments", "rows", "sealed", "reserved", "through", "merged"),
    [
        pytest.param([], range(10), (), None, 9, [], id="the-first"),
        pytest.param([MAIN], range(100, 110), (), None, 109, [], id="never-with-the-main-segment"),
        pytest.param([MAIN, A, B, C], range(170, 175), (), None, 174, [], id="smaller-than-the-newest-delta"),
        pytest.param([MAIN, A, B, C], range(170, 180), (), None, 179, [A, B, C], id="as-large-each-time"),
        pytest.param([MAIN, A, B], range(160, 180), (), None, 179, [A, B], id="all-deltas"),
        pytest.param([MAIN, A, B], range(160, 180), (A.generation,), None, 179, [B], id="not-what-a-build-replaces"),
        pytest.param([MAIN, A, B], range(160, 180), (B.generation,), None, 179, [], id="nor-what-is-below-it"),
        pytest.param([MAIN, A, B], [120, 121, 170], (), None, 121, [], id="up-to-the-next-segment"),
        pytest.param([MAIN], [100, 101, 200], (), 150, 101, [], id="up-to-a-session-that-is-built"),
        pytest.param([MAIN, A], range(200, 250), (), 150, 249, [], id="not-across-a-session-that-is-built"),
        pytest.param([MAIN, A], range(200, 250), (), 250, 249, [A], id="a-session-above-is-no-matter"),
    ],
)
def test_choose(
    segments: list[Segment],
    rows: range | list[int],
    sealed: tuple[int, ...],
    reserved: int | None,
    through: int,
    merged: list[Segment],
) -> None:
    labels = np.array(rows, np.uint64)
    live = {segment.generation: segment.count for segment in segments}
    plan = choose_flush(Deltas(segments, live, labels, sealed, reserved), len(labels))
    assert plan == FlushPlan(through, tuple(merged))


def test_an_empty_journal_needs_no_flush() -> None:
    assert choose_flush(Deltas([MAIN], {0: 100}, np.empty(0, np.uint64)), 0) is None


EQUAL = segment(160, 179)


@pytest.mark.parametrize(
    ("segments", "rows", "sealed", "reserved", "merged"),
    [
        pytest.param([], [], (), None, [], id="nothing"),
        pytest.param([MAIN], [], (), None, [], id="never-the-main-segment"),
        pytest.param([MAIN, A, B, C], [], (), None, [], id="each-half-of-the-one-before"),
        pytest.param([MAIN, A, B, EQUAL], [], (), None, [A, B, EQUAL], id="as-large-each-time"),
        pytest.param([MAIN, A, B, EQUAL], [200], (), None, [A, B, EQUAL], id="the-tail-is-no-matter"),
        pytest.param([MAIN, A, EQUAL], [150], (), None, [], id="but-not-across-its-rows"),
        pytest.param([MAIN, A, B, EQUAL], [], (A.generation,), None, [B, EQUAL], id="not-what-a-build-replaces"),
        pytest.param([MAIN, A, B, EQUAL], [], (EQUAL.generation,), None, [], id="nor-what-is-below-it"),
        pytest.param([MAIN, A, EQUAL], [], (), 150, [], id="not-across-a-session-that-is-built"),
    ],
)
def test_choose_merge(
    segments: list[Segment], rows: list[int], sealed: tuple[int, ...], reserved: int | None, merged: list[Segment]
) -> None:
    live = {segment.generation: segment.count for segment in segments}
    deltas = Deltas(segments, live, np.array(rows, np.uint64), sealed, reserved)
    assert choose_merge(deltas) == tuple(merged)


def test_large_deltas_stay() -> None:
    live = {segment.generation: segment.count for segment in (MAIN, A, B, EQUAL)}
    none = np.empty(0, np.uint64)
    assert choose_merge(Deltas([MAIN, A, B, EQUAL], live, none, most=79)) == (B, EQUAL)
    assert choose_merge(Deltas([MAIN, A, B, EQUAL], live, none, most=39)) == ()


def test_deltas_of_sessions_are_merged_and_nothing_is_lost(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(100))
    for turn in range(4):
        load(store, random_items(20, seed=turn, prefix=f"turn{turn}"))
    write(store, random_items(3, prefix="tail"))
    view = View.load(store.view_spec())
    assert store.builds.can_merge
    bury(view, store.delete(["turn1-3", "item-9"]).labels)
    job = store.builds.plan_merge()
    assert job is not None
    bury(view, store.delete(["turn2-5", "tail-1"]).labels)
    view.apply(store.builds.commit(job, run(job)))
    assert not store.builds.can_merge
    assert [segment.role for segment in store.status().segments] == [Role.MAIN, Role.DELTA]
    assert (store.tail_rows, store.status().counts.live, view.live) == (3, 179, 179)
    assert live_ids(store) >= {"turn0-0", "turn3-19", "tail-0"}
    assert not live_ids(store) & {"turn1-3", "turn2-5", "tail-1", "item-9"}
    assert Store.open(reopened(store)).status().counts.live == 179


def test_sizes_of_deltas_double() -> None:
    """A thousand flushes leave as many deltas as the binary number has ones."""
    segments: list[Segment] = []
    written = rewritten = 0
    for number in range(1_000):
        labels = np.arange(4 * number, 4 * number + 4, dtype=np.uint64)
        live = {segment.generation: segment.count for segment in segments}
        plan = choose_flush(Deltas(segments, live, labels), 4)
        assert plan is not None
        segments = segments[: len(segments) - len(plan.merged)]
        first = plan.merged[0].min_label if plan.merged else int(labels[0])
        segments.append(replace(segment(first, plan.through), generation=number))
        written += 4
        rewritten += segments[-1].count
        assert len(segments) == (number + 1).bit_count()
    assert rewritten < 6 * written


@pytest.mark.parametrize(("dimensions", "rows"), [(8, 4_096), (384, 4_096), (1_536, 2_730), (65_536, 64)])
def test_a_tail_is_bounded_in_bytes_too(dimensions: int, rows: int) -> None:
    assert rows_of_a_flush(dimensions) == rows


def test_a_flush_beside_a_rebuild_and_a_session(tmp_path: Path) -> None:
    """The rebuild replaces what it has sealed, the flush nothing of that; neither brings anything back."""
    store = new_index(tmp_path)
    load(store, random_items(100))
    write(store, random_items(30, seed=1, prefix="early"))
    view = View.load(store.view_spec())
    flush(store, view)
    job = store.builds.plan_rebuild(None, 1, None)
    upserted = write(store, random_items(40, seed=2, prefix="late") | random_items(3, seed=3, prefix="early"))
    view.apply(ViewChange(upserted.rows, upserted.labels))
    flushed = flush(store, view)
    assert flushed is not None
    assert flushed.replaces == ()
    bury(view, store.delete(["late-1", "item-1"]).labels)
    built = run(job)
    candidate = View.load(store.builds.candidate(job, built))
    change = store.builds.commit(job, built)
    bury(candidate, change.died)
    expected = {*random_items(100), *random_items(40, prefix="late"), *random_items(30, prefix="early")}
    assert live_ids(store) == expected - {"late-1", "item-1"}
    assert candidate.live == view.live == len(expected) - 2
    assert [segment.role for segment in store.status().segments] == [Role.MAIN, Role.DELTA]
    assert Store.open(reopened(store)).status().counts.live == len(expected) - 2


def reopened(store: Store) -> Path:
    store.close()
    return store.folder


def test_a_session_does_not_take_away_what_a_flush_merges(tmp_path: Path) -> None:
    """A session that replaces all items of a delta leaves it to the flush that is rewriting it."""
    store = new_index(tmp_path)
    load(store, random_items(50))
    write(store, random_items(10, prefix="delta"))
    flush(store)
    session = IngestSession(store.folder, 8, Metric.L2, SessionMode.UPSERT)
    again = random_items(10, seed=9, prefix="delta")
    session.append(list(again), np.stack(list(again.values())))
    finalize = store.builds.plan_finalize(session, None, 1)
    write(store, random_items(10, prefix="more"))
    flushing = store.builds.plan_flush()
    assert flushing is not None
    built = run(finalize)
    store.builds.commit(finalize, built)
    session.discard()
    change = store.builds.commit(flushing, run(flushing))
    assert store.status().counts.live == 70
    view = View.load(store.view_spec())
    assert view.live == 70
    for name, vector in again.items():
        labels = view.search(vector[None], 1, 50).labels
        assert store.labels_of([name])[name] == labels[0, 0]
    assert len(change.added) == 1
    assert Store.open(reopened(store)).status().counts.live == 70


def test_labels_of_a_flush_do_not_cross_a_session(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(50))
    write(store, random_items(3, prefix="before"))
    session = IngestSession(store.folder, 8, Metric.L2, SessionMode.UPSERT)
    session.append(["from-session"], np.ones((1, 8), np.float32))
    finalize = store.builds.plan_finalize(session, None, 1)
    write(store, random_items(4, prefix="after"))
    flush(store)
    assert store.tail_rows == 4
    store.builds.commit(finalize, run(finalize))
    session.discard()
    assert ranges(store) == [(0, 49), (50, 52), (53, 53)]
    flush(store)
    assert ranges(store) == [(0, 49), (50, 57)]
    assert live_ids(store) >= {"before-0", "from-session", "after-3"}


def ranges(store: Store) -> list[tuple[int, int]]:
    return [(segment.min_label, segment.max_label) for segment in store.status().segments]


def test_dead_rows_of_the_journal_go_with_the_next_swap(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(50))
    write(store, random_items(5, prefix="new"))
    store.delete(["new-1", "item-1"])
    assert store.status().counts.deleted == 2
    rebuild(store)
    assert (store.status().counts.deleted, store.tail_rows) == (0, 4)
    store.delete(["new-2"])
    flush(store)
    assert (store.status().counts.deleted, store.tail_rows) == (0, 0)
    assert store.status().counts.live == 52


def test_a_damaged_row_of_the_journal_is_refused(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    write(store, {"pear": np.full(8, 7.5, np.float32)})
    path = reopened(store) / "index.db"
    content = path.read_bytes()
    assert content.count(np.float32(7.5).tobytes() * 8) == 1
    path.write_bytes(content.replace(np.float32(7.5).tobytes() * 8, np.float32(7.25).tobytes() * 8))
    with pytest.raises(CorruptFile, match="label 0 is damaged"):
        Store.open(path.parent)


@pytest.mark.parametrize(
    ("external_ids", "vectors", "word"),
    [
        pytest.param(["a", "b"], np.ones((1, 8), np.float32), "2 external IDs for 1", id="lengths"),
        pytest.param(["a\n"], np.ones((1, 8), np.float32), "control", id="control-character"),
        pytest.param(["a"], np.ones((1, 7), np.float32), "shape", id="dimensions"),
        pytest.param(["a"], np.full((1, 8), np.inf, np.float32), "infinity", id="infinity"),
    ],
)
def test_a_bad_upsert_changes_nothing(
    tmp_path: Path, external_ids: list[str], vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]], word: str
) -> None:
    store = new_index(tmp_path)
    with pytest.raises(InvalidInput, match=word):
        store.upsert(external_ids, vectors)
    assert (store.status().sequence, store.tail_rows) == (0, 0)


def test_a_difference_of_views_is_what_has_happened_between(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(60))
    write(store, random_items(5, prefix="a"))
    old = store.view_spec()
    late = View.load(old)
    store.delete(["a-1"])
    write(store, random_items(4, seed=1, prefix="b"))
    flush(store)
    write(store, random_items(3, seed=2, prefix="c") | random_items(1, seed=3, prefix="b"))
    rebuild(store)
    store.delete(["c-2", "item-0"])
    new = store.view_spec()
    change = difference(old, new)
    assert difference(new, new).empty
    late.apply(change)
    fresh = View.load(new)
    assert late.live == fresh.live == 59 + 4 + 4 + 2
    queries = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    np.testing.assert_array_equal(late.search_exact(queries, 12).labels, fresh.search_exact(queries, 12).labels)


def test_what_dies_between_the_seal_of_a_flush_and_a_load_stays_dead(tmp_path: Path) -> None:
    """It is alive in the new file, dead in the tail of the view that is loaded, and must be dead after the change."""
    store = new_index(tmp_path)
    load(store, random_items(60))
    write(store, random_items(5, prefix="a"))
    job = store.builds.plan_flush()
    assert job is not None
    gone = store.delete(["a-1", "item-3"]).labels
    old = store.view_spec()
    late = View.load(old)
    store.builds.commit(job, run(job))
    new = store.view_spec()
    late.apply(difference(old, new))
    assert late.live == View.load(new).live == 63
    everything = late.search_exact(np.ones((1, 8), np.float32), 100).labels
    assert not np.isin(everything, gone).any()


def test_rows_that_are_deleted_before_their_flush_leave_no_segment(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    write(store, random_items(5))
    store.delete([f"item-{number}" for number in range(5)])
    built = flush(store)
    assert built is not None
    assert built.segments == ()
    assert store.status().segments == ()
    assert len(Rows.none(8)) == store.tail_rows == 0
