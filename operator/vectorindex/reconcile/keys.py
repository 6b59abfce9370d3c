"""What can be reconciled: a key names it, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Work(StrEnum):
    """The kinds of work; the first four are the kinds of the API."""

    INDEX = "VectorIndex"
    DELETE = "IndexDelete"
    REBUILD = "IndexRebuild"
    OPTIMIZE = "IndexOptimize"
    SWEEP = "Sweep"
    """Cancel what runs in the pods of a VectorIndex (the key's name) for objects that are gone."""


RUNS = (Work.DELETE, Work.REBUILD, Work.OPTIMIZE)

AFTER_GONE = 1.0
"""Seconds until an object is looked at again that was gone when its status was written: it may have been created
again."""


@dataclass(frozen=True, order=True)
class Key:
    """One piece of work; for a sweep, ``name`` is the index's."""

    work: Work
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.work} {self.namespace}/{self.name}"
