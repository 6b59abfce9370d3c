"""Between the operator and everything it calls: the API server, and each pod's sidecar.

Invariant: every call of the operator passes the :class:`Gate`, which counts those that change something; so "after its
k-th call" is a place, the same in each repetition, without a line in the product.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from tests.apiserver.proxying import LoopThread, PassedOn, end_to_end, listen, session, whole

READS = {"GET", "HEAD"}


class When(Enum):
    """Where in a call the operator ends."""

    BEFORE = "before it arrives"
    AFTER = "after it was carried out, before the answer"


@dataclass
class Gate:
    """Counts the calls that change something, and ends the operator at one of them."""

    calls: list[str] = field(default_factory=list)
    hit: bool = False
    _counted: re.Pattern[str] = re.compile("")
    _at: tuple[int, When] | None = None
    _kill: Callable[[], None] = lambda: None

    def count(self, counted: str) -> None:
        """Count from 0, and end nobody; ``counted``: what is found in the titles of those calls that matter."""
        self.calls, self.hit, self._counted, self._at = [], False, re.compile(counted), None

    def arm(self, call: int, when: When, kill: Callable[[], None]) -> None:
        """``kill`` is called at the ``call``-th of those calls, counted from 0."""
        self._at, self._kill = (call, when), kill

    def enter(self, title: str) -> int | None:
        """A call begins; returns its number, -1 for one that does not matter, None when it does not arrive."""
        if not self._counted.search(title):
            return -1
        number = len(self.calls)
        self.calls.append(title)
        return None if self._ends(number, When.BEFORE) else number

    def leave(self, number: int) -> bool:
        """A call was carried out; returns whether its answer arrives."""
        return not self._ends(number, When.AFTER)

    def _ends(self, number: int, when: When) -> bool:
        if self._at != (number, when) or self.hit:
            return False
        self.hit = True
        self._kill()
        return True


class Network:
    """Proxies, on a thread of their own: a context manager."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._thread = LoopThread("network")
        self._lines: dict[str, _Line] = {}

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines.values():
            self._thread.call(line.close())
        self._thread.stop()

    def connect(self, name: str, host: str, port: int, upstream: str, authority: str | None = None) -> None:
        """Listen at an address for what stands at another; ``authority``: the CA of a server with TLS. What is there
        already stays."""
        if name not in self._lines:
            line = _Line(self.gate, name, host, port, upstream, authority)
            self._thread.call(line.open())
            self._lines[name] = line

    def refuse(self, name: str) -> None:
        """Nobody listens there any more: connections are refused, and those that stand end."""
        self._thread.call(self._lines[name].refuse())

    def swallow(self, name: str) -> None:
        """What is sent there arrives, and is never answered; it is not carried out either."""
        self._lines[name].swallows = True

    def mend(self, name: str) -> None:
        """As before."""
        self._lines[name].swallows = False
        self._thread.call(self._lines[name].open())


class _Line:
    """One proxy, to one server."""

    def __init__(self, gate: Gate, name: str, host: str, port: int, upstream: str, authority: str | None) -> None:
        self._gate, self._name, self._upstream = gate, name, upstream
        self._host, self._port = host, port
        self._tls: ssl.SSLContext | bool = ssl.create_default_context(cadata=authority) if authority else True
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.swallows = False

    async def open(self) -> None:
        if self._runner is not None:
            return
        if self._session is None:
            self._session = session()
        self._runner = await listen(self._handle, self._host, self._port)

    async def refuse(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        await self.refuse()
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        if self.swallows:
            await asyncio.Event().wait()
        number = None
        if request.method not in READS:
            number = self._gate.enter(f"{request.method} {self._name} {request.path}")
            if number is None:
                raise web.HTTPServiceUnavailable
        assert self._session is not None
        async with PassedOn(self._session, self._upstream, request, self._tls) as answer:
            if number is not None:
                response = await whole(answer)
                if not self._gate.leave(number):
                    raise web.HTTPServiceUnavailable
                return response
            stream = web.StreamResponse(status=answer.status, headers=end_to_end(answer.headers))
            with suppress(ConnectionResetError):  # the operator was killed
                await stream.prepare(request)
                async for chunk in answer.content.iter_any():
                    await stream.write(chunk)
            return stream


def through(kubeconfig: Path, port: int, path: Path) -> tuple[str, str]:
    """Write to ``path`` a kubeconfig that reaches the API server through a proxy on this port; returns the server's own
    address, and its CA."""
    document = yaml.safe_load(kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    server, authority = cluster["server"], b64decode(cluster["certificate-authority-data"]).decode("ascii")
    document["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return server, authority
