"""The one exception tree of the engine. Each message names the object or file and says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class EngineError(Exception):
    """Anything that the engine refuses or that fails in it."""


class InvalidInput(EngineError):
    """What the caller gave is out of bounds; nothing has changed."""


class IndexExists(EngineError):
    """An index of that name lies on the volume already."""


class IndexNotFound(EngineError):
    """No index of that name lies on the volume."""


class TargetExists(EngineError):
    """The folder that is to be made is there already; it is left alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder.name} exists already in {folder.parent}; remove it first, or use another name")


class IndexLocked(EngineError):
    """Another process holds the index."""


class IdConflict(InvalidInput):
    """A session in mode insert holds IDs that exist already, or that it gives twice: ``total``, of which
    ``external_ids`` are some. The message does not hold them, because the ledger of operations keeps it."""

    def __init__(self, external_ids: Sequence[str], total: int) -> None:
        self.external_ids = tuple(external_ids)
        self.total = total
        super().__init__(
            f"mode insert: {total:,} IDs exist already or are given twice; use mode upsert to replace them"
        )

    def __reduce__(self) -> tuple[type[IdConflict], tuple[tuple[str, ...], int]]:
        return IdConflict, (self.external_ids, self.total)


class OperationConflict(EngineError):
    """The operation ID was used before with another kind or request."""


class OperationFinished(EngineError):
    """The operation has ended (cancelled, for example), so that nothing can be committed in its name."""


class CorruptFile(EngineError):
    """A file is not what was written, or not ours. It is kept as it is."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(
            f"{path.name}: {why}; the file is kept as it is, restore it from a copy or load the items again"
        )

    def __reduce__(self) -> tuple[type[CorruptFile], tuple[Path, str]]:
        return CorruptFile, (self.path, self.why)  # a builder sends it to the front


class CopyFailed(EngineError):
    """A copy of the database could not be written; the index itself is untouched and goes on."""


class BuildFailed(EngineError):
    """A new graph could not be built or does not pass its checks; the old one is untouched."""


class OutOfSpace(EngineError):
    """The volume is full; nothing has changed, and writes work again once there is space."""


class StoreFailed(EngineError):
    """An I/O error left unknown what is on disk. Every later call fails too; recovery is a restart."""
