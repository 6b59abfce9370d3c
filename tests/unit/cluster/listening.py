"""A connection to an API server that a test plays."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler
from kubernetes.aio.client import ApiClient, Configuration

from vectorindex.cluster.client import ApiServer
from vectorindex.cluster.limits import RequestLimit


@asynccontextmanager
async def connected_to(path: str, answer: Handler, limit: RequestLimit) -> AsyncIterator[ApiServer]:
    """``answer`` is what a GET of ``path`` is answered by."""
    application = web.Application()
    application.router.add_get(path, answer)
    runner = web.AppRunner(application)
    await runner.setup()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listening).start()
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = ApiServer(ApiClient(configuration), limit, lambda: None)
        yield server
        await server.close()
        await runner.cleanup()
