"""What a sidecar may answer, and which error the caller sees."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from vectorindex.dataplane.errors import (
    FencedError,
    NotFoundError,
    OtherRequestError,
    RefusedError,
    SidecarError,
    UnauthorizedError,
    UnreachableError,
)
from vectorindex.dataplane.operations import Sidecars
from vectorindex.dataplane.transport import Transport
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.epoch import HEADER


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
        pytest.param(401, '{"detail": "no token"}', UnauthorizedError, "no token", id="not in our name"),
        pytest.param(404, '{"detail": "no such index"}', NotFoundError, "no such index", id="not found"),
        pytest.param(409, '{"detail": "another body"}', OtherRequestError, "another body", id="another request"),
        pytest.param(409, '{"detail": "over", "epoch": 3, "seen": 4}', FencedError, "over", id="another leader"),
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


@pytest.mark.parametrize("answer", [{}, {"audience": "shop/vi/vi-1"}], ids=["key", "audience"])
async def test_a_pod_that_is_called_by_anothers_name_says_its_own(answer: dict[str, str]) -> None:
    async with answering(401, json.dumps({"detail": "no", **answer})) as url, Transport() as transport:
        with pytest.raises(UnauthorizedError) as raised:
            await transport.call("GET", url)
    assert raised.value.audience == answer.get("audience")


async def test_an_answer_is_json() -> None:
    async with answering(200, '{"a": 1}') as url, Transport() as transport:
        assert await transport.call("GET", url) == {"a": 1}


async def test_a_program_of_another_kind_is_not_taken_for_a_sidecar() -> None:
    async with answering(200, '{"a": 1}') as url, Transport() as transport:
        endpoint = Endpoint("default", "vi", "vi-0", "127.0.0.1", int(url.rpartition(":")[2]))
        with pytest.raises(UnreachableError, match="not a IndexState"):
            await Sidecars(transport).state(endpoint)


@pytest.mark.parametrize("outbids", [True, False])
async def test_a_call_that_a_pod_does_not_take_for_its_epoch_is_repeated_with_a_higher_one_if_there_is_one(
    outbids: bool,
) -> None:
    epoch = 3
    asked: list[str] = []

    async def fence(request: web.Request) -> web.Response:
        asked.append(request.headers[HEADER])
        if int(asked[-1]) < 4:
            return web.json_response({"detail": "it is over", "epoch": 3, "seen": 4}, status=409)
        return web.json_response({"volume_id": "a"})

    async def outbid(endpoint: Endpoint, refusal: FencedError) -> bool:
        nonlocal epoch
        assert (endpoint.pod, refusal.epoch, refusal.seen, refusal.is_over) == ("vi-0", 3, 4, True)
        epoch = refusal.seen + 1 if outbids else epoch
        return outbids

    async with serving(fence) as url, Transport() as transport:
        endpoint = Endpoint("default", "vi", "vi-0", "127.0.0.1", int(url.rpartition(":")[2]))
        sidecars = Sidecars(transport, lambda _: {HEADER: str(epoch)}, outbid)
        if outbids:
            assert (await sidecars.operations(endpoint)).volume_id == "a"
        else:
            with pytest.raises(FencedError, match="it is over"):
                await sidecars.operations(endpoint)
    assert asked == (["3", "5"] if outbids else ["3"])


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
