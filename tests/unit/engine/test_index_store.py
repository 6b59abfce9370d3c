"""What a store promises: the one commit point, the ledger, refusal of what is damaged, and recovery."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.unit.engine.harness import (
    SMALL,
    live_ids,
    load,
    new_index,
    optimize,
    plan_load,
    random_items,
    rebuild,
    run,
    segment_files,
)
from vectorindex.engine.catalog import create_index, destroy_index, index_folder, index_names
from vectorindex.engine.database import Database
from vectorindex.engine.errors import (
    CorruptFile,
    IdConflict,
    IndexExists,
    IndexLocked,
    IndexNotFound,
    InvalidInput,
    OutOfSpace,
    StoreFailed,
)
from vectorindex.engine.folders import remove_unfinished
from vectorindex.engine.ledger import NewOperation, OperationState
from vectorindex.engine.params import IndexSpec, Metric, Parameters
from vectorindex.engine.recall import SampleRequest
from vectorindex.engine.segments import Role
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.store import Store

DELETE = NewOperation("uid-1", "Delete", "digest-1", object_name="d", object_uid="uid-1")
OPTIMIZE = NewOperation("uid-3.1", "Optimize", "digest-3")
REBUILD = NewOperation("uid-2.1", "Rebuild", "digest-2", request={"params": {"M": 8}})


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def reopened_copy(store: Store, tmp_path: Path, name: str) -> Store:
    """What a process that starts now would find: the folder as it is on disk, WAL included."""
    copy = tmp_path / name / "words"
    shutil.copytree(store.folder, copy)
    return Store.open(copy)


# --- the catalog


@pytest.mark.parametrize("durable", ["its folder", "its name"])
def test_an_index_that_cannot_be_made_durable_does_not_exist(
    durable: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        if (path == data_dir) == (durable == "its name"):
            raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        for module in ("files", "folders"):
            patched.setattr(f"vectorindex.engine.{module}.fsync_path", full)
        with pytest.raises(OutOfSpace):
            create_index(data_dir, IndexSpec("b", 3, Metric.L2))
    assert list(data_dir.iterdir()) == []
    create_index(data_dir, IndexSpec("b", 3, Metric.L2))
    assert index_names(data_dir) == ["b"]


def test_indexes_appear_and_go_as_a_whole(data_dir: Path) -> None:
    create_index(data_dir, IndexSpec("b", 3, Metric.L2))
    create_index(data_dir, IndexSpec("a.x", 3, Metric.L2))
    assert index_names(data_dir) == ["a.x", "b"]
    with pytest.raises(IndexExists, match="index b exists already"):
        create_index(data_dir, IndexSpec("b", 3, Metric.L2))
    destroy_index(data_dir, "b")
    assert index_names(data_dir) == ["a.x"]
    with pytest.raises(IndexNotFound):
        index_folder(data_dir, "b")
    assert [path.name for path in data_dir.iterdir()] == ["a.x"]


def test_what_a_crash_left_of_a_creation_is_no_index(data_dir: Path) -> None:
    folder = create_index(data_dir, IndexSpec("a", 3, Metric.L2))
    shutil.copytree(folder, data_dir / ".unfinished-0123")
    assert index_names(data_dir) == ["a"]
    remove_unfinished(data_dir)
    assert [path.name for path in data_dir.iterdir()] == ["a"]


def test_a_second_process_is_refused(data_dir: Path) -> None:
    store = new_index(data_dir)
    program = (
        "import sys; from pathlib import Path; from vectorindex.engine.store import Store;"
        " Store.open(Path(sys.argv[1]))"
    )
    second = subprocess.run([sys.executable, "-c", program, store.folder], capture_output=True, text=True, check=False)
    assert "IndexLocked: index words is open in another process" in second.stderr
    with pytest.raises(IndexLocked):
        Store.open(store.folder)
    store.close()
    Store.open(store.folder).close()


# --- sessions, deletes and rebuilds


def test_the_first_session_is_main_and_later_ones_are_delta(data_dir: Path) -> None:
    store = new_index(data_dir)
    sessions = [random_items(20, prefix="a"), random_items(5, prefix="b"), random_items(5, prefix="c")]
    for items in sessions:
        load(store, items, SessionMode.INSERT)
    status = store.status()
    assert [segment.role for segment in status.segments] == [Role.MAIN, Role.DELTA, Role.DELTA]
    assert (status.counts.live, status.counts.delta, status.sequence) == (30, 10, 3)
    rebuild(store)
    assert [segment.role for segment in store.status().segments] == [Role.MAIN]
    assert live_ids(store) == {
        f"{prefix}-{n}" for prefix, count in (("a", 20), ("b", 5), ("c", 5)) for n in range(count)
    }


def test_a_segment_that_holds_nothing_live_goes_with_the_next_session(data_dir: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(20, prefix="a"))
    store.delete([f"a-{number}" for number in range(20)])
    assert store.status().counts.deleted == 20
    load(store, random_items(5, prefix="b"))
    status = store.status()
    assert [(segment.generation, segment.role) for segment in status.segments] == [(2, Role.MAIN)]
    assert (status.counts.live, status.counts.deleted) == (5, 0)
    assert segment_files(store.folder) == {"0000000002.hnsw", "0000000002.ids"}


def test_an_index_without_live_items_can_be_rebuilt(data_dir: Path) -> None:
    store = new_index(data_dir)
    rebuild(store, Parameters(m=8))
    load(store, random_items(3))
    store.delete([f"item-{number}" for number in range(3)])
    rebuild(store, Parameters(m=6))
    assert store.status().segments == ()
    assert store.status().parameters.m == 6
    assert segment_files(store.folder) == set()
    assert live_ids(store) == set()


def test_a_rebuild_with_one_thread_gives_the_same_bytes(data_dir: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(300))
    results = []
    for _ in range(2):
        job = store.builds.plan_rebuild(None, 1, None)
        built = run(job)
        results.append((built.segments[0].hnsw.sha256, built.segments[0].ids.sha256))
        store.builds.discard(job)
    assert results[0] == results[1]
    assert len(segment_files(store.folder)) == 2


def test_ef_search_configured_during_a_rebuild_stays(data_dir: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(20))
    job = store.builds.plan_rebuild(Parameters(m=8, ef_construction=30, ef_search=SMALL.ef_search, seed=2), 1, None)
    store.configure({"threads": 2}, ef_search=99)
    store.builds.commit(job, run(job))
    assert store.status().parameters == Parameters(m=8, ef_construction=30, ef_search=99, seed=2)
    assert store.status().configuration == {"threads": 2}


def test_insert_names_some_conflicts_but_its_message_does_not(data_dir: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(20))
    with pytest.raises(IdConflict, match="20 IDs exist already") as raised:
        plan_load(store, random_items(20), SessionMode.INSERT)
    assert len(raised.value.external_ids) == 5
    assert "item-" not in str(raised.value)


def test_a_session_takes_rows_all_or_none(data_dir: Path) -> None:
    store = new_index(data_dir, dimensions=2)
    session = IngestSession(store.folder, 2, Metric.L2, SessionMode.UPSERT)
    session.append(["a"], np.ones((1, 2), np.float32))
    with pytest.raises(InvalidInput):
        session.append(["b", "c"], np.array([[1, 1], [np.nan, 1]], np.float32))
    with pytest.raises(InvalidInput, match="1 external IDs for 2 vectors"):
        session.append(["b"], np.ones((2, 2), np.float32))
    with pytest.raises(InvalidInput, match="session is open"):
        IngestSession(store.folder, 2, Metric.L2, SessionMode.UPSERT)
    assert session.rows == 1
    store.builds.commit(job := store.builds.plan_finalize(session, None, 1), run(job))
    session.discard()
    assert live_ids(store) == {"a"}


# --- crashes: the folder is reopened as it is at each step


def test_a_crash_at_any_step_of_a_rebuild_leaves_the_old_or_the_new_state(data_dir: Path, tmp_path: Path) -> None:
    store = new_index(data_dir)
    items = random_items(40)
    load(store, items)
    store.delete(["item-0"])
    store.begin_operation(REBUILD)
    store.start_operation(REBUILD.id)
    expected = set(items) - {"item-0"}

    def check(step: str, state: OperationState, files: set[str]) -> None:
        copy = reopened_copy(store, tmp_path, step)
        assert live_ids(copy) == expected
        record = copy.operation(REBUILD.id)
        assert record is not None
        assert record.state is state
        assert segment_files(copy.folder) == files
        copy.close()

    old, new = {"0000000001.hnsw", "0000000001.ids"}, {"0000000002.hnsw", "0000000002.ids"}
    job = store.builds.plan_rebuild(Parameters(m=8), 1, None)
    check("sealed", OperationState.RUNNING, old)
    built = run(job)
    check("built", OperationState.RUNNING, old)
    store.delete(["item-1"])
    expected.discard("item-1")
    store.builds.candidate(job, built)
    check("candidate", OperationState.RUNNING, old)
    before = tmp_path / "before"
    shutil.copytree(store.folder, before)
    store.builds.commit(job, built, REBUILD.id, {"vectors": 38})
    check("swapped", OperationState.SWAPPED, new)
    for name in old:  # a crash after the transaction, before the old files are unlinked
        shutil.copy(before / name, store.folder / name)
    check("old-files-left", OperationState.SWAPPED, new)
    for name in old:
        (store.folder / name).unlink()
    store.settle([])
    check("settled", OperationState.SUCCEEDED, new)
    status = store.status()
    assert (status.counts.live, status.counts.deleted) == (38, 1)


def test_a_crash_at_any_step_of_an_optimize_leaves_the_old_or_the_new_state(data_dir: Path, tmp_path: Path) -> None:
    store = new_index(data_dir)
    items = random_items(40, prefix="main") | random_items(10, prefix="gone") | random_items(20, seed=1, prefix="delta")
    for prefix in ("main", "gone", "delta"):
        load(store, {name: vector for name, vector in items.items() if name.startswith(prefix)})
    store.delete([f"main-{number}" for number in range(8)] + [f"gone-{number}" for number in range(10)])
    store.delete(["delta-0"])
    store.begin_operation(OPTIMIZE)
    store.start_operation(OPTIMIZE.id)
    expected = {name for name in items if name.startswith("main-") and int(name[5:]) >= 8}
    expected |= {f"delta-{number}" for number in range(1, 20)}

    def check(step: str, state: OperationState, generations: set[int]) -> None:
        copy = reopened_copy(store, tmp_path, step)
        assert live_ids(copy) == expected
        record = copy.operation(OPTIMIZE.id)
        assert record is not None
        assert record.state is state
        files = {f"{generation:010d}.{kind}" for generation in generations for kind in ("hnsw", "ids")}
        assert segment_files(copy.folder) == files
        copy.close()

    job = store.builds.plan_optimize(2, None)
    assert job.generations == (4, 5, 6)
    check("sealed", OperationState.RUNNING, {1, 2, 3})
    built = run(job)
    check("built", OperationState.RUNNING, {1, 2, 3})
    store.delete(["main-39", "delta-1"])
    expected -= {"main-39", "delta-1"}
    store.builds.candidate(job, built)
    check("candidate", OperationState.RUNNING, {1, 2, 3})
    before = tmp_path / "before"
    shutil.copytree(store.folder, before)
    store.builds.commit(job, built, OPTIMIZE.id, {})
    check("swapped", OperationState.SWAPPED, {4, 6})
    for name in segment_files(before):  # a crash after the transaction, before the old files are unlinked
        shutil.copy(before / name, store.folder / name)
    check("old-files-left", OperationState.SWAPPED, {4, 6})
    store.close()
    store = Store.open(store.folder)
    store.settle([])
    check("settled", OperationState.SUCCEEDED, {4, 6})
    status = store.status()
    assert (status.counts.live, status.counts.deleted, status.counts.delta) == (49, 2, 18)
    assert [(segment.role, segment.count) for segment in status.segments] == [(Role.MAIN, 32), (Role.DELTA, 19)]


def test_an_optimize_changes_only_segments_that_need_it(data_dir: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(400, prefix="a"))
    load(store, random_items(100, seed=1, prefix="b"))
    nothing = optimize(store, SampleRequest())
    assert (nothing.segments, nothing.replaces, nothing.links_repaired, nothing.sample) == ((), (), 0, None)
    assert [segment.generation for segment in store.status().segments] == [1, 2]
    store.delete([f"b-{number}" for number in range(40)])
    built = optimize(store, SampleRequest())
    assert [segment.generation for segment in store.status().segments] == [1, 6]
    assert built.replaces == (2,)
    assert built.computations is not None
    assert built.computations.after < built.computations.before
    assert built.sample is not None
    assert live_ids(store) == set(random_items(400, prefix="a")) | {f"b-{number}" for number in range(40, 100)}
    store.delete([*random_items(400, prefix="a"), *random_items(100, prefix="b")])
    optimize(store, SampleRequest())
    assert store.status().segments == ()
    assert segment_files(store.folder) == set()
    optimize(store)
    load(store, random_items(3))
    assert [segment.role for segment in store.status().segments] == [Role.MAIN]


def test_a_crash_during_a_session_leaves_the_index_as_it_was(data_dir: Path, tmp_path: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(10))
    _, job = plan_load(store, random_items(10, prefix="new"), SessionMode.BUILD)
    run(job)
    copy = reopened_copy(store, tmp_path, "crashed")
    assert live_ids(copy) == set(random_items(10))
    assert not list(copy.folder.glob("session.*"))
    # What the lost build had taken is never used again.
    load(copy, random_items(5, prefix="later"))
    assert [(segment.generation, segment.min_label) for segment in copy.status().segments] == [(1, 0), (3, 20)]


def test_an_acknowledged_delete_is_there_after_a_crash(data_dir: Path, tmp_path: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(10))
    first = store.delete(["item-3", "none", "item-3", "item-4"], DELETE)
    assert (first.deleted, first.not_found, first.found.tolist()) == (2, 1, [True, False, True])
    copy = reopened_copy(store, tmp_path, "crashed")
    again = copy.delete(["item-3", "none", "item-4"], DELETE)
    assert (again.deleted, again.not_found, again.found.tolist()) == (2, 1, [True, False, True])
    assert again.record == first.record
    assert copy.status().sequence == store.status().sequence == 2
    assert live_ids(copy) == set(random_items(10)) - {"item-3", "item-4"}


# --- damage


@pytest.mark.parametrize("name", ["0000000001.hnsw", "0000000001.ids"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), "the manifest says", id="truncated"),
        pytest.param(lambda path: flip(path, path.stat().st_size // 2), "SHA-256 differs", id="bit-flipped"),
        pytest.param(lambda path: path.unlink(), "is missing", id="missing"),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_is_removed(
    data_dir: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    store = new_index(data_dir)
    load(store, random_items(20))
    store.builds.plan_rebuild(None, 1, None)
    store.close()
    (store.folder / "0000000002.hnsw").write_bytes(b"left over")
    damage(store.folder / name)
    with pytest.raises(CorruptFile, match=f"{name}: .*{message}"):
        Store.open(store.folder)
    assert (store.folder / "0000000002.hnsw").exists()


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_foreign_or_newer_database_is_refused(data_dir: Path) -> None:
    store = new_index(data_dir)
    store.close()
    database = store.folder / "index.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(CorruptFile, match=r"index.db: has format 3; this program reads format 2"):
        Store.open(store.folder)
    database.write_bytes(b"no database, but quite a long text" * 100)
    with pytest.raises(CorruptFile, match=r"index.db: .*not a database"):
        Store.open(store.folder)


def test_a_damaged_row_is_refused_by_its_crc(data_dir: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(20))
    store.close()
    with sqlite3.connect(store.folder / "index.db") as connection:
        connection.execute("UPDATE items SET label = 7 WHERE external_id = 'item-5'")
    connection.close()
    store = Store.open(store.folder)
    with pytest.raises(CorruptFile, match="label 7 is damaged"):
        store.delete(["item-4", "item-5"])
    assert store.status().counts.live == 20


# --- a full volume, a failing one


def test_a_full_volume_refuses_writes_until_there_is_space(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_index(data_dir)
    load(store, random_items(200))
    database: Database = store._database
    pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
    database.connection.execute(f"PRAGMA max_page_count = {pages}")
    big = NewOperation("big", "Rebuild", "d", request={"text": "x" * 100_000})
    with pytest.raises(OutOfSpace, match="no space left"):
        store.begin_operation(big)
    assert store.operation("big") is None
    with monkeypatch.context() as patched:
        patched.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4_096))
        assert "the volume is full" in (store.status().read_only or "")
    assert live_ids(store) == set(random_items(200))
    database.connection.execute(f"PRAGMA max_page_count = {pages + 1_000}")
    assert store.begin_operation(big).state is OperationState.QUEUED
    assert store.status().read_only is None


def test_a_volume_too_full_for_a_checkpoint_can_be_opened_and_read(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullAtCheckpoint(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if "wal_checkpoint" in sql:
                full = sqlite3.OperationalError("database or disk is full")
                full.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise full
            return super().execute(sql, *arguments)

    store = new_index(data_dir)
    load(store, random_items(10))
    store.close()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=FullAtCheckpoint))
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4_096))
    store = Store.open(store.folder)
    assert "the volume is full" in (store.status().read_only or "")
    assert live_ids(store) == set(random_items(10))


def test_a_build_is_kept_when_it_is_unknown_whether_its_swap_is_on_disk(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingCommit(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            cursor = super().execute(sql, *arguments)
            if sql == "COMMIT" and failing:
                failed = sqlite3.OperationalError("disk I/O error")  # of the fsync, after the WAL was written
                failed.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise failed
            return cursor

    failing = False
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=FailingCommit))
    store = new_index(data_dir)
    session, job = plan_load(store, random_items(20), SessionMode.INSERT)
    built = run(job)
    failing = True
    with pytest.raises(StoreFailed):
        store.builds.commit(job, built)
    store.builds.discard(job)
    session.discard()
    store.close()
    failing = False
    assert live_ids(Store.open(store.folder)) == set(random_items(20))


def test_files_that_cannot_be_removed_after_a_swap_do_not_undo_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "read-only file system", str(path))

    store = new_index(data_dir)
    load(store, random_items(20))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fail)
        rebuild(store)
    assert live_ids(store) == set(random_items(20))
    assert len(segment_files(store.folder)) == 4
    store.close()
    store = Store.open(store.folder)
    assert segment_files(store.folder) == {"0000000002.hnsw", "0000000002.ids"}


def test_a_store_that_failed_stays_failed_until_a_restart(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_index(data_dir)
    load(store, random_items(10))
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr("vectorindex.engine.items.kill", fail)
        with pytest.raises(StoreFailed, match=r"disk I/O error.*restart"):
            store.delete(["item-1"])
    with pytest.raises(StoreFailed, match="restart"):
        store.delete(["item-1"])
    with pytest.raises(StoreFailed):
        store.operations()
    assert "restart" in (store.status().read_only or "")
    store.close()
    store = Store.open(store.folder)
    assert store.delete(["item-1"]).deleted == 1
