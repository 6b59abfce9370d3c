"""Labels become external IDs by a mapped file that is verified first."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.ids_file import HEADER, IdsFile, IdTable, write_ids
from vectorindex.engine.rows import Rows
from vectorindex.engine.view_change import ViewChange

LABELS = np.array([3, 7, 8, 1_000], np.uint64)
IDS = ["a", "naïve ✓", "x" * 512, "z"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "0000000001.ids"
    write_ids(path, LABELS, [external_id.encode() for external_id in IDS], np.arange(4, dtype=np.float32))
    return path


def test_ids_by_label_in_the_order_asked(path: Path, tmp_path: Path) -> None:
    write_ids(tmp_path / "0000000002.ids", np.array([2_000], np.uint64), [b"later"], np.ones(1, np.float32))
    table = IdTable({1: IdsFile.open(path), 2: IdsFile.open(tmp_path / "0000000002.ids")}, {})
    asked = np.array([2_000, 8, 3, 1_000, 7, 3], np.uint64)
    assert table.external_ids(asked) == ["later", IDS[2], "a", "z", IDS[1], "a"]
    assert table.external_ids(asked[:0]) == []


@pytest.mark.parametrize("label", [0, 4, 999, 1_001, 2**64 - 1])
def test_a_label_of_no_segment_is_an_error(path: Path, label: int) -> None:
    with pytest.raises(KeyError, match=str(label)):
        IdTable({1: IdsFile.open(path)}, {}).external_ids(np.array([3, label], np.uint64))


def test_norms_are_kept(path: Path) -> None:
    assert IdsFile.open(path).norms.tolist() == [0, 1, 2, 3]


def test_an_existing_file_is_never_overwritten(path: Path) -> None:
    with pytest.raises(FileExistsError):
        write_ids(path, LABELS, [b"a"] * 4, np.ones(4, np.float32))


OFFSETS = HEADER.size + 8 * len(LABELS)
NORMS = OFFSETS + 8 * (len(LABELS) + 1)
TEXT = NORMS + 4 * len(LABELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda data: data.__setitem__(0, 0), "not a file of external IDs", id="magic"),
        pytest.param(lambda data: struct.pack_into("<I", data, 8, 2), "format 2", id="newer-format"),
        pytest.param(lambda data: struct.pack_into("<Q", data, 16, 2**61), "its header says", id="absurd-count"),
        pytest.param(lambda data: data.append(0), "its header says", id="longer"),
        pytest.param(lambda data: data.pop(), "its header says", id="shorter"),
        pytest.param(lambda data: data.clear(), "cannot be mapped", id="empty"),
        pytest.param(lambda data: struct.pack_into("<Q", data, HEADER.size, 7), "labels do not ascend", id="labels"),
        pytest.param(lambda data: struct.pack_into("<Q", data, OFFSETS, 1), "offsets", id="first-offset"),
        pytest.param(lambda data: struct.pack_into("<Q", data, OFFSETS + 8, 2**40), "offsets", id="offset-outside"),
        pytest.param(lambda data: struct.pack_into("<Q", data, OFFSETS + 8, 4), "within a character", id="split"),
        pytest.param(lambda data: struct.pack_into("<f", data, NORMS, float("inf")), "norm", id="norm"),
        pytest.param(lambda data: data.__setitem__(TEXT, 0xFF), "not UTF-8", id="text"),
    ],
)
def test_a_changed_file_is_refused_by_name(path: Path, change: Callable[[bytearray], None], message: str) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=f"0000000001.ids: .*{message}"):
        IdsFile.open(path)


def test_a_table_knows_what_came_after_it(path: Path) -> None:
    """An answer may name an item that was written after the search was sent, and was flushed away before it came."""
    first = IdTable({1: IdsFile.open(path)}, {2_000: "early"})
    row = Rows(np.array([2_001], np.uint64), ("late",), np.ones((1, 1), np.float32))
    none, nothing = np.empty(0, np.uint64), Rows.none(1)
    second = first.changed(ViewChange(nothing, none, flushed_through=2_000), {})
    assert second.changed(ViewChange(row, none), {}) is second
    third = second.changed(ViewChange(nothing, none, flushed_through=2_001), {})
    labels = np.array([3, 2_000, 2_001], np.uint64)
    assert first.external_ids(labels) == ["a", "early", "late"]
    with pytest.raises(KeyError, match="2001"):
        third.external_ids(labels[2:])
