"""A snapshot: a folder that holds an index as it was after one write, complete in itself, and the way back.

What is consistent with what: ``index.db`` is the database at one LSN, as one SQLite transaction sees it. The segment
files are those that it names, and they never change once they are named. So the items, the tombstones, the
configuration and the finished operations are those of one moment, and everything acknowledged before it is there.
Not in it: the rows of an open ingest session, and the files of a build that runs. An operation that is unfinished at
that moment has changed nothing in it, and :func:`restore` forgets it: whoever asks for it again starts it anew.

The segment files are hard links where the file system has them, and then a snapshot costs little more than the
database as long as the index keeps those segments. It shares their bytes, damage included, until it is copied to
another file system. It keeps what is deleted from the index later, and what is dead in its graphs already.

A snapshot is in place whole and durable, each file verified, or not at all; it is never changed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vectorindex.engine import ledger, manifest
from vectorindex.engine.catalog import new_index
from vectorindex.engine.database import Database
from vectorindex.engine.erasure import SnapshotTrace
from vectorindex.engine.errors import CorruptFile, EngineError, InvalidInput
from vectorindex.engine.files import fsync_whole, stamp, verify_stamp
from vectorindex.engine.folders import UNFINISHED_PREFIX, whole_folder
from vectorindex.engine.params import Metric
from vectorindex.engine.policy import Counts
from vectorindex.engine.segments import SEGMENT_FILE, FileStamp, Segment
from vectorindex.engine.store import DATABASE_NAME, IndexStatus, Store

DESCRIPTION_NAME = "snapshot.json"
FORMAT = "vectorindex-snapshot"
VERSION = 1

_LAST_SECOND = 253_402_300_799  # of the year 9999
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Snapshot:
    """What ``snapshot.json`` says. ``sequence``: the LSN; ``created``: seconds since 1970; ``sealed``, likewise: seal
    of the last rebuild or optimize before it, None when there was none; ``files`` by name."""

    index: str
    dimensions: int
    metric: Metric
    sequence: int
    counts: Counts
    created: float
    sealed: float | None
    files: dict[str, FileStamp]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True)
class Sealed:
    """What :func:`seal` took: the index at that moment, and the segment files, still to be copied, that it could not
    link. They are open, so that a swap cannot take them away."""

    status: IndexStatus
    uncopied: dict[str, BinaryIO]


def seal(store: Store, folder: Path) -> Sealed:
    """The part that needs the store: copies the database into ``folder`` and takes hold of the segments' files. To be
    called where the store is used, between two writes. Raises CopyFailed, OutOfSpace, StoreFailed, OSError."""
    store.copy_database(folder / DATABASE_NAME)
    status = store.status()
    uncopied: dict[str, BinaryIO] = {}
    with ExitStack() as opened:
        for segment in status.segments:
            for path in _paths(segment, store.folder):
                if not _link(path, folder / path.name):
                    uncopied[path.name] = opened.enter_context(path.open("rb"))
        opened.pop_all()
    return Sealed(status, uncopied)


def take(folder: Path, seal_into: Callable[[Path], Sealed], now: Callable[[], float] = time.time) -> Snapshot:
    """Makes the snapshot ``folder``, whose parent exists. ``seal_into`` calls :func:`seal` where the store is used; all
    else is slow, needs no store, and is done here. Raises what seal raises, TargetExists, CorruptFile (a file of the
    index is not what was written)."""
    with whole_folder(folder) as draft:
        sealed = seal_into(draft)
        with ExitStack() as opened:
            for source in sealed.uncopied.values():
                opened.enter_context(source)
            for name, source in sealed.uncopied.items():
                with (draft / name).open("xb") as target:
                    shutil.copyfileobj(source, target, 2**20)
        files = {DATABASE_NAME: stamp(draft / DATABASE_NAME)}
        for segment in sealed.status.segments:
            for path, expected in zip(_paths(segment, draft), (segment.hnsw, segment.ids), strict=True):
                verify_stamp(path, expected)
                files[path.name] = expected
        status = sealed.status
        spec = status.spec
        snapshot = Snapshot(
            spec.name, spec.dimensions, spec.metric, status.sequence, status.counts, now(), status.sealed, files
        )
        content = {"format": FORMAT, "version": VERSION, **asdict(snapshot)}
        (draft / DESCRIPTION_NAME).write_text(json.dumps(content, indent=2) + "\n")
    return snapshot


def read_snapshot(folder: Path) -> Snapshot:
    """What a snapshot says of itself. Raises InvalidInput (it is none), CorruptFile."""
    path = folder / DESCRIPTION_NAME
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InvalidInput(f"{folder} is no snapshot: there is no {DESCRIPTION_NAME} in it") from None
    except (OSError, ValueError) as error:
        raise CorruptFile(path, f"cannot be read ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CorruptFile(path, "is not the description of a snapshot")
    if content.get("version") != VERSION:
        raise CorruptFile(path, f"has format {content.get('version')}; this program reads format {VERSION}")
    try:
        return _snapshot(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(path, f"is damaged ({type(error).__name__}: {error})") from error


def traces(folder: Path) -> list[SnapshotTrace]:
    """What lies in the folder of an index's snapshots, which may be missing, by name: whole ones, and drafts."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        trace = SnapshotTrace(path.name, None, None)
        if not path.name.startswith(UNFINISHED_PREFIX):
            with suppress(EngineError):
                snapshot = read_snapshot(path)
                trace = SnapshotTrace(path.name, snapshot.created, snapshot.sealed)
        found.append(trace)
    return found


def restore(source: Path, data_dir: Path, name: str | None = None) -> IndexStatus:
    """Puts a snapshot back as a new index, under its own name unless ``name`` gives another.

    The copy is verified as every start verifies an index, and against ``snapshot.json``, before it gets its name.
    Raises IndexExists, InvalidInput, CorruptFile, OutOfSpace, OSError; the volume is as it was then."""
    snapshot = read_snapshot(source)
    with new_index(data_dir, snapshot.index if name is None else name) as folder:
        for file, expected in snapshot.files.items():
            try:
                shutil.copyfile(source / file, folder / file)
            except FileNotFoundError:
                raise CorruptFile(source / file, f"is missing, and {DESCRIPTION_NAME} names it") from None
            verify_stamp(folder / file, expected)
        fsync_whole(folder)  # SQLite may fail to sync and tell nobody: what is there must not depend on it
        with closing(Database(folder / DATABASE_NAME)) as database, database.transaction() as connection:
            manifest.write_name(connection, folder.name)
            ledger.forget_unfinished(connection)
        with closing(Store.open(folder)) as store:
            status = store.status()
        _require_described(source / DESCRIPTION_NAME, snapshot, status)
    return status


def _require_described(path: Path, snapshot: Snapshot, status: IndexStatus) -> None:
    """Raises CorruptFile unless the description is that of the database beside it."""
    said = (snapshot.dimensions, snapshot.metric, snapshot.sequence, snapshot.counts, snapshot.sealed)
    found = (status.spec.dimensions, status.spec.metric, status.sequence, status.counts, status.sealed)
    if said != found:
        raise CorruptFile(path, f"does not describe its {DATABASE_NAME}: it says {said}, which holds {found}")
    named = {path.name for segment in status.segments for path in _paths(segment, Path())}
    if set(snapshot.files) != {DATABASE_NAME, *named}:
        raise CorruptFile(path, f"does not list the files that its {DATABASE_NAME} names")


def _paths(segment: Segment, folder: Path) -> tuple[Path, Path]:
    return segment.hnsw_path(folder), segment.ids_path(folder)


def _snapshot(content: dict[str, Any]) -> Snapshot:
    """Raises AttributeError, KeyError, TypeError, ValueError."""
    files = {name: FileStamp(int(file["size"]), str(file["sha256"])) for name, file in content["files"].items()}
    strangers = [name for name in files if name != DATABASE_NAME and not SEGMENT_FILE.fullmatch(name)]
    if strangers or DATABASE_NAME not in files:
        raise ValueError(f"files {strangers or DATABASE_NAME}")
    counts = Counts(**{name: int(count) for name, count in content["counts"].items()})
    return Snapshot(
        index=str(content["index"]),
        dimensions=int(content["dimensions"]),
        metric=Metric(content["metric"]),
        sequence=int(content["sequence"]),
        counts=counts,
        created=_time(content["created"]),
        sealed=None if content["sealed"] is None else _time(content["sealed"]),
        files=files,
    )


def _time(value: Any) -> float:
    """Seconds since 1970 that are of a date. Raises TypeError, ValueError."""
    seconds = float(value)
    if not 0 <= seconds <= _LAST_SECOND:
        raise ValueError(f"time {value!r}")
    return seconds


def _link(source: Path, target: Path) -> bool:
    """Whether the file system could make a second name of the file."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True
