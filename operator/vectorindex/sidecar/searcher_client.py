"""The front's end of one searcher: start it, ask it, end it.

Two socket pairs lead to a searcher, so that a change never queues behind searches: ``data`` (searches; any of its
threads answers) and ``control`` (load and changes; one thread, in order). Once a searcher is gone it never serves
again: every request in flight and every later one ends with :class:`SearcherGone`.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable, Sequence

from vectorindex.engine.segments import Segment, ViewSpec
from vectorindex.engine.view_change import ViewChange
from vectorindex.sidecar import ipc, log, process
from vectorindex.sidecar.ipc import Kind, Message
from vectorindex.sidecar.limits import MAX_BYTES_IN_FLIGHT, MAX_SEARCHES_IN_FLIGHT, search_threads


class SearcherGone(Exception):
    """The searcher has ended, so it cannot answer."""


class SearcherBusy(Exception):
    """The searcher's queue is full."""


class SearcherRefused(Exception):
    """The request is wrong; the message says how."""


class SearcherFailed(Exception):
    """The searcher could not do what it was asked; the message says why."""


class SearcherClient:
    """One searcher process, from its start to its end. Make it with :meth:`start`."""

    def __init__(self, child: asyncio.subprocess.Process, control: socket.socket, data: socket.socket) -> None:
        self._child = child
        self._control = _Channel(control, 16, self._close)
        self._data = _Channel(data, MAX_SEARCHES_IN_FLIGHT, self._close)

    @classmethod
    async def start(cls, view: ViewSpec) -> SearcherClient:
        """Start a searcher on ``view``, and wait until it can serve.

        Raises SearcherFailed when it refuses the files (the message names the file), SearcherGone when it ends."""
        control, control_child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        data, data_child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with control_child, data_child:
            try:
                child = await process.start(
                    "vectorindex.sidecar.searcher",
                    [
                        *("--control", str(control_child.fileno())),
                        *("--data", str(data_child.fileno())),
                        *("--threads", str(search_threads())),
                    ],
                    blas_threads=1,  # its own threads search side by side
                    pass_fds=(control_child.fileno(), data_child.fileno()),
                )
            except BaseException:
                control.close()
                data.close()
                raise
        client = cls(child, control, data)
        try:
            await client._control.ask(Kind.LOAD, payload=pickle.dumps(view))
        except BaseException:
            await client.end(grace=0)
            raise
        return client

    @property
    def pid(self) -> int:
        return self._child.pid

    def search(self, queries: ipc.Buffer, rows: int, k: int, ef: int) -> asyncio.Future[Message]:
        """``rows`` x dim float32 → the answer as :class:`~vectorindex.sidecar.ipc.Kind` describes it; ``ef`` 0: by an
        exact scan."""
        return self._data.ask(Kind.SEARCH, rows, k, ef, queries)

    def fetch(self, labels: ipc.Buffer) -> asyncio.Future[Message]:
        """``labels`` (u64) → the answer as :class:`~vectorindex.sidecar.ipc.Kind` describes it."""
        return self._data.ask(Kind.FETCH, payload=labels)

    async def open(self, segments: Sequence[Segment]) -> None:
        """Returns once a change that adds these segments is quick. Raises SearcherFailed when it refuses a file."""
        await self._control.ask(Kind.OPEN, payload=pickle.dumps(segments))

    async def forget(self, generations: Sequence[int]) -> None:
        """Let go segments that were opened for a change that will not come."""
        await self._control.ask(Kind.FORGET, payload=pickle.dumps(tuple(generations)))

    async def apply(self, change: ViewChange) -> None:
        """Returns once every later search of this searcher sees the change."""
        await self._control.ask(Kind.APPLY, payload=pickle.dumps(change))

    async def wait(self) -> int:
        """Wait for the process to end, by itself or not, and return its exit code."""
        code = await self._child.wait()
        self._close()
        return code

    async def drain(self, timeout: float) -> None:
        """Wait until every request in flight is answered. New ones are no longer sent by then: the caller has
        switched."""
        waiting = self._data.waiting()
        if waiting:
            await asyncio.wait(waiting, timeout=timeout)

    async def end(self, grace: float = 5.0) -> None:
        """Close its sockets, at which it ends by itself, and kill it if it does not within ``grace`` seconds."""
        self._close()
        await process.stop(self._child, grace)

    def _close(self) -> None:
        """Close both sockets, at which the searcher ends: it is of no use with one of them."""
        self._control.close()
        self._data.close()


class _Channel:
    """Requests and their answers over one socket, in any order, from the event loop only. ``lost`` is called when the
    other end is gone, or says what cannot be read."""

    def __init__(self, sock: socket.socket, limit: int, lost: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._limit = limit
        self._lost = lost
        self._answers: dict[int, tuple[asyncio.Future[Message], int]] = {}  # with the bytes that each request holds
        self._bytes = 0
        self._last_id = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)
        self._closed = False

    def ask(self, kind: Kind, a: int = 0, b: int = 0, c: int = 0, payload: ipc.Buffer = b"") -> asyncio.Future[Message]:
        """Send a request now and return the future of its answer."""
        if self._closed:
            raise SearcherGone("the searcher has ended")
        if len(self._answers) >= self._limit:
            raise SearcherBusy(f"{self._limit} requests are waiting already")
        if self._bytes + len(payload) > MAX_BYTES_IN_FLIGHT:
            raise SearcherBusy(f"requests of {self._bytes} bytes are waiting already")
        self._last_id += 1
        try:
            ipc.send(self._sock, Message(self._last_id, kind, a, b, c, payload))
        except BlockingIOError:
            raise SearcherBusy("the queue of the searcher is full") from None
        except ConnectionError:
            self._lost()
            raise SearcherGone("the searcher has ended") from None
        answer = self._loop.create_future()
        self._answers[self._last_id] = answer, len(payload)
        self._bytes += len(payload)
        return answer

    def waiting(self) -> list[asyncio.Future[Message]]:
        return [answer for answer, _ in self._answers.values()]

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        answers, self._answers = self._answers, {}
        for answer, _ in answers.values():
            if not answer.done():
                answer.set_exception(SearcherGone("the searcher ended before it answered"))

    def _read(self) -> None:
        try:
            message = ipc.receive(self._sock)
        except BlockingIOError:
            return
        except ConnectionError:
            message = None
        except Exception:  # whoever asked would wait for ever
            log.exception("searcher-unreadable")
            message = None
        if message is None:
            self._lost()
            return
        answer, size = self._answers.pop(message.id)
        self._bytes -= size
        if answer.done():  # whoever asked was cancelled
            return
        if message.kind is Kind.OK:
            answer.set_result(message)
        else:
            error = SearcherRefused if message.kind is Kind.INVALID else SearcherFailed
            answer.set_exception(error(bytes(message.payload).decode()))
