"""Which searcher serves an index, and what every delete must reach.

Two rules make an acknowledged delete invisible to every later search:

- A delete is committed, applied to every attached searcher, then acknowledged; one after the other, under one lock.
- A new searcher loads without the lock, so that deletes go on meanwhile; then, under the lock, it is given all that
  died since, and is attached. So no delete falls between.

The reference is switched under the same lock, right after the transaction that makes the new view the true one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.ids_file import IdTable
from vectorindex.engine.segments import ViewSpec
from vectorindex.engine.store import Deletion, Store
from vectorindex.sidecar import log, process
from vectorindex.sidecar.errors import BadRequest, TooManyRequests, Unavailable
from vectorindex.sidecar.searcher_client import (
    SearcherBusy,
    SearcherClient,
    SearcherGone,
    SearcherRefused,
)
from vectorindex.sidecar.writer import Writer

_RESTART_SECONDS = 10.0  # how long a search waits for a searcher that is being restarted
_DRAIN_SECONDS = 30.0
_CONFIRM_SECONDS = 60.0  # for a delete of any size; a searcher that takes longer hangs
_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)


class Answer(NamedTuple):
    """``labels`` and ``distances``, each (rows, width) with width ≤ k, and the table that knows their IDs."""

    labels: NDArray[np.uint64]
    distances: NDArray[np.float32]
    ids: IdTable


class Serving(NamedTuple):
    """A searcher, and the IDs of the labels that it answers."""

    searcher: SearcherClient
    ids: IdTable

    async def search(self, queries: bytes, rows: int, k: int, ef: int) -> Answer:
        """``rows`` x dim float32 → the k nearest of each. Raises the errors of the searcher's client."""
        reply = await self.searcher.search(queries, rows, k, ef)
        count = reply.a * reply.b
        labels = np.frombuffer(reply.payload, np.uint64, count).reshape(reply.a, reply.b)
        distances = np.frombuffer(reply.payload, np.float32, count, 8 * count).reshape(reply.a, reply.b)
        return Answer(labels, distances, self.ids)


class Searchers:
    """The searchers of one index: one that serves, and during a swap a second one."""

    def __init__(self, name: str, writer: Writer, store: Store) -> None:
        self._name = name
        self._writer = writer
        self._store = store
        self._current: Serving | None = None
        self._serves = asyncio.Event()
        self._switches = 0
        self._stopped = False
        self._attached: set[SearcherClient] = set()
        self._writes = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._why_not = "the index is being loaded"

    @property
    def problem(self) -> str | None:
        """Why nothing serves, or None."""
        return self._why_not if self._current is None else None

    async def start(self) -> None:
        """Start the first searcher. Raises SearcherFailed when it refuses the files. One that only ended (killed, out
        of memory) is started again, like every later one."""
        try:
            self._serve(await self.prepare(self._store.view_spec))
        except SearcherGone as error:
            log.warning("searcher-ended", index=self._name, how=error)
            self._why_not = "the searcher ended and is being restarted"
            self._spawn(self._restart(self._switches))

    async def stop(self) -> None:
        """End every searcher; nothing serves afterwards."""
        self._current = None
        self._stopped = True
        self._serves.set()  # whoever waits for a searcher learns that none will come
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(searcher.end() for searcher in self._attached))
        self._attached.clear()

    async def search(self, queries: bytes, rows: int, k: int, ef: int) -> Answer:
        """``rows`` x dim float32 → the k nearest of each. Raises BadRequest, TooManyRequests, Unavailable.

        A search whose searcher ends under it is repeated once, on the next one."""
        for _ in range(2):
            serving = self._current or await self._next()
            try:
                return await serving.search(queries, rows, k, ef)
            except SearcherBusy as error:
                raise TooManyRequests(f"index {self._name}: {error}; send fewer requests at a time") from None
            except SearcherRefused as error:
                raise BadRequest(str(error)) from None
            except SearcherGone:
                self._drop(serving)
        raise Unavailable(f"index {self._name}: its searcher ended twice while it searched")

    async def delete(self, transaction: Callable[[], Deletion]) -> Deletion:
        """Commit ``transaction`` in the writer thread and return once no later search finds what it deleted."""
        async with self._writes:
            deletion = await self._writer.run(transaction)
            if deletion.labels.size:
                labels = deletion.labels.tobytes()
                await asyncio.gather(*(self._apply(searcher, labels) for searcher in self._attached))
        return deletion

    async def prepare(self, snapshot: Callable[[], ViewSpec]) -> Serving:
        """A searcher on the view that ``snapshot`` gives, attached: from now on every delete reaches it. It serves once
        it is switched to. Raises SearcherFailed or SearcherGone."""
        view = await self._writer.run(snapshot)
        ids = await asyncio.to_thread(IdTable.open, view.folder, view.segments)
        searcher = await SearcherClient.start(view)
        try:
            async with self._writes:
                died = np.setdiff1d((await self._writer.run(snapshot)).dead, view.dead)
                if died.size:
                    async with asyncio.timeout(_CONFIRM_SECONDS):
                        await searcher.delete(died.tobytes())
                self._attached.add(searcher)
        except BaseException:
            await searcher.end(grace=0)
            raise
        return Serving(searcher, ids)

    async def switch(self, serving: Serving, transaction: Callable[[], None]) -> None:
        """Commit ``transaction``, which makes the view of ``serving`` the index's, and let it serve. The searcher that
        served so far answers what it has and ends."""
        async with self._writes:
            await self._writer.run(transaction)
            old = self._current
            self._switches += 1
            self._serve(serving)
        if old is not None:
            self._attached.discard(old.searcher)
            self._spawn(self._retire(old.searcher))

    async def abandon(self, serving: Serving) -> None:
        """End a prepared searcher that will not be switched to."""
        self._attached.discard(serving.searcher)
        await serving.searcher.end(grace=0)

    def _serve(self, serving: Serving) -> None:
        self._current = serving
        self._serves.set()
        self._spawn(self._watch(serving))

    def _drop(self, serving: Serving) -> None:
        if self._current is serving:
            self._current = None
            self._serves.clear()
            self._why_not = "the searcher ended and is being restarted"
        self._attached.discard(serving.searcher)

    async def _next(self) -> Serving:
        """The searcher that serves next. Raises Unavailable if none does within a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RESTART_SECONDS):
                await self._serves.wait()
        if self._current is None:
            why = "it is being closed" if self._stopped else self._why_not
            raise Unavailable(f"index {self._name} does not serve: {why}")
        return self._current

    async def _apply(self, searcher: SearcherClient, labels: bytes) -> None:
        """Delete in one searcher. It is committed, so one that cannot, for whatever reason, must not serve any longer;
        the next one starts without them."""
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await searcher.delete(labels)
        except SearcherGone:
            self._attached.discard(searcher)
        except Exception as error:
            self._attached.discard(searcher)
            log.warning("searcher-did-not-delete", index=self._name, pid=searcher.pid, why=repr(error))
            await searcher.end(grace=0)

    async def _watch(self, serving: Serving) -> None:
        """Wait for the end of the searcher that serves; unless another took its place, start the next one."""
        switches = self._switches
        code = await serving.searcher.wait()
        if self._switches != switches:
            return
        log.warning("searcher-ended", index=self._name, pid=serving.searcher.pid, how=process.describe_exit(code))
        self._drop(serving)
        await self._restart(switches)

    async def _restart(self, switches: int) -> None:
        """Start a searcher from the files, however often it takes; a switch beyond ``switches`` makes it needless."""
        for attempt in itertools.count():
            await asyncio.sleep(_BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)])
            if self._switches != switches:
                return
            try:
                successor = await self.prepare(self._store.view_spec)
            except Exception as error:  # whatever it is, the index serves nobody until one starts
                self._why_not = f"no searcher could be started: {error}"
                log.warning("searcher-not-restarted", index=self._name, attempt=attempt, error=error)
                continue
            if self._switches != switches:  # what we loaded is the view before the switch
                await self.abandon(successor)
                return
            self._serve(successor)
            log.info("searcher-restarted", index=self._name, pid=successor.searcher.pid)
            return

    async def _retire(self, searcher: SearcherClient) -> None:
        try:
            await searcher.drain(_DRAIN_SECONDS)
        finally:
            await searcher.end()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
