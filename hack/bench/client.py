"""One client with one connection that stays open, on a plain socket: what it waits for is the sidecar alone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from bench.plan import K
from bench.sidecar import HOST, INDEX, Sidecar, SidecarError

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length: "


class SearchClient:
    def __init__(self, sidecar: Sidecar, queries: NDArray[np.float32]) -> None:
        head = (
            f"POST /search.bin?index_name={INDEX}&k={K} HTTP/1.1\r\nHost: {HOST}\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {4 * queries.shape[1]}\r\n\r\n"
        ).encode()
        self._requests = [head + query.astype("<f4").tobytes() for query in queries]
        self._next = 0
        self._socket = socket.create_connection((HOST, sidecar.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def search(self) -> float:
        """Send the next query; returns the seconds until its answer is there. Raises SidecarError."""
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        started = time.perf_counter()
        self._socket.sendall(request)
        answer = b""
        while not complete(answer):
            part = self._socket.recv(65_536)
            if not part:
                raise SidecarError("the sidecar closed the connection in mid-search")
            answer += part
        seconds = time.perf_counter() - started
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SidecarError(f"a search was answered {answer[:200]!r}")
        return seconds

    def close(self) -> None:
        self._socket.close()


def complete(answer: bytes) -> bool:
    """Whether head and body of an answer are there."""
    head, found, body = answer.partition(END_OF_HEAD)
    if not found:
        return False
    length = head.lower().partition(LENGTH)[2].partition(b"\r")[0]
    return len(body) >= int(length)


class Timeline:
    """Searches one after the other: when each began (seconds of ``time.perf_counter``) and how long it took."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float]] = []
        self._error: SidecarError | None = None

    def search_until(self, client: SearchClient, ended: threading.Event) -> None:
        try:
            while not ended.is_set():
                began = time.perf_counter()
                self._rows.append((began, client.search()))
        except SidecarError as error:
            self._error = error

    def between(self, first: float, last: float) -> NDArray[np.float64]:
        """Seconds of the searches that ran at any time in between. Raises SidecarError if a search failed."""
        if self._error is not None:
            raise self._error
        rows: NDArray[np.float64] = np.array(self._rows, np.float64).reshape(-1, 2)
        ran = (rows[:, 0] <= last) & (rows.sum(axis=1) >= first)
        return np.ascontiguousarray(rows[ran, 1])


@contextmanager
def searching(client: SearchClient) -> Iterator[Timeline]:
    """Search all the time while the block runs."""
    timeline, ended = Timeline(), threading.Event()
    thread = threading.Thread(target=timeline.search_until, args=(client, ended))
    thread.start()
    try:
        yield timeline
    finally:
        ended.set()
        thread.join()
