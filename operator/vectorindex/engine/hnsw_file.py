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

from vectorindex.engine.errors import CorruptFile

HEADER = struct.Struct("<QQQQQQiIQQQdQ")
DELETED_BIT = 1 << 16
CHUNK = 16_384
"""Elements looked at together: bounds the memory of every pass over a file."""


@dataclass(frozen=True, eq=False)
class UpperLevel:
    """Links on one level above 0. ``elements`` (e,) uint32 ascending; ``counts`` (e,); ``links`` (e, M) uint32, of
    which row i holds ``counts[i]``."""

    elements: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    links: NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class HnswFile:
    """A verified graph; the arrays are read-only views of the mapped file.

    ``vectors`` (n, dim) float32, ``labels`` (n,) uint64 and ``links0`` (n, maxM0) uint32 with ``counts0`` (n,) in the
    order of the elements; ``deleted`` (n,) bool; ``levels`` (n,) the highest level of each; ``upper[i]`` is level i +
    1.
    """

    path: Path
    m: int
    ef_construction: int
    entry_point: int
    vectors: NDArray[np.float32]
    labels: NDArray[np.uint64]
    links0: NDArray[np.uint32]
    counts0: NDArray[np.uint32]
    deleted: NDArray[np.bool_]
    levels: NDArray[np.int32]
    upper: tuple[UpperLevel, ...]

    @property
    def count(self) -> int:
        return len(self.labels)

    @classmethod
    def open(cls, path: Path, dimensions: int) -> HnswFile:
        """Maps and verifies the file. Raises CorruptFile, which names it and says what is wrong."""
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise CorruptFile(path, f"cannot be mapped ({error})") from error
        return _Parser(path, data, dimensions).parse()


def element_layout(m: int, dimensions: int) -> np.dtype[Any]:
    """What lies on level 0 for each element, one after the other behind the header."""
    return np.dtype([("head", "<u4"), ("links", "<u4", (2 * m,)), ("vector", "<f4", (dimensions,)), ("label", "<u8")])


def chunks(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that cover ``range(count)``."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


class _Parser:
    def __init__(self, path: Path, data: mmap.mmap, dimensions: int) -> None:
        self.path = path
        self.data = data
        self.dimensions = dimensions

    def parse(self) -> HnswFile:
        self._require(len(self.data) >= HEADER.size, "is shorter than a header")
        (
            level0_offset, capacity, count, element_size, label_offset, data_offset,
            max_level, entry_point, max_m, max_m0, m, mult, ef_construction,
        ) = HEADER.unpack_from(self.data)  # fmt: skip
        self._require(
            2 <= m <= 512 and max_m == m and max_m0 == 2 * m, f"is no graph of ours: M {m}, {max_m}, {max_m0}"
        )
        vector_offset = 4 + 4 * max_m0
        label_at = vector_offset + 4 * self.dimensions
        self._require(
            (level0_offset, data_offset, label_offset, element_size) == (0, vector_offset, label_at, label_at + 8),
            f"its elements are not those of {self.dimensions} dimensions and M {m}",
        )
        self._require(count >= 1, "holds no items")
        self._require(capacity >= count, f"holds {count} items in room for {capacity}")
        self._require(entry_point < count, f"its entry point {entry_point} is not one of {count} items")
        self._require(ef_construction >= 1, "has ef_construction 0")
        self._require(abs(mult - 1 / np.log(m)) < 1e-9, f"has a level factor {mult} that is not that of M {m}")
        upper_start = HEADER.size + count * element_size
        self._require(len(self.data) >= upper_start + 4 * count, f"is too short for {count} items")

        layout = element_layout(m, self.dimensions)
        elements: NDArray[Any] = np.ndarray((count,), layout, buffer=self.data, offset=HEADER.size)
        head = np.ascontiguousarray(elements["head"])
        self._require(not bool((head >> 17).any()), "has unknown flags on an item")
        levels, upper = self._upper_levels(upper_start, count, m)
        self._require(max_level == levels.max(), f"says that its highest level is {max_level}, which is {levels.max()}")
        self._require(levels[entry_point] == max_level, "its entry point is not on the highest level")
        graph = HnswFile(
            path=self.path,
            m=m,
            ef_construction=ef_construction,
            entry_point=entry_point,
            vectors=elements["vector"],
            labels=elements["label"],
            links0=elements["links"],
            counts0=(head & 0xFFFF).astype(np.uint32),
            deleted=(head & DELETED_BIT) != 0,
            levels=levels,
            upper=upper,
        )
        self._verify(graph)
        return graph

    def _upper_levels(self, start: int, count: int, m: int) -> tuple[NDArray[np.int32], tuple[UpperLevel, ...]]:
        """Walks the lists of sizes; most elements have none, so that it jumps from one that is not 0 to the next."""
        size = len(self.data) - start
        self._require(size % 4 == 0, "does not end with a whole list")
        words: NDArray[np.uint32] = np.ndarray((size // 4,), "<u4", buffer=self.data, offset=start)
        list_words = m + 1
        filled = np.flatnonzero(words)
        elements: list[int] = []
        starts: list[int] = []
        heights: list[int] = []
        position = element = 0
        while True:
            cursor = int(np.searchsorted(filled, position))
            following = int(filled[cursor]) if cursor < len(filled) else len(words)
            if element + (following - position) >= count:
                position += count - element
                break
            element += following - position
            self._require(following < len(words), f"ends before the upper lists of item {element}")
            list_bytes = int(words[following])
            self._require(list_bytes % (4 * list_words) == 0, f"item {element} has upper lists of {list_bytes} bytes")
            elements.append(element)
            starts.append(following + 1)
            heights.append(list_bytes // (4 * list_words))
            position = following + 1 + list_bytes // 4
            element += 1
            self._require(position <= len(words), f"ends within the upper lists of item {element - 1}")
            if element == count:
                break
        self._require(position == len(words), f"has {4 * (len(words) - position):,} bytes too many")

        levels = np.zeros(count, np.int32)
        levels[elements] = heights
        owners, offsets, tops = np.array(elements, np.uint32), np.array(starts, np.int64), np.array(heights, np.int32)
        upper = []
        for level in range(1, max(heights, default=0) + 1):
            there = tops >= level
            at = offsets[there] + (level - 1) * list_words
            links = words[at[:, None] + 1 + np.arange(m)]
            upper.append(UpperLevel(owners[there], words[at], links))
        return levels, tuple(upper)

    def _verify(self, graph: HnswFile) -> None:
        count = graph.count
        self._require(bool((graph.counts0 <= 2 * graph.m).all()), "has a link count above its limit on level 0")
        for part in chunks(count):
            links = np.ascontiguousarray(graph.links0[part])
            used = np.arange(links.shape[1]) < graph.counts0[part, None]
            self._require(not bool((links[used] >= count).any()), "has a link on level 0 to an item that is not there")
            self._require(bool(np.isfinite(graph.vectors[part]).all()), "holds NaN or infinity in a vector")
        for level, upper in enumerate(graph.upper, start=1):
            self._require(bool((upper.counts <= graph.m).all()), f"has a link count above its limit on level {level}")
            targets = upper.links[np.arange(graph.m) < upper.counts[:, None]]
            self._require(
                not bool((targets >= count).any()), f"has a link on level {level} to an item that is not there"
            )
            self._require(
                bool((graph.levels[targets] >= level).all()),
                f"has a link on level {level} to an item that is not on it",
            )
        ordered = np.sort(graph.labels)
        self._require(not bool((ordered[1:] == ordered[:-1]).any()), "holds a label twice")

    def _require(self, condition: bool, why: str) -> None:
        if not condition:
            raise CorruptFile(self.path, why)
