"""The ledger of operations: each runs once, however often it is sent, and ends once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.engine.harness import live_ids, load, new_index, random_items, run, segment_files
from vectorindex.engine.errors import EngineError, InvalidInput, OperationConflict, OperationFinished
from vectorindex.engine.ledger import NewOperation, OperationState
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.writes import Delete, Deletion, Upsert, Write

DELETE = NewOperation("uid-1", "Delete", "digest-1", object_name="d", object_uid="uid-1")
REBUILD = NewOperation("uid-2.1", "Rebuild", "digest-2", request={"params": {"M": 8}})


def test_an_operation_is_one_however_often_it_is_sent(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    first = store.begin_operation(REBUILD)
    assert (first.state, first.request) == (OperationState.QUEUED, {"params": {"M": 8}})
    assert store.begin_operation(REBUILD) == first
    store.start_operation(REBUILD.id)
    again = store.requeue_operation(REBUILD.id, crashed=False)
    assert (again.state, again.restarts, again.crashes) == (OperationState.QUEUED, 1, 0)
    store.start_operation(REBUILD.id)
    again = store.requeue_operation(REBUILD.id, crashed=True)
    assert (again.state, again.restarts, again.crashes) == (OperationState.QUEUED, 2, 1)
    store.start_operation(REBUILD.id)
    failed = store.fail_operation(REBUILD.id, "BuildFailed", "why")
    assert (failed.state, failed.reason, failed.message) == (OperationState.FAILED, "BuildFailed", "why")
    assert store.begin_operation(REBUILD) == store.cancel_operation(REBUILD.id) == failed
    with pytest.raises(OperationFinished):
        store.start_operation(REBUILD.id)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(NewOperation("uid-1", "Delete", "another"), id="request"),
        pytest.param(NewOperation("uid-1", "Rebuild", "digest-1"), id="kind"),
    ],
)
def test_an_id_used_for_another_operation_is_refused(tmp_path: Path, other: NewOperation) -> None:
    store = new_index(tmp_path)
    load(store, random_items(5))
    store.delete(["item-1"], DELETE)
    with pytest.raises(OperationConflict, match="uid-1 was recorded with another"):
        store.begin_operation(other)
    with pytest.raises(OperationConflict):
        store.delete(["item-2"], other)
    assert "item-2" in live_ids(store)


@pytest.mark.parametrize(("limit", "goes"), [(0, False), (39, False), (40, True), (100, True)])
def test_a_delete_that_would_take_too_much_takes_nothing(tmp_path: Path, limit: int, goes: bool) -> None:
    store = new_index(tmp_path)
    load(store, random_items(5))
    asked = ["item-1", "nobody", "item-2", "item-1"]
    before = store.status()
    first = store.delete(asked, DELETE, limit)
    assert first.record is not None
    assert (first.record.state is OperationState.SUCCEEDED) is goes
    assert len(live_ids(store)) == (3 if goes else 5)
    if not goes:
        assert (first.deleted, list(first.labels)) == (0, [])
        assert first.record.reason == "DeleteLimitExceeded"
        assert first.record.message == f"2 of 5 items would go, the limit is {limit} %; none has gone"
        assert (store.status().sequence, store.status().counts) == (before.sequence, before.counts)
    again = store.delete(asked, DELETE, limit)
    assert again.record == first.record


def test_the_limit_counts_the_items_that_are_there_in_its_turn(tmp_path: Path) -> None:
    """Writes of one group follow each other: what the first ones delete or add, the next ones find so."""
    store = new_index(tmp_path)
    load(store, random_items(10))
    more = Upsert.of(["item-9", "new"], np.ones((2, 8), np.float32), 8, Metric.L2)

    def half(uid: str, *names: str) -> Delete:
        return Delete(names, NewOperation(uid, "Delete", uid), 50)

    writes: list[Write] = [
        Delete(tuple(f"item-{number}" for number in range(6))),  # 4 are left
        half("three-of-four", "item-6", "item-7", "item-8"),
        more,  # 5 are there
        half("two-of-five", "item-6", "item-7"),
        half("two-of-three", "item-8", "item-9"),
        half("one-of-three", "item-8"),
    ]
    states = [each.record.state for each in store.write(writes) if isinstance(each, Deletion) and each.record]
    assert states == ["Failed", "Succeeded", "Failed", "Succeeded"]
    assert sorted(live_ids(store)) == ["item-9", "new"]


def test_a_preview_says_what_a_delete_would_do(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(5))
    store.delete(["item-0"])
    before = store.status()
    preview = store.preview(["item-1", "nobody", "item-0", "item-4"])
    assert (preview.live, list(preview.found)) == (4, [True, False, False, True])
    assert store.status() == before
    assert not store.operations()


def test_a_limit_needs_an_operation() -> None:
    with pytest.raises(InvalidInput, match="needs an operation"):
        Delete(("a",), None, 50)


def again(operation: NewOperation, uid: str, **changes: Any) -> NewOperation:
    """The same of another object."""
    return replace(operation, id=uid, object_uid=uid, **changes)


def test_what_a_user_calls_the_same_is_done_once(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(5))
    named = replace(DELETE, operation_id="release-7")
    first = store.delete(["item-1", "nobody"], named)
    load(store, random_items(5))  # item-1 is there again
    second = store.delete(["item-1", "nobody"], again(named, "uid-9"), 0)
    assert second.record is not None
    assert (second.record.state, second.record.reason) == (OperationState.SUCCEEDED, "AlreadyApplied")
    assert first.record is not None
    assert second.record.result == first.record.result
    assert (second.deleted, list(second.found), list(second.labels)) == (1, [True, False], [])
    assert "item-1" in live_ids(store)
    assert store.delete(["item-1", "nobody"], again(named, "uid-9")).record == second.record


@pytest.mark.parametrize(
    ("other", "words"),
    [
        pytest.param({"digest": "another"}, "another request", id="request"),
        pytest.param({"kind": "Rebuild"}, "another kind", id="kind"),
    ],
)
def test_what_a_user_calls_the_same_is_the_same(tmp_path: Path, other: dict[str, str], words: str) -> None:
    store = new_index(tmp_path)
    load(store, random_items(5))
    named = replace(DELETE, operation_id="release-7")
    store.delete(["item-1"], named)
    record = store.begin_operation(again(named, "uid-9", **other))
    assert (record.state, record.reason) == (OperationState.FAILED, "OperationIDConflict")
    assert words in record.message
    assert "item-2" in live_ids(store)


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_what_did_not_succeed_is_not_applied(tmp_path: Path, end: str) -> None:
    store = new_index(tmp_path)
    named = replace(REBUILD, operation_id="release-7")
    store.begin_operation(named)
    if end == "failed":
        store.start_operation(named.id)
        store.fail_operation(named.id, "BuildFailed", "why")
    else:
        store.cancel_operation(named.id)
    assert store.begin_operation(again(named, "uid-9.1")).state is OperationState.QUEUED


def test_operations_without_a_name_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(5))
    store.delete(["item-1"], DELETE)
    repeated = store.delete(["item-1"], again(DELETE, "uid-9"))
    assert repeated.record is not None
    assert (repeated.deleted, repeated.record.reason) == (0, "")


def test_what_was_cancelled_before_it_arrived_changes_nothing(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(5))
    assert store.cancel_operation(DELETE.id).state is OperationState.CANCELLED
    deletion = store.delete(["item-1"], DELETE)
    assert deletion.record is not None
    assert deletion.record.state is OperationState.CANCELLED
    assert deletion.deleted == 0
    assert store.status().counts.live == 5
    assert store.begin_operation(DELETE).state is OperationState.CANCELLED


def test_a_cancelled_rebuild_cannot_be_committed(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(20))
    store.begin_operation(REBUILD)
    store.start_operation(REBUILD.id)
    job = store.builds.plan_rebuild(Parameters(m=8), 1, None)
    built = run(job)
    store.cancel_operation(REBUILD.id)
    before = store.status()
    with pytest.raises(OperationFinished, match="Cancelled"):
        store.builds.commit(job, built, REBUILD.id, {})
    assert store.status().segments == before.segments
    assert store.status().parameters == before.parameters
    store.builds.discard(job)
    assert segment_files(store.folder) == {"0000000001.hnsw", "0000000001.ids"}


def test_operations_are_listed_in_order_of_creation(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    for name in ("z", "a", "m"):
        store.begin_operation(NewOperation(name, "Rebuild", "d", request={}))
    store.cancel_operation("b")
    store.start_operation("a")
    store.fail_operation("z", "BuildFailed", "why")
    assert [record.id for record in store.operations()] == ["z", "a", "m", "b"]
    assert [record.id for record in store.unfinished_operations()] == ["a", "m"]


def test_the_ledger_takes_no_ids(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    with pytest.raises(EngineError, match="keeps no external IDs"):
        store.begin_operation(NewOperation("d", "Delete", "digest", request={"external_ids": ["secret"]}))
    load(store, random_items(5))
    store.delete(["item-1", "never-there"], DELETE)
    assert "never-there" not in str(store.operations())
    store.close()
    files = b"".join(path.read_bytes() for path in store.folder.glob("index.db*"))
    assert b"never-there" not in files


def test_what_is_applied_while_another_of_the_name_waits_is_done_once(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(5))
    named = replace(REBUILD, operation_id="release-7")
    waiting, other = again(named, "uid-8.1"), again(named, "uid-9.1", digest="another")
    for operation in (named, waiting, other):
        assert store.begin_operation(operation).state is OperationState.QUEUED
    store.start_operation(named.id)
    job = store.builds.plan_rebuild(None, 1, None)
    store.builds.commit(job, run(job), named.id, {"figures": 1})
    applied = store.start_operation(waiting.id)
    assert (applied.state, applied.reason) == (OperationState.SUCCEEDED, "AlreadyApplied")
    assert applied.result == {"figures": 1}
    refused = store.start_operation(other.id)
    assert (refused.state, refused.reason) == (OperationState.FAILED, "OperationIDConflict")
