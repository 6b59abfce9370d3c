"""Leading and standing by: the Lease is acquired, renewed, outbid where a pod asks for it, and given back.

Invariant: nothing is sent in the leader's name without :meth:`Leadership.check`, which tells by this process's own
clock alone whether it still leads. So a leader that was paused, or cut off from the API server, sends nothing any more,
however late it goes on; a call that was under way meets the fence of the pods, or the version of its object.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol

from vectorindex.cluster.errors import ClusterError, ConflictError, NotFoundError
from vectorindex.cluster.lease import Lease
from vectorindex.dataplane.errors import FencedError
from vectorindex.domain import election
from vectorindex.domain.election import Acquire, Candidate, Decision, Lost, Record, Renew, Timing, View, Wait
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.epoch import HEADER

logger = logging.getLogger(__name__)

JITTER = 0.2
"""By up to this share a standby looks later, so that several do not write at the same time."""


class LeasePort(Protocol):
    """The Lease; see :class:`vectorindex.cluster.lease.LeaseStore`. Every method raises ClusterError."""

    async def read(self) -> Lease | None: ...

    async def write(self, record: Record, before: Lease | None) -> Lease: ...


class LeadershipLostError(BaseException):
    """This process leads no more and must end. No Exception: who handles those would go on."""


class Leadership:
    """``clock``: seconds that only grow, also while the machine sleeps. ``wall``: microseconds since 1970."""

    def __init__(
        self, leases: LeasePort, me: Candidate, timing: Timing, clock: Callable[[], float], wall: Callable[[], int]
    ) -> None:
        self._leases, self._me, self._timing = leases, me, timing
        self._clock, self._wall = clock, wall
        self._view = View()
        self._newest: Lease | None = None
        self._is_newest = False
        """Is ``_newest`` what the API server has, as far as we know? After a write without an answer nobody knows."""
        self._renewed: float | None = None
        self._epoch = 0
        self._over = ""
        """Why this process leads no more, and never will."""
        self._writing = asyncio.Lock()
        self.heard = False
        """Was the last attempt answered?"""

    @property
    def leads(self) -> bool:
        """Does this process hold the Lease, by its own clock?"""
        return not self._over and self._held_until is not None and self._clock() < self._held_until

    @property
    def lease_age(self) -> float | None:
        """Seconds since this process last renewed the Lease; None for a standby."""
        return None if self._renewed is None else self._clock() - self._renewed

    def check(self) -> None:
        """Call it before anything is sent in the leader's name. Raises LeadershipLostError."""
        if not self.leads:
            raise LeadershipLostError(self._over or "it was not renewed in time")

    def headers(self, endpoint: Endpoint) -> dict[str, str]:
        """What a call of a sidecar bears. Raises LeadershipLostError."""
        self.check()
        return {HEADER: str(self._epoch)}

    async def acquire(self) -> None:
        """Stand by, and return as the leader."""
        holder = ""
        while not self.leads:
            pause = self._timing.retry * (1 + JITTER * random.random())  # noqa: S311 - jitter
            decision = await self.attempt()
            if isinstance(decision, Wait):
                if decision.holder != holder:
                    logger.info("standing by: %s leads", decision.holder)
                holder, pause = decision.holder, min(pause, decision.seconds)
            if not self.leads:
                await asyncio.sleep(pause)
        logger.info("leading as %s, epoch %d", self._me.name, self._epoch)

    async def attempt(self, epoch: int = 0) -> Decision | None:
        """Look at the Lease once and do what follows; returns what that was, None where the API server gave no answer.
        A leader's ``epoch`` is at least this one then.

        Raises:
            LeadershipLostError
        """
        async with self._writing:
            if self._over:
                raise LeadershipLostError(self._over)
            try:
                async with asyncio.timeout(self._request_timeout):
                    decision = await self._step(epoch)
            except (ClusterError, TimeoutError) as error:
                self.heard = False
                logger.warning("the Lease: %s; it will be tried again", str(error) or "no answer")
                return None
            self.heard = True
            return decision

    async def keep(self) -> None:
        """Renew the Lease until it is lost. Raises LeadershipLostError."""
        while True:
            await asyncio.sleep(self._timing.retry)
            await self.attempt()
            self.check()

    async def outbid(self, endpoint: Endpoint, refusal: FencedError) -> bool:
        """A pod did not take the epoch of a call: have we a higher one now, that it will take? It may have been called
        by the leader of a Lease that was deleted, or of another cluster. Raises LeadershipLostError."""
        if not refusal.is_over:
            return False
        if self._epoch > refusal.epoch and self._epoch >= refusal.seen:
            return True  # it was outbid already, for another call
        epoch = election.outbid(refusal.seen, self._wall())
        if epoch is None:
            logger.error(
                "pod %s has seen epoch %d, which is too far ahead: compare the clocks", endpoint.pod, refusal.seen
            )
            return False
        await self.attempt(epoch)
        self.check()
        if self._epoch < epoch:
            return False
        logger.warning(
            "pod %s has been called by a leader of epoch %d; ours is %d now. If this is seen again and again, another "
            "operator with a Lease of its own works in the same namespaces",
            endpoint.pod,
            refusal.seen,
            self._epoch,
        )
        return True

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait; nothing may be sent in the leader's name any more."""
        async with self._writing:
            if not self.leads:
                return
            self._over = "it was given back"
            try:
                async with asyncio.timeout(self._request_timeout):
                    if not self._is_newest:
                        await self._look()
                    if self._newest is not None and self._newest.record.holder == self._me.name:
                        await self._leases.write(election.released(self._newest.record, self._wall()), self._newest)
            except (ClusterError, TimeoutError) as error:
                logger.warning("the Lease was not given back, and expires: %s", str(error) or "no answer")
            else:
                logger.info("the Lease is given back")

    @property
    def _held_until(self) -> float | None:
        return None if self._renewed is None else self._renewed + self._timing.renew_deadline

    @property
    def _request_timeout(self) -> float:
        """So that there is time for another attempt after one that hangs."""
        return self._timing.renew_deadline / 2

    async def _step(self, epoch: int) -> Decision:
        while True:
            if self._renewed is None or not self._is_newest:
                await self._look()
            decision = election.decide(self._me, self._held_until, self._view, self._clock())
            try:
                match decision:
                    case Acquire():
                        if self._renewed is not None:
                            logger.warning("the Lease is gone, and is written again")
                        await self._write(election.claim(self._me, self._view, self._timing, self._wall()))
                    case Renew():
                        assert self._view.record is not None
                        epoch = max(epoch, self._epoch)
                        await self._write(election.renewed(self._view.record, self._wall(), epoch))
                    case Lost():
                        self._over = decision.why
                        raise LeadershipLostError(self._over)
            except (ConflictError, NotFoundError):
                continue  # somebody was quicker, or it is gone: look again
            return decision

    async def _look(self) -> None:
        self._newest = await self._leases.read()
        self._view = self._view.after(None if self._newest is None else self._newest.record, self._clock())
        self._is_newest = True

    async def _write(self, record: Record) -> None:
        sent = self._clock()
        self._is_newest = False
        self._newest = await self._leases.write(record, self._newest)
        self._is_newest = True
        self._view = self._view.after(self._newest.record, self._clock())
        self._renewed, self._epoch = sent, record.acquired
