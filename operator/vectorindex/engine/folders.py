"""Folders that appear as a whole or not at all: an index, a snapshot, an export.

A new folder is filled under a name that no finished one has, made durable, and renamed. So what bears its final name is
complete, after a crash at any step too; what the crash left begins with :data:`UNFINISHED_PREFIX`.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vectorindex.engine.errors import TargetExists
from vectorindex.engine.files import fsync_path, fsync_whole, space_errors

UNFINISHED_PREFIX = ".unfinished-"
"""No index name begins with a dot."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder of the same name, to be filled with files; when the block ends, it is at ``folder``, durable with
    all that it holds. After an error nothing is. Raises TargetExists, OutOfSpace, OSError."""
    if os.path.lexists(folder):
        raise TargetExists(folder)
    unfinished = unfinished_path(folder.parent)
    draft = unfinished / folder.name
    named = False
    try:
        with space_errors(folder):
            unfinished.mkdir()
            draft.mkdir()
            yield draft
            fsync_whole(draft)
            _rename(draft, folder)
            named = True
            fsync_path(folder.parent)
            unfinished.rmdir()
    except BaseException:
        if named:
            with suppress(OSError):
                os.rename(folder, draft)
        shutil.rmtree(unfinished, ignore_errors=True)  # what stays is removed at the next start
        raise


def make_folder(folder: Path) -> None:
    """Makes a folder and the missing ones above it, durable; one that is there stays as it is."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_path(folder.parent)


def remove_whole(folder: Path) -> None:
    """Removes a folder: at once for whoever looks for its name, then file by file; a power loss brings nothing back."""
    unfinished = unfinished_path(folder.parent)
    os.rename(folder, unfinished)
    fsync_path(folder.parent)
    _remove(unfinished)


def remove_unfinished(parent: Path) -> None:
    """Removes what a crash left in ``parent`` of folders that were made or removed; nobody may be at it."""
    for path in parent.glob(f"{UNFINISHED_PREFIX}*"):
        _remove(path)


def unfinished_path(parent: Path) -> Path:
    """A name in ``parent`` that is free."""
    return parent / f"{UNFINISHED_PREFIX}{secrets.token_hex(8)}"


def _remove(unfinished: Path) -> None:
    """Once it is not there any more, what it held is gone for good: so it is emptied first, durably."""
    for path in unfinished.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    fsync_path(unfinished)
    unfinished.rmdir()


def _rename(draft: Path, folder: Path) -> None:
    try:
        os.rename(draft, folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # somebody was quicker
            raise TargetExists(folder) from None
        raise
