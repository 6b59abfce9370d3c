"""``<generation>.ids``: which external ID each label of a segment stands for, and the length of its vector as received.

Mapped, never loaded: 20 bytes and the ID per item. Layout (little-endian): magic, format version u32, flags u32 (0),
count u64, bytes of all IDs u64; then labels u64 x count (ascending), offsets u64 x (count + 1), norms f32 x count,
the IDs in UTF-8 one after the other. The manifest holds its SHA-256.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.labels import find
from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.view_change import ViewChange

MAGIC = b"VECIDX\r\n"
VERSION = 1
HEADER = struct.Struct("<8sIIQQ")


def write_ids(
    path: Path, labels: NDArray[np.uint64], external_ids: Sequence[bytes], norms: NDArray[np.float32]
) -> None:
    """Writes and fsyncs a new file: ``labels`` (n,) strictly ascending, the ID (UTF-8) and norm of each. Raises
    OSError."""
    offsets = np.zeros(len(labels) + 1, np.uint64)
    np.cumsum([len(external_id) for external_id in external_ids], out=offsets[1:])
    with path.open("xb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, 0, len(labels), int(offsets[-1])))
        file.write(labels.astype("<u8").tobytes())
        file.write(offsets.astype("<u8").tobytes())
        file.write(norms.astype("<f4").tobytes())
        file.writelines(external_ids)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True, eq=False)
class IdsFile:
    """A verified file: ``labels`` (n,) uint64 ascending, ``norms`` (n,) float32."""

    path: Path
    labels: NDArray[np.uint64]
    norms: NDArray[np.float32]
    _offsets: NDArray[np.uint64]
    _text: memoryview

    @classmethod
    def open(cls, path: Path) -> IdsFile:
        """Maps and verifies the file. Raises CorruptFile."""
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CorruptFile(path, f"cannot be mapped ({error})") from error

        def require(condition: bool, why: str) -> None:
            if not condition:
                raise CorruptFile(path, why)

        require(len(data) >= HEADER.size and data[:8] == MAGIC, "is not a file of external IDs")
        _, version, flags, count, text_size = HEADER.unpack_from(data)
        require(
            version == VERSION and flags == 0, f"has format {version}, flags {flags}; this program reads {VERSION}, 0"
        )
        labels_at = HEADER.size
        offsets_at = labels_at + 8 * count
        norms_at = offsets_at + 8 * (count + 1)
        text_at = norms_at + 4 * count
        require(len(data) == text_at + text_size, f"has {len(data):,} bytes, its header says {text_at + text_size:,}")
        labels: NDArray[np.uint64] = np.ndarray((count,), "<u8", data, labels_at)
        offsets: NDArray[np.uint64] = np.ndarray((count + 1,), "<u8", data, offsets_at)
        norms: NDArray[np.float32] = np.ndarray((count,), "<f4", data, norms_at)
        text = memoryview(data)[text_at:]
        require(bool((labels[1:] > labels[:-1]).all()), "its labels do not ascend")
        require(
            offsets[0] == 0 and offsets[-1] == text_size and bool((offsets[1:] > offsets[:-1]).all()),
            "its offsets do not ascend over the IDs",
        )
        require(bool(np.isfinite(norms).all()), "holds a norm that is not finite")
        _require_text(path, text, offsets)
        return cls(path, labels, norms, offsets, text)

    def external_id(self, row: int) -> str:
        return self.raw_id(row).decode()

    def external_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """The IDs in ``rows`` (n,)."""
        starts, ends = self._offsets[rows].tolist(), self._offsets[rows + 1].tolist()
        return [str(self._text[start:end], "utf-8") for start, end in zip(starts, ends, strict=True)]

    def raw_id(self, row: int) -> bytes:
        """UTF-8 of the ID in ``row``."""
        return bytes(self._text[int(self._offsets[row]) : int(self._offsets[row + 1])])

    def names(self) -> Iterator[str]:
        """All IDs, row by row."""
        return (self.external_id(row) for row in range(len(self.labels)))

    def rows_of(self, labels: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of each label (n,), -1 where this file does not hold it."""
        inside, rows = find(self.labels, labels)
        return np.where(inside, rows, -1)


def _require_text(path: Path, text: memoryview, offsets: NDArray[np.uint64]) -> None:
    """All IDs are UTF-8, and none begins within a character."""
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        raise CorruptFile(path, "holds an ID that is not UTF-8") from None
    first_bytes = np.frombuffer(text, np.uint8)[offsets[:-1].astype(np.int64)]
    if ((first_bytes & 0xC0) == 0x80).any():
        raise CorruptFile(path, "an ID begins within a character")


def open_ids(folder: Path, segments: Sequence[Segment]) -> dict[int, IdsFile]:
    """The file of each segment by its generation. Raises CorruptFile."""
    return {segment.generation: IdsFile.open(segment.ids_path(folder)) for segment in segments}


class IdTable:
    """External IDs by label, over the segments and the tail of a view: ``files`` by generation, ``tail`` by label. Any
    thread may read it; only ``tail`` changes, by additions."""

    def __init__(self, files: Mapping[int, IdsFile], tail: Mapping[int, str]) -> None:
        self._files = dict(files)
        self._tail = dict(tail)
        self._next: IdTable | None = None

    @classmethod
    def of(cls, view: ViewSpec) -> IdTable:
        """Raises CorruptFile."""
        tail = zip(view.tail.labels.tolist(), view.tail.external_ids, strict=True)
        return cls(open_ids(view.folder, view.segments), dict(tail))

    def changed(self, change: ViewChange, added: Mapping[int, IdsFile]) -> IdTable:
        """The table of the view after a change, ``added``: the files of its new segments. This one goes on knowing what
        it knows, for answers that are under way."""
        table = self
        if added or change.dropped or change.flushed_through >= 0:
            files = {number: file for number, file in self._files.items() if number not in change.dropped}
            tail = {label: name for label, name in self._tail.items() if label > change.flushed_through}
            table = self._next = IdTable({**files, **added}, tail)
        table._tail.update(zip(change.rows.labels.tolist(), change.rows.external_ids, strict=True))
        return table

    def _find(self, labels: NDArray[np.uint64]) -> list[str | None]:
        """The ID of each label (n,), in order; None where this table does not know it."""
        found = [self._tail.get(label) for label in labels.tolist()]
        for file in self._files.values():
            rows = file.rows_of(labels)
            (places,) = (rows >= 0).nonzero()
            for place, external_id in zip(places.tolist(), file.external_ids(rows[places]), strict=True):
                found[place] = external_id
        return found

    def external_ids(self, labels: NDArray[np.uint64]) -> list[str]:
        """The ID of each label (n,), in order, which this table knows or one that came after it. Raises KeyError."""
        found = self._find(labels)
        table = self._next
        while table is not None and None in found:
            found = [old or new for old, new in zip(found, table._find(labels), strict=True)]
            table = table._next
        missing = [label for label, external_id in zip(labels.tolist(), found, strict=True) if external_id is None]
        if missing:
            raise KeyError(f"neither segment nor tail holds the labels {missing[:5]}")
        return [external_id for external_id in found if external_id is not None]

    def norms(self, labels: NDArray[np.uint64]) -> NDArray[np.float32]:
        """The length, as received, of the vector of each label (n,); NaN where no segment has it."""
        lengths = np.full(len(labels), np.nan, np.float32)
        for file in self._files.values():
            rows = file.rows_of(labels)
            lengths[rows >= 0] = file.norms[rows[rows >= 0]]
        return lengths
