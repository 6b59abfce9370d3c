"""The indexes on a volume: one folder each, which appears and goes as a whole.

A new one is written under a name that no index can have and then renamed; one that is destroyed is renamed before it is
removed. What a crash left of either is removed by :func:`remove_unfinished`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from vectorindex.engine.database import create_database
from vectorindex.engine.errors import IndexExists, IndexNotFound
from vectorindex.engine.files import fsync_path, space_errors
from vectorindex.engine.params import IndexSpec, validate_index_name
from vectorindex.engine.store import DATABASE_NAME

UNFINISHED_PREFIX = ".unfinished-"
"""No index name begins with a dot."""


def index_names(data_dir: Path) -> list[str]:
    """Names of the indexes on a volume, sorted."""
    return sorted(
        path.parent.name for path in data_dir.glob(f"*/{DATABASE_NAME}") if not path.parent.name.startswith(".")
    )


def index_folder(data_dir: Path, name: str) -> Path:
    """Raises InvalidInput, IndexNotFound."""
    validate_index_name(name)
    folder = data_dir / name
    if not (folder / DATABASE_NAME).is_file():
        raise IndexNotFound(f"index {name} is not on this volume; create it first")
    return folder


def create_index(data_dir: Path, spec: IndexSpec) -> Path:
    """Creates an empty index; it is durable when this returns. Raises IndexExists, OutOfSpace."""
    folder = data_dir / spec.name
    if folder.exists():
        raise IndexExists(f"index {spec.name} exists already; destroy it first, or use another name")
    unfinished = _unfinished(data_dir)
    try:
        with space_errors(folder):
            unfinished.mkdir()
            create_database(unfinished / DATABASE_NAME, spec)
            fsync_path(unfinished / DATABASE_NAME)
            fsync_path(unfinished)
            os.rename(unfinished, folder)
            fsync_path(data_dir)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # what stays is removed at the next start
        raise
    return folder


def destroy_index(data_dir: Path, name: str) -> None:
    """Removes a closed index with all its files. Raises IndexNotFound."""
    folder = index_folder(data_dir, name)
    unfinished = _unfinished(data_dir)
    os.rename(folder, unfinished)
    fsync_path(data_dir)
    shutil.rmtree(unfinished)


def remove_unfinished(data_dir: Path) -> None:
    """Removes what a crash left of a creation or destruction; to be called before any index is opened."""
    for path in data_dir.glob(f"{UNFINISHED_PREFIX}*"):
        shutil.rmtree(path)


def _unfinished(data_dir: Path) -> Path:
    return data_dir / f"{UNFINISHED_PREFIX}{secrets.token_hex(8)}"
