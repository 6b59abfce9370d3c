"""Do the files in a folder belong together? Asked at every open, before anything in the folder is removed.

The manifest's SHA-256 tells a changed or exchanged segment file; here it is the database that may be another one's.
A database gives out a generation, durably, before a build writes a file with it. So a segment file of a generation that
it never gave out is not left over from a build: the file, or the database, is of another index or another time.
"""

from __future__ import annotations

from pathlib import Path

from vectorindex.engine.errors import CorruptFile, IndexNotFound
from vectorindex.engine.segments import SEGMENT_FILE, generation_of


def require_database(path: Path) -> None:
    """Raises CorruptFile if the database of the index is lost, IndexNotFound if there is no index at all."""
    if path.is_file():
        return
    if path.parent.is_dir() and segment_files(path.parent):
        raise CorruptFile(path, "is missing, and segment files of an index lie beside it")
    raise IndexNotFound(f"index {path.parent.name}: there is no {path.name} in {path.parent}")


def require_own_database(path: Path, name: str, next_generation: int) -> None:
    """``name`` and ``next_generation`` are what the database says. Raises CorruptFile."""
    folder = path.parent
    if name != folder.name:
        raise CorruptFile(path, f"is the database of index {name}, and its folder is that of index {folder.name}")
    for file in segment_files(folder):
        if generation_of(file) >= next_generation:
            raise CorruptFile(
                path, f"has never named {file.name}, which lies beside it: one of the two is of another index or time"
            )


def segment_files(folder: Path) -> list[Path]:
    """Files that look like those of segments, sorted."""
    return sorted(path for path in folder.iterdir() if SEGMENT_FILE.fullmatch(path.name))
