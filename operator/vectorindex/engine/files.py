"""Files that are durable when their name is committed: fsync of a file and of its folder, sizes and digests."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vectorindex.engine.errors import CorruptFile, OutOfSpace
from vectorindex.engine.segments import FileStamp


def fsync_path(path: Path) -> None:
    """fsync of a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_whole(folder: Path) -> None:
    """fsync of each file of a folder that has no folders, and of its names."""
    for path in folder.iterdir():
        fsync_path(path)
    fsync_path(folder)


def replace_file(path: Path, content: bytes) -> None:
    """The file holds ``content`` from now on, durably; after an error or a crash it holds that or what it held before,
    as a whole. Not for two at a time. Raises OutOfSpace, OSError."""
    draft = path.with_name(f"{path.name}.new")
    with space_errors(path):
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        fsync_path(path.parent)


def stamp(path: Path) -> FileStamp:
    """Size and SHA-256 of a file as it is."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileStamp(file.tell(), digest)


def verify_stamp(path: Path, expected: FileStamp) -> None:
    """Raises CorruptFile unless the file is byte for byte what the manifest names."""
    try:
        size = path.stat().st_size
        if size != expected.size:
            raise CorruptFile(path, f"has {size:,} bytes, the manifest says {expected.size:,}")
        digest = stamp(path).sha256
    except FileNotFoundError:
        raise CorruptFile(path, "is missing, and the manifest names it") from None
    except OSError as error:
        raise CorruptFile(path, f"cannot be read ({error.strerror})") from error
    if digest != expected.sha256:
        raise CorruptFile(path, "its content has changed (SHA-256 differs from the manifest)")


@contextmanager
def space_errors(folder: Path) -> Iterator[None]:
    """Turns a full volume or quota into OutOfSpace; any other OSError passes."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(f"no space left on the volume of {folder.name}") from error
        raise
