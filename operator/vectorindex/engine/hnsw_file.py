"""A plain hnswlib 0.8 file, mapped and verified before hnswlib sees it.

hnswlib trusts its files: a wrong count or link makes it write or read outside its arrays. So :meth:`HnswFile.open`
proves what hnswlib takes for granted: the sizes add up exactly, every link count fits its list, every link leads to
an element that has the level of the link, the labels are unique, the vectors are finite. What makes a graph a *good*
graph is checked by :mod:`vectorindex.engine.structure`.

Layout (little-endian): the header below; per element a u32 (bits 0-15: links on level 0, bit 16: deleted), maxM0 x
u32 links, dim x f32, a u64 label; then per element a u32 byte size of its upper lists, each ``[u32 count][M x u32]``.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import _kernels
from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.params import Metric

HEADER = struct.Struct("<QQQQQQiIQQQdQ")
COUNT_MASK, DELETED_BIT = 0xFFFF, 1 << 16
"""Of the first word of an element: how many links it has on level 0, and whether it is marked as deleted."""
CHUNK = 16_384
"""Elements looked at together: bounds the memory, and the time between two reports, of a pass over a file."""


@dataclass(frozen=True, eq=False)
class HnswFile:
    """A verified graph; the arrays are read-only views of the mapped file.

    ``vectors`` (n, dim) float32, ``labels`` (n,) uint64 and ``deleted`` (n,) bool in the order of the elements;
    ``graph``: all of it for the kernels.
    """

    path: Path
    m: int
    ef_construction: int
    entry_point: int
    vectors: NDArray[np.float32]
    labels: NDArray[np.uint64]
    deleted: NDArray[np.bool_]
    graph: _kernels.Graph

    @property
    def count(self) -> int:
        return len(self.labels)

    @classmethod
    def open(cls, path: Path, dimensions: int, metric: Metric) -> HnswFile:
        """Maps and verifies the file. Raises CorruptFile, which names it and says what is wrong."""
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise CorruptFile(path, f"cannot be mapped ({error})") from error
        return _parse(path, data, dimensions, metric)


def element_layout(m: int, dimensions: int) -> np.dtype[Any]:
    """What lies on level 0 for each element, one after the other behind the header."""
    return np.dtype([("head", "<u4"), ("links", "<u4", (2 * m,)), ("vector", "<f4", (dimensions,)), ("label", "<u8")])


def chunks(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that cover ``range(count)``."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _parse(path: Path, data: mmap.mmap, dimensions: int, metric: Metric) -> HnswFile:
    def require(condition: bool, why: str) -> None:
        if not condition:
            raise CorruptFile(path, why)

    require(len(data) >= HEADER.size, "is shorter than a header")
    (
        level0_offset, capacity, count, element_size, label_offset, data_offset,
        max_level, entry_point, max_m, max_m0, m, mult, ef_construction,
    ) = HEADER.unpack_from(data)  # fmt: skip
    require(2 <= m <= 512 and max_m == m and max_m0 == 2 * m, f"is no graph of ours: M {m}, {max_m}, {max_m0}")
    vector_offset = 4 + 4 * max_m0
    label_at = vector_offset + 4 * dimensions
    require(
        (level0_offset, data_offset, label_offset, element_size) == (0, vector_offset, label_at, label_at + 8),
        f"its elements are not those of {dimensions} dimensions and M {m}",
    )
    require(count >= 1, "holds no items")
    require(capacity >= count, f"holds {count} items in room for {capacity}")
    require(entry_point < count, f"its entry point {entry_point} is not one of {count} items")
    require(ef_construction >= 1, "has ef_construction 0")
    require(abs(mult - 1 / np.log(m)) < 1e-9, f"has a level factor {mult} that is not that of M {m}")
    require(len(data) % 4 == 0, "does not end with a whole list")
    require(len(data) >= HEADER.size + count * (element_size + 4), f"is too short for {count} items")

    words: NDArray[np.uint32] = np.frombuffer(data, "<u4", offset=HEADER.size)
    try:
        graph = _kernels.Graph(words, count, dimensions, m, entry_point, metric is not Metric.L2)
    except ValueError as error:
        raise CorruptFile(path, str(error)) from None
    highest = int(graph.levels()[entry_point])
    require(max_level == highest, f"says that its highest level is {max_level}, which is {highest}")
    layout = element_layout(m, dimensions)
    elements: NDArray[Any] = np.ndarray((count,), layout, buffer=data, offset=HEADER.size)
    ordered = np.sort(elements["label"])
    require(not bool((ordered[1:] == ordered[:-1]).any()), "holds a label twice")
    return HnswFile(
        path=path,
        m=m,
        ef_construction=ef_construction,
        entry_point=entry_point,
        vectors=elements["vector"],
        labels=elements["label"],
        deleted=(elements["head"] & DELETED_BIT) != 0,
        graph=graph,
    )


def header(*, count: int, dimensions: int, m: int, ef_construction: int, entry_point: int, max_level: int) -> bytes:
    """The header of a file whose room is exactly that of its items."""
    vector_offset = 4 + 4 * 2 * m
    label_at = vector_offset + 4 * dimensions
    return HEADER.pack(
        0, count, count, label_at + 8, label_at, vector_offset,
        max_level, entry_point, m, 2 * m, m, 1 / np.log(m), ef_construction,
    )  # fmt: skip
