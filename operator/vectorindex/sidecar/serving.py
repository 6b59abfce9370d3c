"""Which searcher serves an index, and what every write must reach.

Two rules make each later search see an acknowledged write:

- A write is committed, applied to every attached searcher, then acknowledged; one group after the other, under one
  lock.
- A new searcher loads without the lock, so that writes go on meanwhile; then, under the lock, it is given all that has
  changed since, and is attached. So no write falls between.

The reference is switched, and segments are exchanged in searchers that go on, under the same lock, right after the
transaction that makes the new view the true one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.errors import CorruptFile, OperationConflict
from vectorindex.engine.ids_file import IdsFile, IdTable, open_ids
from vectorindex.engine.rows import concatenated
from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.store import Store
from vectorindex.engine.view_change import ViewChange, difference
from vectorindex.engine.writes import Upserted, Write, Written
from vectorindex.sidecar import log, process
from vectorindex.sidecar.errors import BadRequest, TooManyRequests, Unavailable
from vectorindex.sidecar.searcher_client import (
    SearcherBusy,
    SearcherClient,
    SearcherFailed,
    SearcherGone,
    SearcherRefused,
)
from vectorindex.sidecar.writer import Writer

T = TypeVar("T")

_RESTART_SECONDS = 10.0  # how long a search waits for a searcher that is being restarted
_DRAIN_SECONDS = 30.0
_CONFIRM_SECONDS = 60.0  # for a change of any size; a searcher that takes longer hangs
_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)


class Answer(NamedTuple):
    """``labels`` and ``distances``, each (rows, width) with width ≤ k; ``table`` of the view when it was asked."""

    labels: NDArray[np.uint64]
    distances: NDArray[np.float32]
    table: IdTable

    def external_ids(self) -> list[list[str]]:
        """Of each row."""
        names = self._names()
        return [row if len(set(row)) == len(row) else list(dict.fromkeys(row)) for row in names]

    def with_distances(self) -> list[list[tuple[str, float]]]:
        """Of each row, each ID with its distance."""
        rows = []
        for names, distances in zip(self._names(), self.distances.tolist(), strict=True):
            nearest: dict[str, float] = {}
            for name, distance in zip(names, distances, strict=True):
                nearest.setdefault(name, distance)
            rows.append(list(nearest.items()))
        return rows

    def _names(self) -> list[list[str]]:
        """Of each row. An item that is being replaced may be found by its old label and by its new one."""
        names = self.table.external_ids(self.labels.ravel())
        width = self.labels.shape[1]
        return [names[row * width : (row + 1) * width] for row in range(len(self.labels))]


class Stored(NamedTuple):
    """Of n labels: which there are in the segments, their vectors (n, dim) as stored, and the lengths (n,) of the
    vectors as received."""

    found: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]


class Serving:
    """A searcher, and the IDs of the labels that it answers."""

    def __init__(self, searcher: SearcherClient, ids: IdTable) -> None:
        self.searcher = searcher
        self.ids = ids

    async def search(self, queries: bytes, rows: int, k: int, ef: int) -> Answer:
        """``rows`` x dim float32 → the k nearest of each; ``ef`` 0: exactly. Raises the errors of the searcher's
        client."""
        table = self.ids
        reply = await self.searcher.search(queries, rows, k, ef)
        count = reply.a * reply.b
        labels = np.frombuffer(reply.payload, np.uint64, count).reshape(reply.a, reply.b)
        distances = np.frombuffer(reply.payload, np.float32, count, 8 * count).reshape(reply.a, reply.b)
        return Answer(labels, distances, table)

    async def fetch(self, labels: NDArray[np.uint64]) -> Stored:
        """What the segments hold of these labels (n,)."""
        before = self.ids
        reply = await self.searcher.fetch(labels.tobytes())
        found = np.frombuffer(reply.payload, np.bool_, reply.a)
        vectors = np.frombuffer(reply.payload, np.float32, offset=reply.a).reshape(reply.a, -1)
        norms = before.norms(labels)
        return Stored(found, vectors, np.where(np.isnan(norms), self.ids.norms(labels), norms))

    async def apply(self, change: ViewChange, added: Mapping[int, IdsFile]) -> None:
        """Change what it serves, ``added``: the IDs of the segments that come. Raises the errors of the client."""
        self.ids = self.ids.changed(change, added)
        await self.searcher.apply(change)


class Searchers:
    """The searchers of one index: one that serves, and during a swap a second one."""

    def __init__(self, name: str, dimensions: int, writer: Writer, store: Store) -> None:
        self._name = name
        self._dimensions = dimensions
        self._writer = writer
        self._store = store
        self._current: Serving | None = None
        self._serves = asyncio.Event()
        self._switches = 0
        self._stopped = False
        self._attached: set[Serving] = set()
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
        await asyncio.gather(*(serving.searcher.end() for serving in self._attached))
        self._attached.clear()

    async def search(self, queries: bytes, rows: int, k: int, ef: int) -> Answer:
        """``rows`` x dim float32 → the k nearest of each; ``ef`` 0: exactly. Raises BadRequest, TooManyRequests,
        Unavailable."""
        return await self._ask(lambda serving: serving.search(queries, rows, k, ef))

    async def fetch(self, labels: NDArray[np.uint64]) -> Stored:
        """What the segments hold of these labels (n,). Raises TooManyRequests, Unavailable."""
        return await self._ask(lambda serving: serving.fetch(labels))

    async def _ask(self, question: Callable[[Serving], Awaitable[T]]) -> T:
        """The answer of the searcher that serves. If it ends over the question, the next one is asked, once."""
        for _ in range(2):
            serving = self._current or await self._next()
            try:
                return await question(serving)
            except SearcherBusy as error:
                raise TooManyRequests(f"index {self._name}: {error}; send fewer requests at a time") from None
            except SearcherRefused as error:
                raise BadRequest(str(error)) from None
            except SearcherFailed as error:
                raise Unavailable(f"index {self._name}: {error}") from error
            except SearcherGone:
                self._drop(serving)
        raise Unavailable(f"index {self._name}: its searcher ended twice while it searched")

    async def write(self, writes: Sequence[Write]) -> list[Written | OperationConflict]:
        """Commit writes in one transaction and return once every later search sees them."""
        async with self._writes:
            outcomes = await self._writer.run(self._store.write, writes)
            made = [outcome for outcome in outcomes if not isinstance(outcome, OperationConflict)]
            rows = concatenated([outcome.rows for outcome in made if isinstance(outcome, Upserted)], self._dimensions)
            await self._tell(ViewChange(rows, _together(outcome.labels for outcome in made)))
        return outcomes

    async def exchange(self, added: Sequence[Segment], transaction: Callable[[], ViewChange]) -> None:
        """Commit ``transaction``, which adds segments to the view, and return once every later search sees the change.
        The searchers go on; they open the files beforehand. Raises SearcherFailed when one refuses them."""
        files = await asyncio.to_thread(open_ids, self._store.folder, added)
        await asyncio.gather(*(self._open(serving, added) for serving in list(self._attached)))
        try:
            async with self._writes:
                await self._tell(await self._writer.run(transaction), files)
        except BaseException:
            await asyncio.gather(*(self._forget(serving, added) for serving in list(self._attached)))
            raise

    async def between_writes(self, function: Callable[[], T]) -> T:
        """Call a function of the store while every searcher has seen the last write, and none is being made."""
        async with self._writes:
            return await self._writer.run(function)

    async def prepare(self, snapshot: Callable[[], ViewSpec]) -> Serving:
        """A searcher on the view that ``snapshot`` gives, attached: from now on every write reaches it. It serves once
        it is switched to. Raises SearcherFailed, SearcherGone, CorruptFile."""
        while True:
            view = await self._writer.run(snapshot)
            try:
                return await self._prepare(view, snapshot)
            except (SearcherFailed, CorruptFile):
                if (await self._writer.run(snapshot)).segments == view.segments:
                    raise
                # A flush has put one segment in place of several meanwhile, and their files are gone.

    async def _prepare(self, view: ViewSpec, snapshot: Callable[[], ViewSpec]) -> Serving:
        ids = await asyncio.to_thread(IdTable.of, view)
        serving = Serving(await SearcherClient.start(view), ids)
        try:
            async with self._writes:
                change = difference(view, await self._writer.run(snapshot))
                if not change.empty:
                    files = await asyncio.to_thread(open_ids, view.folder, change.added)
                    async with asyncio.timeout(_CONFIRM_SECONDS):
                        await serving.apply(change, files)
                self._attached.add(serving)
        except BaseException:
            await serving.searcher.end(grace=0)
            raise
        return serving

    async def switch(self, serving: Serving, transaction: Callable[[], ViewChange]) -> None:
        """Commit ``transaction``, which makes the view of ``serving`` the index's, and let it serve. The searcher that
        served so far answers what it has and ends."""
        async with self._writes:
            change = await self._writer.run(transaction)
            await self._apply(serving, ViewChange(change.rows, change.died), {})
            old = self._current
            self._switches += 1
            self._serve(serving)
        if old is not None:
            self._attached.discard(old)
            self._spawn(self._retire(old.searcher))

    async def abandon(self, serving: Serving) -> None:
        """End a prepared searcher that will not be switched to."""
        self._attached.discard(serving)
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
        self._attached.discard(serving)

    async def _next(self) -> Serving:
        """The searcher that serves next. Raises Unavailable if none does within a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RESTART_SECONDS):
                await self._serves.wait()
        if self._current is None:
            why = "it is being closed" if self._stopped else self._why_not
            raise Unavailable(f"index {self._name} does not serve: {why}")
        return self._current

    async def _open(self, serving: Serving, segments: Sequence[Segment]) -> None:
        """Let a searcher open files that a change will add. Raises SearcherFailed when it refuses them."""
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await serving.searcher.open(segments)
        except SearcherGone:
            self._attached.discard(serving)
        except TimeoutError:
            await self._give_up(serving, "it did not open its files in time")

    async def _forget(self, serving: Serving, segments: Sequence[Segment]) -> None:
        """The change does not come: the files are gone, and shall not stay open."""
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await serving.searcher.forget([segment.generation for segment in segments])
        except SearcherGone:
            self._attached.discard(serving)
        except TimeoutError:
            await self._give_up(serving, "it did not close its files in time")

    async def _tell(self, change: ViewChange, files: Mapping[int, IdsFile] = MappingProxyType({})) -> None:
        if not change.empty:
            await asyncio.gather(*(self._apply(serving, change, files) for serving in list(self._attached)))

    async def _apply(self, serving: Serving, change: ViewChange, files: Mapping[int, IdsFile]) -> None:
        """Change one searcher. It is committed, so one that cannot, for whatever reason, must not serve any longer; the
        next one starts from what is committed."""
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await serving.apply(change, files)
        except SearcherGone:
            self._attached.discard(serving)
        except Exception as error:
            await self._give_up(serving, repr(error))

    async def _give_up(self, serving: Serving, why: str) -> None:
        self._attached.discard(serving)
        log.warning("searcher-did-not-change", index=self._name, pid=serving.searcher.pid, why=why)
        await serving.searcher.end(grace=0)

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


def _together(labels: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate([np.empty(0, np.uint64), *labels])
