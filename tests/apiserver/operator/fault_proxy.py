"""A proxy between the operator and the API server, which does what API servers and networks do at times.

Requests are counted from :meth:`FaultProxy.arm` on, so a fault can be put at each one of a run; watches are counted
apart, and all of them can be made to fall silent. Requests for the Lease are passed on: they come by the clock, not by
what happens.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from devcluster.control_plane import ADDRESS, ControlPlane
from tests.apiserver.proxying import LoopThread, PassedOn, end_to_end, listen, session, whole

LEASES = "/leases/"


class Fault(Enum):
    """What becomes of one request."""

    LOST = "answer lost"
    """It has its effect, and the connection is reset before the answer."""
    RESET = "connection reset"
    """It never arrives."""
    CONFLICT = 409
    TOO_MANY = 429
    TOO_MANY_FOR_NOW = "429 with Retry-After"
    ERROR = 500


class WatchFault(Enum):
    """What becomes of a watch that is opened."""

    CLOSED = "closed at once"
    GONE = "410 in the stream"
    ERROR = "500 as the answer"
    REFUSED = "404 as the answer"


@dataclass(frozen=True)
class Asked:
    """A request of the operator."""

    method: str
    path: str
    watch: bool

    def __str__(self) -> str:
        return f"{'WATCH' if self.watch else self.method} {self.path}"


class FaultProxy:
    """A context manager. Everything happens on an event loop in a thread of its own; the methods may be called from
    the test's."""

    def __init__(self, plane: ControlPlane) -> None:
        self.asked: list[Asked] = []
        """Since :meth:`arm`."""
        self.met: Asked | None = None
        """What the last fault was put at."""
        self._plane = plane
        self._fault: tuple[Fault | WatchFault, int] | None = None
        self._silent = False
        self._watches: set[asyncio.Transport] = set()
        self._mute: set[asyncio.Transport] = set()
        self._thread = LoopThread("fault-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._thread.call(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.call(self._stop())
        self._thread.stop()

    def kubeconfig(self, of: Path, path: Path) -> Path:
        """Write a kubeconfig file that is ``of``, by way of this proxy."""
        document = yaml.safe_load(of.read_text())
        document["clusters"][0]["cluster"]["server"] = f"https://{ADDRESS}:{self._port}"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document))
        return path

    # What happens

    def arm(self, fault: Fault | WatchFault | None = None, at: int = 0) -> None:
        """Forget what was asked; the request (or the watch) number ``at`` from now on, counted from 0, meets the
        fault."""
        self._thread.do(lambda: self._arm(fault, at))

    @property
    def armed(self) -> bool:
        """The fault has not been met so far."""
        return self._fault is not None

    @contextmanager
    def silence(self) -> Iterator[None]:
        """No watch tells anything while the block runs, nor are they closed; then all connections of watches are cut,
        and what happened meanwhile comes late."""
        self._thread.do(lambda: setattr(self, "_silent", True))
        try:
            yield
        finally:
            self._thread.do(self._cut_watches)

    @contextmanager
    def delay(self) -> Iterator[None]:
        """What happens while the block runs is told after it, on the watches that are open."""
        self._thread.do(lambda: setattr(self, "_silent", True))
        try:
            yield
        finally:
            self._thread.do(lambda: setattr(self, "_silent", False))

    def mute(self) -> None:
        """The watches that are open never tell anything any more, and are not closed; those that follow do."""
        self._thread.do(lambda: self._mute.update(self._watches))

    def cut_watches(self) -> None:
        """All watches that are open end, and are opened again by the operator."""
        self._thread.do(self._cut_watches)

    # On the loop

    def _arm(self, fault: Fault | WatchFault | None, at: int) -> None:
        self.asked = []
        self._fault = None if fault is None else (fault, at)

    def _cut_watches(self) -> None:
        self._silent = False
        for transport in self._watches:
            transport.abort()

    def _take(self, kind: type[Fault] | type[WatchFault], asked: Asked) -> Fault | WatchFault | None:
        """The fault that this request meets."""
        number = sum(each.watch is asked.watch for each in self.asked)
        self.asked.append(asked)
        if self._fault is None or not isinstance(self._fault[0], kind) or self._fault[1] != number:
            return None
        fault, self._fault, self.met = self._fault[0], None, asked
        return fault

    async def _start(self) -> None:
        authority = self._plane.files.authority
        pair = authority.issue("fault-proxy", "fault-proxy", hosts=[ADDRESS])
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(pair.certificate, pair.key)
        self._trusting = ssl.create_default_context(cafile=str(authority.pair.certificate))
        self._session = session()
        self._runner = await listen(self._serve, ADDRESS, 0, serving)
        self._port: int = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        self._cut_watches()
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path, request.query.get("watch") == "true")
        if asked.watch:
            return await self._watch(request, self._take(WatchFault, asked))
        match None if LEASES in asked.path else self._take(Fault, asked):
            case Fault.RESET:
                return _reset(request)
            case Fault.LOST:
                async with self._forward(request) as answer:
                    await answer.read()
                return _reset(request)
            case Fault.TOO_MANY_FOR_NOW:
                return _failure(429, {"Retry-After": "1"})
            case Fault() as fault:
                return _failure(int(fault.value))
        async with self._forward(request) as answer:
            return await whole(answer)

    async def _watch(self, request: web.Request, fault: Fault | WatchFault | None) -> web.StreamResponse:
        if fault in (WatchFault.REFUSED, WatchFault.ERROR):
            return _failure(404 if fault is WatchFault.REFUSED else 500)
        async with self._forward(request) as answer:
            if answer.status != 200:
                return await whole(answer)
            response = web.StreamResponse(status=answer.status, headers=end_to_end(answer.headers))
            response.enable_chunked_encoding()
            await response.prepare(request)
            if fault is WatchFault.GONE:
                await response.write(json.dumps({"type": "ERROR", "object": _status(410)}).encode() + b"\n")
            if fault is None:
                await self._relay(request, answer, response)
        return response

    async def _relay(self, request: web.Request, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        assert isinstance(request.transport, asyncio.Transport)
        transport = request.transport
        self._watches.add(transport)
        try:
            async for line in answer.content:
                while (self._silent or transport in self._mute) and not transport.is_closing():
                    await asyncio.sleep(0.02)
                await response.write(line)
        except (ConnectionError, aiohttp.ClientError):
            pass  # either end is gone
        finally:
            self._watches.discard(transport)
            self._mute.discard(transport)

    def _forward(self, request: web.Request) -> PassedOn:
        return PassedOn(self._session, self._plane.server, request, self._trusting)


def _reset(request: web.Request) -> web.Response:
    assert isinstance(request.transport, asyncio.Transport)
    request.transport.abort()
    return web.Response()


def _status(code: int) -> dict[str, Any]:
    reasons = {404: "NotFound", 409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}
    message = "the fault proxy says so"
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    return {**status, "reason": reasons[code], "message": message}


def _failure(code: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(_status(code), status=code, headers=headers)
