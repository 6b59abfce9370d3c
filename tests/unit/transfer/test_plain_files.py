"""From a bare hnswlib file to an index and back; what does not fit is refused before anything is made of it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import pytest

from tests.unit.engine.harness import (
    DIMENSIONS,
    Vectors,
    distances,
    live_ids,
    load,
    new_index,
    random_items,
    rebuild,
    search_ids,
    write,
)
from vectorindex.engine.catalog import index_names
from vectorindex.engine.errors import CorruptFile, EngineError, IndexExists, InvalidInput, TargetExists
from vectorindex.engine.hnsw_file import HEADER
from vectorindex.engine.ids_file import IdsFile
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.plain import Imported, export_hnsw, import_hnsw
from vectorindex.engine.store import Store

SPACES = {Metric.COSINE: "cosine", Metric.L2: "l2", Metric.INNER_PRODUCT: "ip"}
M = 6
COUNT = 300
QUERIES = np.random.default_rng(99).standard_normal((30, DIMENSIONS)).astype(np.float32)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def quiet(_: str) -> None:
    pass


def build(metric: Metric, vectors: Vectors, labels: Any = None) -> hnswlib.Index:
    index = hnswlib.Index(SPACES[metric], vectors.shape[1])
    index.init_index(len(vectors) + 50, M=M, ef_construction=60, random_seed=3)
    index.add_items(vectors, np.arange(len(vectors)) if labels is None else labels, num_threads=1)
    return index


def vectors_of(count: int = COUNT) -> Vectors:
    return np.stack(list(random_items(count).values()))


class Given:
    """A file of bare hnswlib and its list, in a folder of their own."""

    def __init__(self, folder: Path, index: hnswlib.Index, lines: list[str]) -> None:
        self.folder = folder
        folder.mkdir()
        self.hnsw, self.ids = folder / "items.bin", folder / "items.txt"
        index.save_index(str(self.hnsw))
        self.ids.write_text("".join(f"{line}\n" for line in lines))

    def load(self, data_dir: Path, metric: Metric = Metric.L2, dimensions: int = DIMENSIONS) -> Imported:
        return import_hnsw(data_dir, "words", self.hnsw, self.ids, dimensions, metric, quiet)


def names(count: int = COUNT) -> list[str]:
    return [f"item-{number}" for number in range(count)]


@pytest.mark.parametrize("metric", Metric)
def test_an_imported_index_answers_like_hnswlib(tmp_path: Path, data_dir: Path, metric: Metric) -> None:
    index = build(metric, vectors_of())
    given = Given(tmp_path / "given", index, names())
    before = given.hnsw.read_bytes(), given.ids.read_bytes()
    imported = given.load(data_dir, metric)
    assert (imported.live, imported.deleted, imported.unused_lines) == (COUNT, 0, 0)
    assert imported.spec.parameters == Parameters(m=M, ef_construction=60)
    store = Store.open(data_dir / "words")
    index.set_ef(100)
    labels, _ = index.knn_query(QUERIES, k=10, num_threads=1)
    assert search_ids(store, QUERIES, 10, ef=100) == [[f"item-{label}" for label in row] for row in labels]
    assert (given.hnsw.read_bytes(), given.ids.read_bytes()) == before


@pytest.mark.parametrize("metric", Metric)
def test_an_imported_index_lives_on(tmp_path: Path, data_dir: Path, metric: Metric) -> None:
    Given(tmp_path / "given", build(metric, vectors_of()), names()).load(data_dir, metric)
    store = Store.open(data_dir / "words")
    store.delete(["item-3"])
    load(store, random_items(5, seed=8, prefix="new"))
    rebuild(store)
    expected = (set(names()) - {"item-3"}) | {f"new-{number}" for number in range(5)}
    assert live_ids(store) == expected
    items = random_items(COUNT) | random_items(5, seed=8, prefix="new")
    del items["item-3"]
    nearest = [list(items)[int(np.argmin(distances(list(items.values()), query, metric)))] for query in QUERIES]
    assert [found[0] for found in search_ids(store, QUERIES, 1, ef=300)] == nearest
    status = store.status()
    assert (status.sequence, status.segments[0].min_label) == (3, 0)


def test_labels_are_line_numbers(tmp_path: Path, data_dir: Path) -> None:
    """Sparse, in any order; a line that no item needs may hold anything or nothing."""
    vectors = vectors_of(5)
    lines = ["", "one", "", "three", "four", "spare", "six", "seven"]
    labels = [6, 1, 7, 3, 4]
    given = Given(tmp_path / "given", build(Metric.L2, vectors, labels), lines)
    assert given.load(data_dir).unused_lines == 3
    found = search_ids(Store.open(data_dir / "words"), vectors, 1)
    assert found == [[lines[label]] for label in labels]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("last", [True, False], ids=["last-line-ends", "last-line-is-open"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
def test_lists_as_editors_write_them(tmp_path: Path, data_dir: Path, end: str, last: bool, mark: bytes) -> None:
    given = Given(tmp_path / "given", build(Metric.L2, vectors_of(3)), [])
    ids = ["naïve ✓", "a b", "\u2028"]
    given.ids.write_bytes(mark + (end.join(ids) + (end if last else "")).encode())
    given.load(data_dir)
    assert live_ids(Store.open(data_dir / "words")) == set(ids)


def test_deleted_items_are_left_out(tmp_path: Path, data_dir: Path) -> None:
    """Also when their line is missing, or holds the ID of the item that took their place."""
    index = build(Metric.L2, vectors_of(), np.arange(COUNT))
    dead = [0, 7, 250, COUNT - 1]
    for label in dead:
        index.mark_deleted(label)
    lines = names()[:-1]
    lines[7] = "item-8"
    imported = Given(tmp_path / "given", index, lines).load(data_dir)
    assert (imported.live, imported.deleted) == (COUNT - 4, 4)
    store = Store.open(data_dir / "words")
    assert store.status().counts.deleted == 4
    assert live_ids(store) == set(names()) - {f"item-{label}" for label in dead}
    ids = IdsFile.open(store.folder / "0000000001.ids")
    assert [ids.external_id(row) for row in dead] == ["-"] * 4
    rebuild(store)
    assert (store.status().counts.live, store.status().counts.deleted) == (COUNT - 4, 0)


@pytest.mark.parametrize("metric", Metric)
def test_lengths_are_kept_where_they_are_known(tmp_path: Path, data_dir: Path, metric: Metric) -> None:
    Given(tmp_path / "given", build(metric, vectors_of()), names()).load(data_dir, metric)
    norms = IdsFile.open(data_dir / "words" / "0000000001.ids").norms
    lengths = np.linalg.norm(vectors_of(), axis=1)
    np.testing.assert_allclose(norms, np.ones(COUNT) if metric is Metric.COSINE else lengths, rtol=1e-5)


# --- refused


def patch(format_: str, at: int, value: float) -> Callable[[Given], None]:
    def change(given: Given) -> None:
        data = bytearray(given.hnsw.read_bytes())
        struct.pack_into(format_, data, at, value)
        given.hnsw.write_bytes(data)

    return change


def relist(change: Callable[[list[str]], list[str]]) -> Callable[[Given], None]:
    def rewrite(given: Given) -> None:
        given.ids.write_text("\n".join(change(names())))

    return rewrite


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        pytest.param(relist(lambda lines: lines[:-1]), InvalidInput, "label 299 has none", id="a-line-missing"),
        pytest.param(relist(lambda _: []), InvalidInput, "label 299 has none", id="no-lines"),
        pytest.param(
            relist(lambda lines: ["item-9", *lines[1:]]),
            InvalidInput,
            r"items\.txt: 2 items share their ID.* labels 0, 9",
            id="an-id-twice",
        ),
        pytest.param(
            relist(lambda lines: [*lines[:4], "", *lines[5:]]), InvalidInput, r"external ID 4: .*not 0", id="empty-line"
        ),
        pytest.param(
            relist(lambda lines: [*lines[:4], "x" * 513, *lines[5:]]), InvalidInput, "external ID 4", id="long-id"
        ),
        pytest.param(
            lambda given: given.ids.write_bytes(b"a\nb\n\xff\n"), InvalidInput, "line 2, .* is not UTF-8", id="latin-1"
        ),
        pytest.param(
            lambda given: given.hnsw.write_bytes(given.hnsw.read_bytes()[:-5]), CorruptFile, "items.bin", id="cut"
        ),
        pytest.param(lambda given: given.hnsw.write_bytes(b""), CorruptFile, "items.bin: .*mapped", id="empty"),
        pytest.param(lambda given: given.hnsw.write_bytes(b"x" * 500), CorruptFile, "items.bin", id="foreign"),
        pytest.param(patch("<I", HEADER.size + 4, COUNT), CorruptFile, "items.bin: .*link on level 0", id="bad-link"),
        pytest.param(patch("<I", HEADER.size + 4, 0), CorruptFile, "items.bin: .*link to itself", id="link-to-itself"),
        pytest.param(patch("<Q", 88, 20_000), InvalidInput, "ef_construction", id="parameters"),
        pytest.param(
            patch("<f", HEADER.size + 4 + 8 * M, 1e30), InvalidInput, "label 0 has length 1e", id="a-vector-too-long"
        ),
        pytest.param(lambda given: given.hnsw.unlink(), FileNotFoundError, "items.bin", id="no-file"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, data_dir: Path, damage: Callable[[Given], None], error: type[Exception], message: str
) -> None:
    given = Given(tmp_path / "given", build(Metric.L2, vectors_of()), names())
    damage(given)
    before = {path.name: path.read_bytes() for path in given.folder.iterdir()}
    with pytest.raises(error, match=message):
        given.load(data_dir)
    assert not list(data_dir.iterdir())
    assert {path.name: path.read_bytes() for path in given.folder.iterdir()} == before


def test_other_dimensions_and_another_space_are_refused(tmp_path: Path, data_dir: Path) -> None:
    given = Given(tmp_path / "given", build(Metric.L2, vectors_of()), names())
    with pytest.raises(CorruptFile, match="not those of 9 dimensions"):
        given.load(data_dir, dimensions=9)
    with pytest.raises(InvalidInput, match="under cosine hnswlib stores length 1"):
        given.load(data_dir, Metric.COSINE)
    assert not index_names(data_dir)


def test_an_index_that_exists_is_left_alone(tmp_path: Path, data_dir: Path) -> None:
    store = new_index(data_dir)
    load(store, random_items(3))
    with pytest.raises(IndexExists, match="words exists already"):
        Given(tmp_path / "given", build(Metric.L2, vectors_of()), names()).load(data_dir)
    assert live_ids(store) == {"item-0", "item-1", "item-2"}


# --- exports


def bare(folder: Path, graph: str, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> tuple[hnswlib.Index, list[str]]:
    """Loaded by the program that the exported README gives for its main graph."""
    monkeypatch.chdir(folder)
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert found is not None
    program = found[1]
    assert f'space="{SPACES[metric]}"' in program
    scope: dict[str, Any] = {}
    exec(program.replace('"main.', f'"{graph}.'), scope)
    return scope["index"], scope["ids"]


@pytest.mark.parametrize("metric", Metric)
def test_an_export_is_searched_by_bare_hnswlib(
    tmp_path: Path, data_dir: Path, metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_index(data_dir, metric, parameters=Parameters(m=8, ef_construction=100))
    load(store, random_items(COUNT))
    rebuild(store)
    load(store, random_items(40, seed=5, prefix="new") | random_items(1, seed=6))
    load(store, random_items(10, seed=7, prefix="newer"))
    write(store, random_items(9, seed=8, prefix="single"))
    store.delete(["item-4", "new-3", "single-1"])
    exported = export_hnsw(store, tmp_path / "export", quiet)
    assert exported.graphs == ("main.hnsw", "delta-1.hnsw", "delta-2.hnsw", "delta-3.hnsw")
    assert (exported.live, exported.deleted) == (COUNT + 56, 3)
    answers: list[list[tuple[float, str]]] = [[] for _ in QUERIES]
    known: set[str] = set()
    for graph in exported.graphs:
        index, ids = bare(tmp_path / "export", graph.removesuffix(".hnsw"), metric, monkeypatch)
        index.set_ef(400)
        known |= set(filter(None, ids))
        labels, found = index.knn_query(QUERIES, k=8)
        for row, answer in enumerate(answers):
            answer.extend((float(found[row][n]), ids[labels[row][n]]) for n in range(8))
    assert [[name for _, name in sorted(answer)[:8]] for answer in answers] == search_ids(store, QUERIES, 8, ef=400)
    assert known == live_ids(store)


@pytest.mark.parametrize("metric", Metric)
def test_export_then_import_gives_the_same_answers(tmp_path: Path, data_dir: Path, metric: Metric) -> None:
    store = new_index(data_dir, metric, parameters=Parameters(m=8, ef_construction=100))
    load(store, random_items(COUNT))
    store.delete([f"item-{number}" for number in range(0, COUNT, 7)])
    folder = tmp_path / "export"
    export_hnsw(store, folder, quiet)
    imported = import_hnsw(data_dir, "again", folder / "main.hnsw", folder / "main.ids.txt", DIMENSIONS, metric, quiet)
    again = Store.open(data_dir / "again")
    assert imported.spec.parameters == Parameters(m=8, ef_construction=100)
    assert again.status().counts == store.status().counts
    assert search_ids(again, QUERIES, 20) == search_ids(store, QUERIES, 20)
    export_hnsw(again, tmp_path / "twice", quiet)
    for name in ("main.hnsw", "main.ids.txt"):
        assert (tmp_path / "twice" / name).read_bytes() == (folder / name).read_bytes()


def test_an_export_leaves_the_index_alone_and_appears_whole(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_index(data_dir)
    with pytest.raises(InvalidInput, match="nothing to export"):
        export_hnsw(store, tmp_path / "export", quiet)
    load(store, random_items(20))
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}

    def fail(*_: object) -> None:
        raise EngineError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr("vectorindex.engine.plain._readme", fail)
        with pytest.raises(EngineError):
            export_hnsw(store, tmp_path / "export", quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    export_hnsw(store, tmp_path / "export", quiet)
    with pytest.raises(TargetExists):
        export_hnsw(store, tmp_path / "export", quiet)
    assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == before
