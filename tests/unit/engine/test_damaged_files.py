"""Any file of an index, a snapshot or a volume with a bit flipped, cut off, grown or zeroed: it is refused by its name
and kept as it is, or what it holds is what was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.unit.engine.harness import live_ids, load, new_index, random_items
from vectorindex.engine.errors import EngineError
from vectorindex.engine.snapshot import restore, seal, take
from vectorindex.engine.store import Store
from vectorindex.sidecar.errors import StartRefused
from vectorindex.sidecar.volume import Volume

TIMES = 40
SEGMENT_FILES = ["0000000001.hnsw", "0000000001.ids", "0000000002.hnsw", "0000000002.ids"]
Damage = Callable[[bytes, np.random.Generator], bytes]


def flip(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
    return bytes(changed)


def cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: int(random.integers(len(content)))]


def grow(content: bytes, random: np.random.Generator) -> bytes:
    return content + random.bytes(int(random.integers(1, 5_000)))


def zero(content: bytes, random: np.random.Generator) -> bytes:
    """A sector that the disk has lost."""
    start = int(random.integers(len(content))) // 512 * 512
    return content[:start] + bytes(len(content[start : start + 512])) + content[start + 512 :]


damages = pytest.mark.parametrize("damage", [flip, cut, grow, zero])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed index of two segments, as it is on disk after a kill: its last writes are in the WAL alone."""
    place = tmp_path_factory.mktemp("whole")
    (place / "live").mkdir()
    store = new_index(place / "live")
    load(store, random_items(60))
    load(store, random_items(30, seed=1, prefix="more"))
    store.delete(["item-3"])
    store.upsert(["single-0"], np.ones((1, 8), np.float32))
    shutil.copytree(store.folder, place / "words")
    store.close()
    return place / "words"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "words")
    return tmp_path / "words"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(attempt: Callable[[], object]) -> str:
    """The words with which it is refused; empty when it is not."""
    try:
        attempt()
    except (EngineError, StartRefused) as error:
        return str(error)
    return ""


def opened(folder: Path) -> None:
    Store.open(folder).close()


def damaged(path: Path, damage: Damage, seed: int) -> bytes:
    """Damages the file, and says how it is now."""
    before = path.read_bytes()
    after = damage(before, np.random.default_rng(seed))
    path.write_bytes(after)
    return before


@damages
@pytest.mark.parametrize("name", SEGMENT_FILES)
def test_a_segment_file_is_refused_by_its_name_and_all_is_kept(copy: Path, name: str, damage: Damage) -> None:
    Store.open(copy).close()  # so that the WAL is in the database, and a refused open changes no byte of it
    for seed in range(TIMES // 4):
        before = damaged(copy / name, damage, seed)
        if (copy / name).read_bytes() == before:  # zeros were there already
            continue
        expected = contents(copy)
        with pytest.raises(EngineError, match=f"^{name}: "):
            Store.open(copy)
        assert contents(copy) == expected
        (copy / name).write_bytes(before)
    store = Store.open(copy)
    assert len(live_ids(store)) == 90
    store.close()


@damages
def test_a_damaged_wal_gives_a_state_that_was(folder: Path, tmp_path: Path, damage: Damage) -> None:
    """What comes behind the damage is as if it had not been written; no more can be known of a log. Whatever is in a
    segment is there, or the index is refused, and then every file of a segment is kept."""
    (wal,) = folder.glob("index.db-wal")
    assert wal.stat().st_size > 0
    outcomes = {"opened": 0, "refused": 0}
    for seed in range(TIMES):
        place = tmp_path / f"{seed}" / "words"
        shutil.copytree(folder, place)
        damaged(place / wal.name, damage, seed)
        if why := refusal(partial(opened, place)):
            outcomes["refused"] += 1
            assert why.startswith("index.db")
            assert set(SEGMENT_FILES) <= set(contents(place))
        else:
            outcomes["opened"] += 1
            store = Store.open(place)
            assert live_ids(store) in legal_states()
            store.close()
        shutil.rmtree(place.parent)
    assert sum(outcomes.values()) == TIMES


def legal_states() -> list[set[str]]:
    first, more = set(random_items(60)), set(random_items(30, prefix="more"))
    return [set(), first, first | more, (first | more) - {"item-3"}, (first | more) - {"item-3"} | {"single-0"}]


@damages
def test_no_file_of_a_snapshot_is_restored_when_damaged(copy: Path, tmp_path: Path, damage: Damage) -> None:
    store = Store.open(copy)
    expected = live_ids(store)
    source = tmp_path / "snapshot"
    take(source, lambda draft: seal(store, draft))
    store.close()
    names = sorted(path.name for path in source.iterdir())
    assert names == [*SEGMENT_FILES, "index.db", "snapshot.json"]
    for seed in range(TIMES):
        name = names[seed % len(names)]
        path = source / name
        before = path.read_bytes()
        path.unlink()  # a segment's file is a second name of the index's own
        path.write_bytes(damage(before, np.random.default_rng(seed)))
        kept = contents(source)
        target = tmp_path / f"restored-{seed}"
        target.mkdir()
        if why := refusal(partial(restore, source, target, "words")):
            # What is wrong where a description and a file do not fit, nobody can tell.
            assert any(one in why for one in (names if name == "snapshot.json" else [name])), why
            assert list(target.iterdir()) == []
        else:
            assert name == "snapshot.json" or path.read_bytes() == before
            restored = Store.open(target / "words")
            assert live_ids(restored) == expected
            restored.close()
        assert contents(source) == kept
        path.write_bytes(before)


@damages
def test_a_volume_keeps_its_id_or_is_refused_by_name(tmp_path: Path, damage: Damage) -> None:
    Volume(tmp_path).close()
    path = tmp_path / "volume.json"
    whole = path.read_bytes()
    for seed in range(TIMES):
        changed = damage(whole, np.random.default_rng(seed))
        path.write_bytes(changed)
        why = refusal(lambda: Volume(tmp_path).close())
        assert not why or "volume.json" in why
        assert path.read_bytes() == changed
