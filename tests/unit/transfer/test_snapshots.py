"""A snapshot is an index as it was after one write, whole or not there, and gives the same index back."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.engine.harness import (
    DIMENSIONS,
    live_ids,
    load,
    new_index,
    plan_load,
    random_items,
    rebuild,
    run,
    search_ids,
    segment_files,
    write,
)
from vectorindex.engine import snapshot as snapshots
from vectorindex.engine.catalog import index_names
from vectorindex.engine.errors import (
    CopyFailed,
    CorruptFile,
    EngineError,
    IndexExists,
    InvalidInput,
    OutOfSpace,
    TargetExists,
)
from vectorindex.engine.files import fsync_path, stamp
from vectorindex.engine.folders import UNFINISHED_PREFIX
from vectorindex.engine.ids_file import IdsFile
from vectorindex.engine.ledger import NewOperation, OperationState
from vectorindex.engine.params import Metric
from vectorindex.engine.session import SessionMode
from vectorindex.engine.snapshot import Sealed, Snapshot, read_snapshot, restore
from vectorindex.engine.store import Store

DELETE = NewOperation("delete-1", "Delete", "digest-1")
REBUILD = NewOperation("rebuild-1", "Rebuild", "digest-2", request={})


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def other_dir(tmp_path: Path) -> Path:
    path = tmp_path / "other"
    path.mkdir()
    return path


@pytest.fixture
def store(data_dir: Path) -> Store:
    """Main, delta and single writes, with deleted items in each and replaced ones."""
    store = new_index(data_dir, Metric.COSINE)
    load(store, random_items(200))
    load(store, random_items(50, seed=1, prefix="new") | random_items(1, seed=2))
    write(store, random_items(5, seed=3, prefix="single") | random_items(3, seed=4))
    store.delete(["item-5", "new-7", "single-2"], DELETE)
    store.configure({"threads": 3}, ef_search=77)
    return store


def take(store: Store, folder: Path) -> Snapshot:
    return snapshots.take(folder, lambda draft: snapshots.seal(store, draft))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def restored(folder: Path, data_dir: Path, name: str | None = None) -> Store:
    restore(folder, data_dir, name)
    return Store.open(data_dir / (name or "words"))


def test_a_restored_index_is_the_one_that_was(store: Store, tmp_path: Path, other_dir: Path) -> None:
    snapshot = take(store, tmp_path / "copy")
    before = content(tmp_path / "copy")
    copy = restored(tmp_path / "copy", other_dir)
    old, new = store.status(), copy.status()
    assert (new.spec, new.configuration, new.sequence) == (old.spec, old.configuration, old.sequence)
    assert (new.counts, new.segments) == (old.counts, old.segments)
    queries = np.random.default_rng(9).standard_normal((20, DIMENSIONS)).astype(np.float32)
    assert search_ids(copy, queries, 10) == search_ids(store, queries, 10)
    assert copy.operation(DELETE.id) == store.operation(DELETE.id)
    assert read_snapshot(tmp_path / "copy") == snapshot
    assert content(tmp_path / "copy") == before
    assert set(before) == {"index.db", "snapshot.json", *segment_files(store.folder)}


def test_a_restored_index_lives_on(store: Store, tmp_path: Path, other_dir: Path) -> None:
    """Neither its writes nor those of the first index reach the snapshot or each other."""
    take(store, tmp_path / "copy")
    before = content(tmp_path / "copy")
    copy = restored(tmp_path / "copy", other_dir, "more-words")
    assert copy.status().spec.name == "more-words"
    expected = live_ids(store)
    store.delete(["item-9"])
    rebuild(store)
    load(copy, random_items(3, prefix="later"))
    rebuild(copy)
    assert live_ids(store) == expected - {"item-9"}
    assert live_ids(copy) == expected | {f"later-{number}" for number in range(3)}
    assert content(tmp_path / "copy") == before
    copy.close()
    assert Store.open(copy.folder).status().counts.live == len(expected) + 3


def test_a_snapshot_of_an_empty_index(data_dir: Path, tmp_path: Path, other_dir: Path) -> None:
    take(new_index(data_dir), tmp_path / "copy")
    assert restored(tmp_path / "copy", other_dir).status().counts.live == 0


def test_it_is_the_index_at_the_seal(store: Store, tmp_path: Path, other_dir: Path) -> None:
    """A delete and a swap that come after it change nothing, though the swap unlinks the files of the seal."""
    expected = live_ids(store)

    def seal(draft: Path) -> Sealed:
        sealed = snapshots.seal(store, draft)
        store.delete(["item-1"])
        rebuild(store)
        return sealed

    snapshot = snapshots.take(tmp_path / "copy", seal)
    assert snapshot.sequence == store.status().sequence - 1
    assert live_ids(restored(tmp_path / "copy", other_dir)) == expected


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_where_files_cannot_be_linked_they_are_copied(
    store: Store, tmp_path: Path, other_dir: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Those of the seal, though a swap has taken their names away meanwhile."""
    expected = live_ids(store)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def seal(draft: Path) -> Sealed:
        with monkeypatch.context() as patched:
            patched.setattr("os.link", refuse)
            sealed = snapshots.seal(store, draft)
        rebuild(store)
        return sealed

    snapshots.take(tmp_path / "copy", seal)
    assert live_ids(restored(tmp_path / "copy", other_dir)) == expected


def test_unfinished_work_is_not_in_it(store: Store, tmp_path: Path, other_dir: Path) -> None:
    """Neither a build, nor a session, nor the operations that are theirs, so that nothing runs by itself afterwards."""
    expected = live_ids(store)
    store.begin_operation(REBUILD)
    store.start_operation(REBUILD.id)
    session, job = plan_load(store, random_items(20, prefix="later"), SessionMode.UPSERT)
    run(job)
    take(store, tmp_path / "copy")
    session.discard()
    copy = restored(tmp_path / "copy", other_dir)
    assert live_ids(copy) == expected
    assert [record.id for record in copy.operations()] == [DELETE.id]
    assert copy.begin_operation(REBUILD).state is OperationState.QUEUED
    assert not list(copy.folder.glob("session.*"))
    assert segment_files(copy.folder) == {f"000000000{number}.{end}" for number in (1, 2) for end in ("hnsw", "ids")}


def test_deleted_ids_are_in_no_page_of_its_database(store: Store, tmp_path: Path) -> None:
    take(store, tmp_path / "copy")
    database = (tmp_path / "copy/index.db").read_bytes()
    assert b"item-6" in database
    assert b"new-7" not in database


# --- whole, or not there


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(UNFINISHED_PREFIX)]


def test_what_is_there_is_never_overwritten(store: Store, tmp_path: Path, other_dir: Path) -> None:
    folder = tmp_path / "copy"
    take(store, folder)
    before = content(folder)
    with pytest.raises(TargetExists, match="copy exists already"):
        take(store, folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TargetExists, match="empty exists already"):
        take(store, tmp_path / "empty")
    with pytest.raises(IndexExists, match="index words exists already"):
        restore(folder, store.folder.parent)
    assert content(folder) == before
    assert not list((tmp_path / "empty").iterdir())
    assert not left_in(tmp_path)
    assert not left_in(store.folder.parent)


def test_the_slower_of_two_snapshots_of_a_name_is_refused(store: Store, tmp_path: Path) -> None:
    def seal(draft: Path) -> Sealed:
        take(store, tmp_path / "copy")
        return snapshots.seal(store, draft)

    with pytest.raises(TargetExists):
        snapshots.take(tmp_path / "copy", seal)
    assert read_snapshot(tmp_path / "copy")
    assert not left_in(tmp_path)


def test_a_crash_at_any_step_leaves_nothing_half_made(
    store: Store, tmp_path: Path, other_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each fsync and rename of a snapshot and of its restoring, the disk is looked at as it is then."""
    disk = tmp_path / "disk"
    (disk / "data").mkdir(parents=True)
    seen: list[tuple[bool, bool]] = []
    looking = False

    def look() -> None:
        nonlocal looking
        if looking:
            return
        looking = True
        crashed = tmp_path / f"crash-{len(seen)}"
        shutil.copytree(disk, crashed)
        complete = (crashed / "copy").exists()
        if complete:
            assert restore(crashed / "copy", other_dir, f"step-{len(seen)}").counts == store.status().counts
        names = index_names(crashed / "data")
        for name in names:
            Store.open(crashed / "data" / name).close()
        seen.append((complete, bool(names)))
        looking = False

    def after_look(original: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            look()
            original(*args)

        return call

    with monkeypatch.context() as patched:
        for module in ("files", "folders"):
            patched.setattr(f"vectorindex.engine.{module}.fsync_path", after_look(fsync_path))
        patched.setattr("os.rename", after_look(os.rename))
        take(store, disk / "copy")
        look()
        restore(disk / "copy", disk / "data")
        look()
    assert seen == sorted(seen)
    assert len(seen) >= 15
    assert {(False, False), (True, False), (True, True)} == set(seen)


def test_a_full_volume_and_a_bad_target_leave_the_store_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CopyFailed, match="index words cannot be copied: unable to open"):
        store.copy_database(tmp_path / "missing" / "index.db")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("vectorindex.engine.snapshot.stamp", full)
        with pytest.raises(OutOfSpace):
            take(store, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not left_in(tmp_path)
    assert store.status().read_only is None
    assert store.delete(["item-1"]).deleted == 1


def test_a_damaged_index_gives_no_snapshot(store: Store, tmp_path: Path) -> None:
    path = store.folder / "0000000001.hnsw"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=r"0000000001\.hnsw: its content has changed"):
        take(store, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


# --- damaged and foreign snapshots


def change_json(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "snapshot.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def swap_files(folder: Path) -> None:
    first, second = folder / "0000000001.hnsw", folder / "0000000002.hnsw"
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)


def flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).unlink()
        (folder / name).write_bytes(data)

    return change


def rename_in_list(folder: Path) -> None:
    path = folder / "snapshot.json"
    path.write_text(path.read_text().replace('"0000000001.hnsw"', '"../../0000000001.hnsw"'))


def unlist(folder: Path) -> None:
    """The description forgets the files of one segment."""
    path = folder / "snapshot.json"
    description = json.loads(path.read_text())
    for name in ("0000000002.hnsw", "0000000002.ids"):
        del description["files"][name]
    path.write_text(json.dumps(description))


def database_of_another(folder: Path) -> None:
    """Its own description is changed along, so that its SHA-256 is right."""
    with sqlite3.connect(folder / "index.db") as connection:
        connection.execute("UPDATE state SET sequence = sequence + 1")
    connection.close()
    path = folder / "snapshot.json"
    description = json.loads(path.read_text())
    found = stamp(folder / "index.db")
    description["files"]["index.db"] = {"size": found.size, "sha256": found.sha256}
    path.write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        pytest.param(lambda folder: (folder / "snapshot.json").unlink(), InvalidInput, "is no snapshot", id="none"),
        pytest.param(change_json(version=2), CorruptFile, r"snapshot\.json: has format 2", id="newer"),
        pytest.param(change_json(format="x"), CorruptFile, r"snapshot\.json: is not the description", id="foreign"),
        pytest.param(change_json(files=3), CorruptFile, r"snapshot\.json: is damaged", id="files"),
        pytest.param(change_json(counts={}), CorruptFile, r"snapshot\.json: is damaged", id="counts"),
        pytest.param(change_json(metric="Hamming"), CorruptFile, r"snapshot\.json: is damaged", id="metric"),
        pytest.param(change_json(sequence=1), CorruptFile, r"snapshot\.json: does not describe", id="sequence"),
        pytest.param(change_json(dimensions=9), CorruptFile, r"snapshot\.json: does not describe", id="dimensions"),
        pytest.param(change_json(index="../x"), InvalidInput, "index name", id="name-with-a-path"),
        pytest.param(rename_in_list, CorruptFile, r"snapshot\.json: is damaged", id="file-with-a-path"),
        pytest.param(unlist, CorruptFile, r"0000000002\.hnsw: is missing", id="file-unlisted"),
        pytest.param(
            lambda folder: (folder / "snapshot.json").write_text('{"format"'), CorruptFile, "cannot be read", id="cut"
        ),
        pytest.param(
            lambda folder: (folder / "0000000001.ids").unlink(), CorruptFile, r"0000000001\.ids: is missing", id="lost"
        ),
        pytest.param(flip("0000000001.ids"), CorruptFile, r"0000000001\.ids: .*SHA-256", id="flipped-ids"),
        pytest.param(flip("0000000002.hnsw"), CorruptFile, r"0000000002\.hnsw: .*SHA-256", id="flipped-graph"),
        pytest.param(flip("index.db"), CorruptFile, r"index\.db: .*SHA-256", id="flipped-database"),
        pytest.param(swap_files, CorruptFile, r"0000000001\.hnsw: ", id="two-files-exchanged"),
        pytest.param(database_of_another, CorruptFile, r"snapshot\.json: does not describe", id="database-exchanged"),
    ],
)
def test_a_damaged_snapshot_is_refused_and_kept(
    store: Store,
    tmp_path: Path,
    other_dir: Path,
    damage: Callable[[Path], None],
    error: type[EngineError],
    message: str,
) -> None:
    folder = tmp_path / "copy"
    take(store, folder)
    damage(folder)
    before = content(folder)
    with pytest.raises(error, match=message):
        restore(folder, other_dir)
    assert content(folder) == before
    assert not list(other_dir.iterdir())


def test_norms_come_back(store: Store, tmp_path: Path, other_dir: Path) -> None:
    take(store, tmp_path / "copy")
    copy = restored(tmp_path / "copy", other_dir)
    norms = IdsFile.open(copy.folder / "0000000001.ids").norms
    np.testing.assert_allclose(norms, np.linalg.norm(np.stack(list(random_items(200).values())), axis=1), rtol=1e-5)
