"""What a sidecar may answer, and which error the caller sees."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from vectorindex.dataplane.errors import (
    NotFoundError,
    OtherRequestError,
    RefusedError,
    SidecarError,
    UnreachableError,
)
from vectorindex.dataplane.operations import Sidecars
from vectorindex.dataplane.transport import Transport
from vectorindex.wire.endpoint import Endpoint


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """The URL of a server whose answers are these."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def answering(status: int, text: str) -> AsyncIterator[str]:
    """The URL of a server that always answers so."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    async with serving(answer) as url:
        yield url


@pytest.mark.parametrize(
    ("status", "text", "error", "words"),
    [
        pytest.param(404, '{"detail": "no such index"}', NotFoundError, "no such index", id="not found"),
        pytest.param(409, '{"detail": "another body"}', OtherRequestError, "another body", id="another request"),
        pytest.param(400, '{"detail": "bad"}', RefusedError, "bad", id="refused"),
        pytest.param(422, '{"detail": [{"loc": "x"}]}', RefusedError, '[{"loc": "x"}]', id="a structured detail"),
        pytest.param(413, "", RefusedError, "HTTP status 413", id="no words"),
        pytest.param(408, '{"detail": "slow"}', UnreachableError, "slow", id="too slow"),
        pytest.param(429, '{"detail": "busy"}', UnreachableError, "busy", id="too many"),
        pytest.param(503, '{"detail": "loading"}', UnreachableError, "loading (HTTP status 503)", id="not now"),
        pytest.param(200, "<html>", UnreachableError, "not JSON", id="no sidecar"),
    ],
)
async def test_answers_become_errors(status: int, text: str, error: type[SidecarError], words: str) -> None:
    async with answering(status, text) as url, Transport() as transport:
        with pytest.raises(error) as raised:
            await transport.call("GET", url)
    assert type(raised.value) is error
    assert words in str(raised.value)


async def test_an_answer_is_json() -> None:
    async with answering(200, '{"a": 1}') as url, Transport() as transport:
        assert await transport.call("GET", url) == {"a": 1}


async def test_a_program_of_another_kind_is_not_taken_for_a_sidecar() -> None:
    async with answering(200, '{"a": 1}') as url, Transport() as transport:
        endpoint = Endpoint("default", "vi", "vi-0", "127.0.0.1", int(url.rpartition(":")[2]))
        with pytest.raises(UnreachableError, match="not a IndexState"):
            await Sidecars(transport).state(endpoint)


async def test_a_port_that_nobody_listens_on() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with Transport() as transport:
            with pytest.raises(UnreachableError, match=r"^connection refused$"):
                await transport.call("GET", f"http://127.0.0.1:{free.getsockname()[1]}")


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def silent(request: web.Request) -> web.Response:
        never: asyncio.Future[web.Response] = asyncio.get_running_loop().create_future()
        return await never

    async with serving(silent) as url, Transport() as transport:
        with pytest.raises(UnreachableError, match=r"no answer within 0\.1 s"):
            await transport.call("GET", url, timeout=0.1)
