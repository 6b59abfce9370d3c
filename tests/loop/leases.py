"""The Lease of a simulated world, and the processes that may hold it."""

from __future__ import annotations

from vectorindex.cluster.errors import ConflictError, NotFoundError, UnavailableError
from vectorindex.cluster.lease import Lease
from vectorindex.domain.election import Record


class SimulatedLease:
    """As the API server keeps it: a write that does not name the newest version is refused."""

    def __init__(self) -> None:
        self.stored: Lease | None = None
        self.writes = 0
        self.down = False
        self.answers_are_lost = False

    @property
    def record(self) -> Record:
        assert self.stored is not None
        return self.stored.record

    def change(self, record: Record) -> None:
        """By somebody else."""
        self.writes += 1
        self.stored = Lease(record, {"version": self.writes})

    def delete(self) -> None:
        self.stored = None

    async def read(self) -> Lease | None:
        self._answer()
        return self.stored

    async def write(self, record: Record, before: Lease | None) -> Lease:
        if self.down:
            raise UnavailableError("no answer")
        if before is None and self.stored is not None:
            raise ConflictError("it exists", 409)
        if before is not None and self.stored is None:
            raise NotFoundError("it is gone", 404)
        if before is not None and self.stored is not None and before.manifest != self.stored.manifest:
            raise ConflictError("it has changed", 409)
        self.change(record)
        assert self.stored is not None
        lease = self.stored
        self._answer()
        return lease

    def _answer(self) -> None:
        if self.down or self.answers_are_lost:
            raise UnavailableError("no answer")
