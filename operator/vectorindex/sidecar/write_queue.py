"""Group commit: writes wait in one queue, and all that came while the last group was committed are the next one.

So a write alone is committed at once, and a thousand at a time share one fsync. A write that is in the queue is made,
whoever goes away; what a group's transaction raises, each of its writes raises.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from vectorindex.engine.errors import OperationConflict
from vectorindex.engine.writes import Upsert, Write, Written
from vectorindex.sidecar.errors import Unavailable

GROUP_ROWS = 16_384
"""A group that holds so many items takes no further write."""

Commit = Callable[[Sequence[Write]], Awaitable[Sequence[Written | OperationConflict]]]


class WriteQueue:
    def __init__(self, commit: Commit) -> None:
        """``commit`` makes writes durable and seen, and gives an outcome for each."""
        self._commit = commit
        self._waiting: deque[tuple[Write, asyncio.Future[Written]]] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._closed = False
        self.upserting = 0
        """Rows of upserts that are in the queue or being committed."""

    async def put(self, write: Write) -> Written:
        """Make a write; it is durable and seen by every later search when this returns. Raises OperationConflict and
        what the store raises; Unavailable when it is closed."""
        if self._closed:
            raise Unavailable("the index is being closed")
        outcome: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, outcome))
        self.upserting += _upserted_rows(write)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await outcome

    async def close(self) -> None:
        """Make what is in the queue, and take nothing more."""
        self._closed = True
        await self.settle()

    async def settle(self) -> None:
        """Wait until everything that is in the queue has been made."""
        if self._draining is not None:
            await asyncio.wait([self._draining])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._commit_group(self._next_group())
        finally:
            self._draining = None

    def _next_group(self) -> list[tuple[Write, asyncio.Future[Written]]]:
        group = []
        rows = 0
        while self._waiting and rows < GROUP_ROWS:
            write, outcome = self._waiting.popleft()
            group.append((write, outcome))
            rows += len(write.external_ids)
        return group

    async def _commit_group(self, group: list[tuple[Write, asyncio.Future[Written]]]) -> None:
        try:
            outcomes = await self._commit([write for write, _ in group])
        except Exception as error:
            for _, waiting in group:
                if not waiting.done():
                    waiting.set_exception(error)
            return
        finally:
            self.upserting -= sum(_upserted_rows(write) for write, _ in group)
        for (_, waiting), outcome in zip(group, outcomes, strict=True):
            if waiting.done():  # whoever waited was cancelled
                continue
            if isinstance(outcome, OperationConflict):
                waiting.set_exception(outcome)
            else:
                waiting.set_result(outcome)


def _upserted_rows(write: Write) -> int:
    return len(write.external_ids) if isinstance(write, Upsert) else 0
