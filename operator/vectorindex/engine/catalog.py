"""The indexes on a volume: one folder each, which appears and goes as a whole (:mod:`vectorindex.engine.folders`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vectorindex.engine.database import create_database
from vectorindex.engine.errors import IndexExists, IndexNotFound, TargetExists
from vectorindex.engine.folders import remove_whole, whole_folder
from vectorindex.engine.params import IndexSpec, validate_index_name
from vectorindex.engine.segments import SEGMENT_FILE
from vectorindex.engine.store import DATABASE_NAME


def index_names(data_dir: Path) -> list[str]:
    """Names of the indexes on a volume, sorted; also of one whose database is lost, so that it is refused and not made
    anew."""
    return sorted(
        folder.name for folder in data_dir.iterdir() if not folder.name.startswith(".") and _holds_index(folder)
    )


def index_folder(data_dir: Path, name: str) -> Path:
    """Raises InvalidInput, IndexNotFound."""
    validate_index_name(name)
    folder = data_dir / name
    if not _holds_index(folder):
        raise IndexNotFound(f"index {name} is not on this volume; create it first")
    return folder


def create_index(data_dir: Path, spec: IndexSpec) -> Path:
    """Creates an empty index; it is durable when this returns. Raises IndexExists, OutOfSpace, StoreFailed."""
    with new_index(data_dir, spec.name) as folder:
        create_database(folder / DATABASE_NAME, spec)
    return data_dir / spec.name


@contextmanager
def new_index(data_dir: Path, name: str) -> Iterator[Path]:
    """A folder to fill with the files of a new index, which is on the volume, durable, when the block ends; after an
    error it is not. Raises InvalidInput, IndexExists, OutOfSpace."""
    validate_index_name(name)
    try:
        with whole_folder(data_dir / name) as folder:
            yield folder
    except TargetExists:
        raise IndexExists(f"index {name} exists already; destroy it first, or use another name") from None


def destroy_index(data_dir: Path, name: str) -> None:
    """Removes a closed index with all its files. Raises IndexNotFound."""
    remove_whole(index_folder(data_dir, name))


def _holds_index(folder: Path) -> bool:
    return folder.is_dir() and any(
        path.name == DATABASE_NAME or SEGMENT_FILE.fullmatch(path.name) for path in folder.iterdir()
    )
