"""Erasure: what was deleted before the seal of a rebuild or an optimize is in no byte of any file of the index."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import hnswlib
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.engine.harness import Vectors, flush, load, new_index, optimize, plan_load, random_items, rebuild, run
from vectorindex.engine import snapshot
from vectorindex.engine.catalog import create_index
from vectorindex.engine.distance import normalised
from vectorindex.engine.erasure import Erasure, Seal, SnapshotTrace, Traces, rfc3339, why_not
from vectorindex.engine.ledger import NewOperation, OperationState
from vectorindex.engine.params import IndexSpec, Metric
from vectorindex.engine.plain import import_hnsw
from vectorindex.engine.session import SessionMode
from vectorindex.engine.store import Store

DIMENSIONS = 16
Items = dict[str, Vectors]


def secret_items(count: int, random: np.random.Generator) -> Items:
    """IDs of any length up to the longest, so that the B-tree of the items is rebalanced often."""
    alphabet = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", np.uint8)
    lengths = random.integers(16, 513, count)
    names = [random.choice(alphabet, length).tobytes().decode() for length in lengths]
    vectors = random.standard_normal((count, DIMENSIONS)).astype(np.float32)
    return dict(zip(names, vectors, strict=True))


def windows(data: bytes) -> NDArray[np.uint64]:
    """All eight bytes in a row, as numbers."""
    if len(data) < 8:
        return np.empty(0, np.uint64)
    views = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), 8)
    return np.ascontiguousarray(views).view(np.uint64).ravel()


def secrets(names: Iterable[str], vectors: Iterable[Vectors]) -> NDArray[np.uint64]:
    """What must not be found: any eight bytes of the IDs, of the vectors, and of the vectors at length 1."""
    rows = list(vectors)
    texts = [name.encode() for name in names]
    texts += [row.tobytes() for row in rows]
    texts += [normalised(row[None])[0].tobytes() for row in rows]
    return np.unique(np.concatenate([windows(text) for text in texts]))


def found(folder: Path, secrets: NDArray[np.uint64]) -> dict[str, int]:
    """How many of the secrets each file below a folder holds."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    counts = {path.name: int(np.isin(secrets, windows(path.read_bytes())).sum()) for path in files}
    return {name: count for name, count in counts.items() if count}


class Lived:
    """An index that has lived: sessions, single writes, deletes and replaced items, of which some were never in a
    segment. ``gone``: the IDs deleted, ``old``: the vectors
    deleted or replaced."""

    def __init__(self, data_dir: Path, metric: Metric, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)
        self.store = new_index(data_dir, metric, DIMENSIONS)
        self.items: Items = {}
        self.gone: set[str] = set()
        self.old: list[Vectors] = []
        for _ in range(4):
            self.upsert(secret_items(120, self.random))
            names = sorted(self.items)
            again = [names[position] for position in self.random.choice(len(names), 20, replace=False)]
            self.upsert(dict(zip(again, secret_items(20, self.random).values(), strict=True)))
            self.delete(40)
        for _ in range(2):
            self.upsert(secret_items(60, self.random), singly=True)
            flush(self.store)
        unflushed = secret_items(60, self.random)
        self.upsert(unflushed, singly=True)
        again = list(unflushed)[:20]
        self.upsert(dict(zip(again, secret_items(20, self.random).values(), strict=True)), singly=True)
        self.delete(100)
        assert self.gone & unflushed.keys()

    def upsert(self, items: Items, *, singly: bool = False) -> None:
        if singly:
            self.store.upsert(list(items), np.stack(list(items.values())))
        else:
            load(self.store, items)
        self.old += [self.items[name] for name in items if name in self.items]
        self.items |= items

    def delete(self, count: int) -> set[str]:
        names = sorted(self.items)
        chosen = {names[position] for position in self.random.choice(len(names), count, replace=False)}
        assert self.store.delete(sorted(chosen)).deleted == count
        self.gone |= chosen
        self.old += [self.items.pop(name) for name in chosen]
        return chosen

    @property
    def secrets(self) -> NDArray[np.uint64]:
        return secrets(self.gone, self.old)


def ticking() -> Callable[[], float]:
    seconds = itertools.count(1_000_000)
    return lambda: float(next(seconds))


@pytest.fixture(params=[rebuild, optimize])
def maintain(request: pytest.FixtureRequest) -> Callable[[Store], object]:
    chosen: Callable[[Store], object] = request.param
    return chosen


@pytest.mark.parametrize("metric", Metric)
def test_no_byte_is_left_of_what_was_deleted_or_replaced(
    tmp_path: Path, metric: Metric, maintain: Callable[[Store], object]
) -> None:
    lived = Lived(tmp_path, metric)
    hidden = lived.secrets
    assert {path.split(".")[-1] for path in found(tmp_path, hidden)} >= {"hnsw", "ids"}
    maintain(lived.store)
    erasure = lived.store.settle([])
    assert erasure.before is not None
    assert found(tmp_path, hidden) == {}
    everything = found(tmp_path, secrets(lived.items, lived.items.values()))
    assert {"index.db"} < set(everything)  # where it is looked for, the live items are found
    lived.store.close()
    assert found(tmp_path, hidden) == {}


def test_what_is_deleted_while_the_build_runs_may_stay_until_the_next(tmp_path: Path) -> None:
    lived = Lived(tmp_path, Metric.COSINE)
    hidden = lived.secrets
    job = lived.store.builds.plan_rebuild(None, 1, None)
    later = lived.delete(30)
    built = run(job)
    lived.store.builds.commit(job, built)
    assert lived.store.settle([]) == Erasure(job.seal.time, None)
    assert found(tmp_path, hidden) == {}
    optimize(lived.store)
    assert lived.store.settle([]).before is not None
    assert found(tmp_path, secrets(later, [])) == {}
    assert found(tmp_path, lived.secrets) == {}


def test_after_a_restart_nothing_is_left_either(tmp_path: Path, maintain: Callable[[Store], object]) -> None:
    """Between the deletes and the build, and between the swap and the clean-up."""
    lived = Lived(tmp_path, Metric.L2)
    hidden = lived.secrets
    lived.store.close()
    store = Store.open(lived.store.folder)
    maintain(store)
    store.close()
    store = Store.open(store.folder)
    assert store.settle([]).before is not None
    assert found(tmp_path, hidden) == {}
    store.close()


def test_a_deleted_id_is_overwritten_in_the_database_without_a_build(tmp_path: Path) -> None:
    """As far as SQLite finds it, at the next checkpoint."""
    store = new_index(tmp_path)
    load(store, random_items(20))
    load(store, random_items(1, prefix="secret-of-somebody"))
    store.delete(["secret-of-somebody-0"])
    store.close()
    assert b"secret-of-somebody" not in (store.folder / "index.db").read_bytes()


def test_the_deleted_elements_of_an_imported_graph_are_gone(tmp_path: Path) -> None:
    vectors = np.random.default_rng(3).standard_normal((50, DIMENSIONS)).astype(np.float32)
    graph = hnswlib.Index("l2", DIMENSIONS)
    graph.init_index(50, M=4, ef_construction=20)
    graph.add_items(vectors)
    for label in range(10):
        graph.mark_deleted(label)
    graph.save_index(str(tmp_path / "plain.hnsw"))
    (tmp_path / "plain.txt").write_text("".join(f"name-{label}\n" for label in range(50)))
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    graph_file, list_file = tmp_path / "plain.hnsw", tmp_path / "plain.txt"
    import_hnsw(data_dir, "words", graph_file, list_file, DIMENSIONS, Metric.L2, lambda _: None)
    hidden = secrets([], vectors[:10])
    assert found(data_dir, hidden)
    store = Store.open(data_dir / "words")
    rebuild(store)
    assert store.settle([]).before is not None
    assert found(data_dir, hidden) == {}


# --- when it is said, and when not


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An index with items, some of them deleted, and a clock that ticks."""
    data_dir = tmp_path / "indexes"
    data_dir.mkdir()
    store = Store.open(create_index(data_dir, IndexSpec("words", 8, Metric.L2)), ticking())
    load(store, random_items(60))
    store.delete([f"item-{number}" for number in range(20)])
    yield store
    store.close()


REBUILD = NewOperation("rebuild.1", "Rebuild", "digest", {})


def rebuild_as_operation(store: Store) -> None:
    store.begin_operation(REBUILD)
    store.start_operation(REBUILD.id)
    job = store.builds.plan_rebuild(None, 1, None)
    store.builds.commit(job, run(job), REBUILD.id, {"vectors": 40})


def recorded(store: Store) -> tuple[OperationState, dict[str, object] | None]:
    record = store.operation(REBUILD.id)
    assert record is not None
    return record.state, record.result


def test_an_operation_has_not_succeeded_before_its_erasure_is_known(store: Store) -> None:
    rebuild_as_operation(store)
    assert recorded(store) == (OperationState.SWAPPED, {"vectors": 40})
    assert store.cancel_operation(REBUILD.id).state is OperationState.SWAPPED
    assert store.unfinished_operations() == []
    erasure = store.settle([])
    state, result = recorded(store)
    assert state is OperationState.SUCCEEDED
    assert erasure.before is not None
    assert result == {"vectors": 40, "erased_before": rfc3339(erasure.before)}
    assert store.settle([]) == erasure
    assert recorded(store) == (state, result)


def test_what_an_operation_could_not_say_the_index_says_later(store: Store) -> None:
    session, _ = plan_load(store, random_items(3, seed=5), SessionMode.UPSERT)
    rebuild_as_operation(store)
    why = "an ingest session is open; finalize it"
    assert store.settle([]) == Erasure(None, why)
    assert recorded(store) == (OperationState.SUCCEEDED, {"vectors": 40, "erasure_blocked": why})
    session.discard()
    assert store.settle([]).before is not None
    assert recorded(store)[1] == {"vectors": 40, "erasure_blocked": why}


def test_an_index_that_was_never_rebuilt_says_nothing(store: Store) -> None:
    assert store.settle([]) == Erasure(None, None)


@pytest.mark.parametrize("name", ["index.db.bak", "0000000001.hnsw.old", "folder", "0000000001.ids"])
def test_a_file_that_is_none_of_the_index_stands_against_it(store: Store, name: str) -> None:
    rebuild(store)
    path = store.folder / name
    path.mkdir() if name == "folder" else path.write_bytes(b"kept by somebody")
    blocked = store.settle([]).blocked
    assert blocked is not None
    assert name in blocked
    assert path.exists()
    path.rmdir() if name == "folder" else path.unlink()
    assert store.settle([]).before is not None


def test_the_files_of_a_build_that_runs_hold_nothing_from_before(store: Store) -> None:
    rebuild(store)
    before = store.settle([])
    run(store.builds.plan_rebuild(None, 1, None))
    assert len(list(store.folder.glob("*.hnsw"))) == 2
    assert store.settle([]) == before


def test_a_snapshot_from_before_stands_against_it_until_it_is_removed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "snapshots" / "words"
    folder.mkdir(parents=True)

    def take(name: str) -> None:
        snapshot.take(folder / name, lambda draft: snapshot.seal(store, draft), now=lambda: 1_800_000_000.0)

    take("old")
    rebuild(store)
    take("new")
    assert store.settle(snapshot.traces(folder)).blocked == (
        "snapshot old of 2027-01-15 may hold deleted items; remove it"
    )
    draft = folder / ".unfinished-1"
    (folder / "old").rename(draft)
    blocked = store.settle(snapshot.traces(folder)).blocked
    assert blocked is not None
    assert ".unfinished-1 is being made or removed" in blocked
    shutil.rmtree(draft)
    assert store.settle(snapshot.traces(folder)).before is not None
    store.delete(["item-30"])
    optimize(store)
    blocked = store.settle(snapshot.traces(folder)).blocked
    assert blocked is not None
    assert blocked.startswith("snapshot new ")


def test_a_restored_index_keeps_what_its_snapshot_could_say(store: Store, tmp_path: Path) -> None:
    rebuild(store)
    snapshot.take(tmp_path / "copy", lambda draft: snapshot.seal(store, draft))
    (tmp_path / "restored").mkdir()
    snapshot.restore(tmp_path / "copy", tmp_path / "restored")
    restored = Store.open(tmp_path / "restored" / "words")
    assert restored.settle([]).before == store.settle([]).before is not None
    restored.close()


SEAL = Seal(time=1_000.0, lsn=5, generation=7)
CLEAN = Traces(0, False, (), (), ())


@pytest.mark.parametrize(
    ("traces", "why"),
    [
        pytest.param(CLEAN, None, id="nothing"),
        pytest.param(Traces(3, False, (), (), ()), "3 items that were deleted before", id="tombstones"),
        pytest.param(Traces(0, True, (), (), ()), "an ingest session is open", id="session"),
        pytest.param(Traces(0, False, ("0000000006.ids",), (), ()), "file 0000000006.ids is left", id="leftover"),
        pytest.param(Traces(0, False, (), ("note.txt",), ()), "file note.txt in the index's folder", id="stranger"),
        pytest.param(
            Traces(0, False, (), (), [SnapshotTrace("a", 900.0, None)]),
            "snapshot a of 1970-01-01",
            id="before-any-seal",
        ),
        pytest.param(
            Traces(0, False, (), (), [SnapshotTrace("a", 2_000.0, 999.0)]), "snapshot a of", id="of-an-earlier-seal"
        ),
        pytest.param(Traces(0, False, (), (), [SnapshotTrace("a", 900.0, 1_000.0)]), None, id="of-this-seal"),
        pytest.param(Traces(0, False, (), (), [SnapshotTrace("a", 2_000.0, 1_001.0)]), None, id="of-a-later-seal"),
        pytest.param(
            Traces(0, False, (), (), [SnapshotTrace("a", None, None)]),
            "snapshot a is being made",
            id="no-whole-snapshot",
        ),
        pytest.param(
            Traces(0, False, (), (), [SnapshotTrace("a", 2_000.0, 1_000.0), SnapshotTrace("b", 1.0, 1.0)]),
            "snapshot b of",
            id="one-of-two",
        ),
    ],
)
def test_why_not(traces: Traces, why: str | None) -> None:
    said = why_not(SEAL, traces)
    assert (said is None) == (why is None)
    assert said is None or said.startswith(why or "")
