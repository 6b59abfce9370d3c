"""Old, foreign and exchanged files in an index's folder: refused by name at the open, and kept as they are."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.engine.harness import live_ids, load, new_index, random_items, rebuild
from vectorindex.engine.catalog import create_index, index_folder, index_names
from vectorindex.engine.errors import CorruptFile, EngineError, IndexExists, IndexNotFound
from vectorindex.engine.params import IndexSpec, Metric
from vectorindex.engine.store import Store

COUNT = 60


class Volume:
    """``words``: two segments, closed, and what it was before its second session; ``other``: an index of the same name
    and sizes on another volume, with other items."""

    def __init__(self, tmp_path: Path) -> None:
        self.indexes = tmp_path / "data"
        self.folder = self._fill(self.indexes, 0)
        self.before = self._copy(tmp_path / "before")
        store = Store.open(self.folder)
        load(store, random_items(COUNT, seed=1, prefix="more"))
        store.close()
        self.other = self._fill(tmp_path / "elsewhere", 5)
        self.empty = tmp_path / "void" / "words"
        self.empty.parent.mkdir()
        create_index(self.empty.parent, IndexSpec("words", 8, Metric.L2))

    def _fill(self, data_dir: Path, seed: int) -> Path:
        data_dir.mkdir()
        store = new_index(data_dir)
        load(store, random_items(COUNT, seed))
        store.close()
        return store.folder

    def _copy(self, to: Path) -> Path:
        shutil.copytree(self.folder, to / "words")
        return to / "words"

    def exchange(self, first: str, second: str) -> None:
        (self.folder / first).rename(self.folder / "x")
        (self.folder / second).rename(self.folder / first)
        (self.folder / "x").rename(self.folder / second)

    def sql(self, statement: str) -> None:
        connection = sqlite3.connect(self.folder / "index.db", isolation_level=None)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement)
        connection.close()

    def put(self, source: Path, name: str) -> None:
        shutil.copyfile(source / name, self.folder / name)

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


DATABASE = "index.db"
ONE, TWO = "0000000001", "0000000002"


def put(where: str, name: str) -> Callable[[Volume], None]:
    """Overwrites a file by that of another folder."""
    return lambda volume: volume.put(getattr(volume, where), name)


def exchange(first: str, second: str) -> Callable[[Volume], None]:
    return lambda volume: volume.exchange(first, second)


def sql(statement: str) -> Callable[[Volume], None]:
    return lambda volume: volume.sql(statement)


def cut(volume: Volume) -> None:
    (volume.folder / DATABASE).write_bytes((volume.folder / DATABASE).read_bytes()[:-4096])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(exchange(f"{ONE}.hnsw", f"{TWO}.hnsw"), f"{ONE}.hnsw: ", id="two-graphs-exchanged"),
        pytest.param(exchange(f"{ONE}.ids", f"{TWO}.ids"), f"{ONE}.ids: ", id="two-lists-of-ids-exchanged"),
        pytest.param(put("other", f"{ONE}.hnsw"), f"{ONE}.hnsw: ", id="graph-of-an-index-of-the-same-shape"),
        pytest.param(put("other", f"{ONE}.ids"), f"{ONE}.ids: its content", id="ids-of-an-index-of-the-same-shape"),
        pytest.param(put("other", DATABASE), f"has never named {TWO}.hnsw", id="database-of-an-index-of-that-name"),
        pytest.param(put("empty", DATABASE), f"has never named {ONE}.hnsw", id="database-of-an-empty-index"),
        pytest.param(put("before", DATABASE), f"has never named {TWO}.hnsw", id="database-of-yesterday"),
        pytest.param(sql("UPDATE state SET name = 'x'"), "is the database of index x", id="database-of-another-index"),
        pytest.param(lambda volume: (volume.folder / DATABASE).unlink(), "is missing", id="database-missing"),
        pytest.param(lambda volume: (volume.folder / DATABASE).write_bytes(b""), "is not the", id="database-empty"),
        pytest.param(cut, "is damaged", id="database-truncated"),
        pytest.param(sql("PRAGMA application_id = 7"), "is not the database", id="database-of-another-program"),
        pytest.param(sql("PRAGMA user_version = 0"), "has format 0", id="older-format"),
        pytest.param(sql("PRAGMA user_version = 99"), "has format 99", id="newer-format"),
        pytest.param(sql("DELETE FROM state"), "does not hold the state", id="no-state"),
        pytest.param(sql("UPDATE state SET metric = 'Cos'"), "does not hold the state", id="metric"),
        pytest.param(sql("UPDATE state SET m = 0"), "does not hold the state", id="parameters"),
        pytest.param(sql("UPDATE state SET configuration = '{'"), "does not hold the state", id="configuration"),
        pytest.param(sql("UPDATE segments SET role = 'x'"), "does not hold the state", id="role"),
        pytest.param(sql("DROP TABLE dead"), "does not hold the state", id="table-missing"),
        pytest.param(sql("DELETE FROM items WHERE label = 3"), "names 119 live", id="item-lost"),
    ],
)
def test_it_is_refused_by_name_and_kept(volume: Volume, change: Callable[[Volume], None], message: str) -> None:
    (volume.folder / "note.txt").write_text("mine")
    change(volume)
    before = volume.content()
    with pytest.raises(CorruptFile, match=re.escape(message)) as refusal:
        Store.open(volume.folder)
    assert str(refusal.value).startswith((DATABASE, ONE))
    after = volume.content()
    assert after.pop("lock") == b""
    before.pop("lock", None)
    assert after == before


def test_an_index_without_its_database_is_not_made_anew(volume: Volume) -> None:
    (volume.folder / DATABASE).unlink()
    assert index_names(volume.indexes) == ["words"]
    assert index_folder(volume.indexes, "words") == volume.folder
    with pytest.raises(IndexExists):
        create_index(volume.indexes, IndexSpec("words", 8, Metric.L2))
    with pytest.raises(IndexNotFound, match=r"there is no index\.db"):
        Store.open(volume.indexes / "nothing")


def test_files_that_are_none_of_ours_are_left_alone(volume: Volume) -> None:
    """Leftovers of builds go, whatever else lies in the folder stays."""
    strangers = ["note.txt", "1.hnsw", "0000000001.hnsw.bak", "00000000001.ids"]
    for name in strangers:
        (volume.folder / name).write_text(name)
    (volume.indexes / "lost+found").mkdir()
    store = Store.open(volume.folder)
    store.builds.plan_rebuild(None, 1, None)
    store.close()
    (volume.folder / "0000000003.hnsw").write_bytes(b"of a build that ended early")
    store = Store.open(volume.folder)
    assert not (volume.folder / "0000000003.hnsw").exists()
    rebuild(store)
    assert [(volume.folder / name).read_text() for name in strangers] == strangers
    assert index_names(volume.indexes) == ["words"]


def test_a_database_with_any_byte_changed_is_refused_or_holds_what_it_held(volume: Volume) -> None:
    """No page has a checksum, so that some changes are found when a row is used; none may end in anything but a
    refusal, none may lose a file of a segment."""
    database = volume.folder / DATABASE
    content = database.read_bytes()
    kept = {name for name in volume.content() if name.endswith((".hnsw", ".ids"))}
    random = np.random.default_rng(4)
    refused = opened = 0
    for _ in range(150):
        data = bytearray(content)
        data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        database.write_bytes(data)
        try:
            store = Store.open(volume.folder)
        except EngineError:
            refused += 1
        else:
            opened += 1
            assert len(live_ids(store)) == 2 * COUNT
            store.close()
        assert kept <= set(volume.content())
    assert refused > 5
    assert opened > 5
