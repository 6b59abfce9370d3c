"""What the proxies of these tests share: an event loop on a thread of its own, a server there, a request passed on."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

Result = TypeVar("Result")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade"}


class LoopThread:
    """Where a proxy runs while the test's thread goes on."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run it there, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def do(self, work: Callable[[], object]) -> None:
        """Call it there, and wait until it has returned."""

        async def run() -> None:
            work()

        self.call(run())


def session() -> aiohttp.ClientSession:
    """For requests that are passed on: as many at a time as there are, for as long as they take, bodies untouched."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        auto_decompress=False,
        read_bufsize=2**24,
    )


async def listen(handle: Handler, host: str, port: int, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    """Serve every request of any path by ``handle``, which is cancelled when the client goes."""
    application = web.Application(client_max_size=2**26)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    return runner


class PassedOn:
    """The answer of the server at ``upstream`` to a request; an async context manager."""

    def __init__(
        self, session: aiohttp.ClientSession, upstream: str, request: web.Request, tls: ssl.SSLContext | bool = True
    ) -> None:
        self._session, self._request, self._tls = session, request, tls
        self._url = URL(upstream + request.raw_path, encoded=True)

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._answer = await self._session.request(
            self._request.method,
            self._url,
            data=await self._request.read() or None,
            headers=end_to_end(self._request.headers),
            skip_auto_headers=("Content-Type", "Accept-Encoding", "User-Agent"),
            ssl=self._tls,
        )
        return self._answer

    async def __aexit__(self, *_: object) -> None:
        self._answer.close()


async def whole(answer: aiohttp.ClientResponse) -> web.Response:
    """The same answer, for the client."""
    return web.Response(status=answer.status, headers=end_to_end(answer.headers), body=await answer.read())


def end_to_end(headers: Any) -> list[tuple[str, str]]:
    """The headers that a proxy passes on."""
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]
