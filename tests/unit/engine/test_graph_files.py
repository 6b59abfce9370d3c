"""No file reaches hnswlib before it was verified: truncated, changed, crafted and foreign ones are refused by name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import hnswlib
import numpy as np
import pytest

from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.hnsw_file import HEADER, HnswFile
from vectorindex.engine.params import Metric
from vectorindex.engine.structure import check_structure, reachable

DIMENSIONS, COUNT, M = 6, 300, 4
ELEMENT = 4 + 4 * 2 * M + 4 * DIMENSIONS + 8
UPPER = HEADER.size + COUNT * ELEMENT


def write_graph(path: Path, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> bytes:
    index = hnswlib.Index("l2", vectors.shape[1])
    index.init_index(len(vectors), M=M, ef_construction=40, random_seed=3)
    index.add_items(vectors, np.arange(len(vectors)) + 1_000, num_threads=1)
    index.save_index(str(path))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0000000007.hnsw"


@pytest.fixture
def content(path: Path) -> bytes:
    return write_graph(path, np.random.default_rng(0).standard_normal((COUNT, DIMENSIONS)).astype(np.float32))


def put(format_: str, at: int, value: float) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into(format_, data, at, value)


def first_upper(data: bytearray) -> int:
    """Where the size of the first item that has upper lists stands."""
    at = UPPER
    while struct.unpack_from("<I", data, at)[0] == 0:
        at += 4
    return at


def put_upper(offset: int, value: int) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into("<I", data, first_upper(data) + offset, value)


def no_upper_item(data: bytearray) -> None:
    """A link on level 1 to an item that is on level 0 alone, whose lists hnswlib would read from nowhere."""
    at = UPPER
    item = 0
    while struct.unpack_from("<I", data, at)[0] != 0:
        at += 4 + struct.unpack_from("<I", data, at)[0]
        item += 1
    start = first_upper(data)
    struct.pack_into("<II", data, start + 4, 1, item)


def test_a_file_of_hnswlib_is_read_as_it_is(path: Path, content: bytes) -> None:
    graph = HnswFile.open(path, DIMENSIONS, Metric.L2)
    index = hnswlib.Index("l2", DIMENSIONS)
    index.load_index(str(path))
    assert sorted(graph.labels.tolist()) == sorted(index.get_ids_list())
    np.testing.assert_array_equal(graph.vectors, index.get_items(graph.labels))
    assert (graph.m, graph.ef_construction, graph.count) == (M, 40, COUNT)
    levels = graph.graph.levels()
    assert len(levels) == COUNT
    assert levels[graph.entry_point] == levels.max() >= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(put("<Q", 0, 8), "elements are not those", id="level-0-offset"),
        pytest.param(put("<Q", 8, COUNT - 1), "in room for", id="capacity-below-count"),
        pytest.param(put("<Q", 16, COUNT + 1), "", id="one-item-more"),
        pytest.param(put("<Q", 16, COUNT - 1), "", id="one-item-less"),
        pytest.param(put("<Q", 16, 0), "no items", id="no-items"),
        pytest.param(put("<Q", 16, 2**60), "in room for", id="absurd-count"),
        pytest.param(put("<Q", 24, ELEMENT + 4), "elements are not those", id="element-size"),
        pytest.param(put("<Q", 32, 8), "elements are not those", id="label-offset"),
        pytest.param(put("<i", 48, 99), "highest level", id="max-level"),
        pytest.param(put("<I", 52, COUNT), "entry point", id="entry-point"),
        pytest.param(put("<Q", 56, M + 1), "no graph of ours", id="max-m"),
        pytest.param(put("<Q", 64, 2**40), "no graph of ours", id="max-m0"),
        pytest.param(put("<d", 80, 2.0), "level factor", id="level-factor"),
        pytest.param(put("<Q", 88, 0), "ef_construction", id="ef-construction"),
        pytest.param(put("<H", HEADER.size, 2 * M + 1), "link count above", id="link-count"),
        pytest.param(put("<I", HEADER.size, 1 << 20), "unknown flags", id="flags"),
        pytest.param(put("<I", HEADER.size + 4, COUNT), "link on level 0", id="link-target"),
        pytest.param(put("<f", HEADER.size + 4 + 8 * M, float("nan")), "NaN", id="vector"),
        pytest.param(put("<Q", HEADER.size + 2 * ELEMENT - 8, 1_000), "label twice", id="label"),
        pytest.param(put_upper(0, 8), "upper lists of 8 bytes", id="upper-size"),
        pytest.param(put_upper(4, M + 1), "link count above its limit on level 1", id="upper-count"),
        pytest.param(put_upper(8, COUNT), "link on level 1", id="upper-target"),
        pytest.param(no_upper_item, "that is not on it", id="upper-target-without-that-level"),
        pytest.param(lambda data: data.extend(b"\0" * 4), "bytes too many", id="longer"),
        pytest.param(lambda data: data.__delitem__(slice(-4, None)), "", id="shorter-by-one-word"),
        pytest.param(lambda data: data.__delitem__(slice(UPPER, None)), "too short", id="no-upper-lists"),
        pytest.param(lambda data: data.__delitem__(slice(50, None)), "shorter than a header", id="half-a-header"),
        pytest.param(lambda data: data.clear(), "cannot be mapped", id="empty"),
        pytest.param(lambda data: data.__setitem__(slice(0, 16), b"SQLite format 3\0"), "", id="foreign"),
    ],
)
def test_a_changed_file_is_refused_by_name(
    path: Path, content: bytes, change: Callable[[bytearray], None], message: str
) -> None:
    data = bytearray(content)
    change(data)
    assert bytes(data) != content
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=f"0000000007.hnsw: .*{message}"):
        HnswFile.open(path, DIMENSIONS, Metric.L2)


def test_other_dimensions_are_refused(path: Path, content: bytes) -> None:
    with pytest.raises(CorruptFile, match="not those of 7 dimensions"):
        HnswFile.open(path, DIMENSIONS + 1, Metric.L2)


def test_what_passes_can_be_loaded_and_searched(path: Path, content: bytes) -> None:
    """Words flipped at random: either refused, or harmless to hnswlib. A crash would end the test run."""
    random = np.random.default_rng(1)
    accepted = 0
    for _ in range(400):
        data = bytearray(content)
        at = int(random.integers(len(data) // 4)) * 4
        struct.pack_into("<I", data, at, int(random.choice([0, 1, COUNT - 1, COUNT, 2**31, 2**32 - 1])))
        path.write_bytes(data)
        try:
            HnswFile.open(path, DIMENSIONS, Metric.L2)
        except CorruptFile:
            continue
        accepted += 1
        index = hnswlib.Index("l2", DIMENSIONS)
        index.load_index(str(path), max_elements=COUNT)
        index.knn_query(np.zeros((1, DIMENSIONS), np.float32), k=3, num_threads=1)
    assert 0 < accepted < 400


def test_a_new_graph_passes_the_structure_check(path: Path, content: bytes) -> None:
    report = check_structure(HnswFile.open(path, DIMENSIONS, Metric.L2))
    assert (report.count, report.unreachable) == (COUNT, 0)
    assert report.links > COUNT


def same_link_twice(data: bytearray) -> None:
    first = HEADER.size + 4
    data[first : first + 4] = data[first + 4 : first + 8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(put("<I", HEADER.size + 4, 0), "link to itself on level 0", id="self"),
        pytest.param(same_link_twice, "same link twice on level 0", id="twice"),
        pytest.param(put("<B", HEADER.size + 2, 1), "1 dead items", id="dead"),
    ],
)
def test_what_must_never_be_in_a_new_graph(
    path: Path, content: bytes, change: Callable[[bytearray], None], message: str
) -> None:
    data = bytearray(content)
    change(data)
    path.write_bytes(data)
    graph = HnswFile.open(path, DIMENSIONS, Metric.L2)
    with pytest.raises(CorruptFile, match=message):
        check_structure(graph)


def test_items_that_no_link_leads_to_are_counted(path: Path, content: bytes) -> None:
    """All links to one item are turned to another; it is on level 0 alone and is not the entry point."""
    graph = HnswFile.open(path, DIMENSIONS, Metric.L2)
    lost = int(np.flatnonzero(graph.graph.levels() == 0)[0])
    assert reachable(graph).all()
    data = bytearray(content)
    for element in range(COUNT):
        count, *links = struct.unpack_from(f"<I{2 * M}I", data, HEADER.size + element * ELEMENT)
        if lost in links[:count]:
            other = next(target for target in range(COUNT) if target not in (element, lost, *links[:count]))
            struct.pack_into("<I", data, HEADER.size + element * ELEMENT + 4 + 4 * links.index(lost), other)
    path.write_bytes(data)
    changed = HnswFile.open(path, DIMENSIONS, Metric.L2)
    assert np.flatnonzero(~reachable(changed)).tolist() == [lost]
    assert check_structure(changed).unreachable == 1


def test_hnswlib_leaves_equal_vectors_unreachable_and_they_are_counted(path: Path) -> None:
    write_graph(path, np.ones((1_000, DIMENSIONS), np.float32))
    assert check_structure(HnswFile.open(path, DIMENSIONS, Metric.L2)).unreachable > 0
