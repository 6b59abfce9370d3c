"""Writes without a session, and what came of them. Each is checked when it is made, so that in a transaction only the
disk can fail it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.digest import EMPTY, fingerprints
from vectorindex.engine.errors import InvalidInput
from vectorindex.engine.ledger import NewOperation, OperationRecord
from vectorindex.engine.params import Metric, validate_external_ids, validate_vectors
from vectorindex.engine.rows import Rows


@dataclass(frozen=True, eq=False)
class Upsert:
    """New items, or new vectors (n, dim) float32 of items that are there; ``external_ids`` (n) are distinct, with their
    ``fingerprints`` (n,). Make it with :meth:`of`."""

    external_ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    fingerprints: NDArray[np.int64]

    @classmethod
    def of(cls, external_ids: Sequence[str], vectors: NDArray[np.float32], dimensions: int, metric: Metric) -> Upsert:
        """Of an ID that is given several times the last vector counts. Raises InvalidInput, which names the row."""
        if len(external_ids) != len(vectors):
            raise InvalidInput(f"{len(external_ids)} external IDs for {len(vectors)} vectors")
        validate_external_ids(external_ids)
        validate_vectors(vectors, dimensions, metric)
        last = {external_id: row for row, external_id in enumerate(external_ids)}
        kept = vectors[list(last.values())]
        return cls(tuple(last), kept, fingerprints((name.encode() for name in last), kept))


@dataclass(frozen=True)
class Delete:
    """``external_ids`` as given; with an ``operation``, its record is written in the same transaction, and more than
    ``max_percent`` of the live items are not deleted: the operation fails then."""

    external_ids: tuple[str, ...]
    operation: NewOperation | None = None
    max_percent: int | None = None
    distinct: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        validate_external_ids(self.external_ids)
        if self.max_percent is not None and self.operation is None:
            raise InvalidInput("a limit of a delete needs an operation, whose record says whether it was kept")
        object.__setattr__(self, "distinct", tuple(dict.fromkeys(self.external_ids)))


@dataclass(frozen=True, eq=False)
class Preview:
    """What a delete would do: which of the distinct IDs (n,) there are now, of ``live`` items."""

    live: int
    found: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Upserted:
    """``rows`` as they are in the journal now; ``labels`` of the items that they replaced, to be marked in every
    searcher. ``lsn``: the write's place in the history of the index; ``shift``: by how much the digest of the live
    items has moved."""

    rows: Rows
    labels: NDArray[np.uint64]
    lsn: int
    shift: int


@dataclass(frozen=True, eq=False)
class Deletion:
    """Over the distinct IDs (n,) of a request in order of first appearance: ``found`` (n,). ``labels`` are to be
    marked in every searcher before the delete is acknowledged; empty when an operation was repeated. ``shift``: by how
    much the digest of the live items has moved."""

    deleted: int
    not_found: int
    found: NDArray[np.bool_]
    labels: NDArray[np.uint64]
    record: OperationRecord | None
    shift: int = EMPTY


Write = Upsert | Delete
Written = Upserted | Deletion
