"""How fast the API server is asked, by a clock that the test moves; and that it is left alone when it asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from tests.unit.cluster.listening import connected_to
from vectorindex.cluster.client import ATTEMPTS, ApiServer
from vectorindex.cluster.errors import UnavailableError
from vectorindex.cluster.limits import RequestLimit


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def limit(time: Time, rate: float = 10.0, burst: int = 5) -> RequestLimit:
    return RequestLimit(rate, burst, time.clock, time.sleep)


async def admitted(time: Time, limited: RequestLimit, count: int) -> list[float]:
    """When each of so many requests in a row may begin, in seconds from now."""
    began, times = time.now, []
    for _ in range(count):
        await limited.admit()
        times.append(round(time.now - began, 6))
    return times


async def test_some_begin_at_once_and_then_so_many_a_second() -> None:
    time = Time()
    limited = limit(time)
    time.now += 60
    assert await admitted(time, limited, 8) == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3]
    time.now += 0.2
    assert await admitted(time, limited, 3) == [0, 0, 0.1]
    time.now += 60
    assert await admitted(time, limited, 6) == [0, 0, 0, 0, 0, 0.1]


async def test_none_begins_while_the_api_server_is_to_be_left_alone() -> None:
    time = Time()
    limited = limit(time)
    time.now += 60
    limited.hold(7)
    limited.hold(3)
    assert await admitted(time, limited, 2) == [7, 7]


async def test_waiting_requests_have_their_turns_in_the_order_in_which_they_came() -> None:
    time, waits, awake = Time(), list[float](), asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await awake.wait()

    limited = RequestLimit(10.0, 1, time.clock, sleep)
    asking = asyncio.gather(*(limited.admit() for _ in range(10)))
    await asyncio.sleep(0)
    assert waits == pytest.approx([0.1 * before for before in range(1, 10)])
    time.now += 60
    awake.set()
    await asking


@dataclass
class Answers:
    """A server that answers with these statuses, one after the other, and with 200 then."""

    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: int = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        status, headers = self.statuses.pop(0) if self.statuses else (200, {})
        return web.json_response({"message": "said"}, status=status, headers=headers)


@pytest.fixture
async def answers() -> AsyncIterator[tuple[Answers, ApiServer, Time]]:
    answers, time = Answers(), Time()
    async with connected_to("/", answers.answer, limit(time, rate=1_000, burst=1_000)) as server:
        yield answers, server, time


LATER = {"Retry-After": "3"}


@pytest.mark.parametrize("status", [429, 503])
async def test_a_request_is_sent_again_when_the_api_server_wants_it(
    answers: tuple[Answers, ApiServer, Time], status: int
) -> None:
    given, server, time = answers
    given.statuses = [(status, LATER), (status, LATER)]
    began = time.now
    assert await server.request("GET", "/") == {"message": "said"}
    assert (given.asked, time.now - began) == (3, 6.0)


@pytest.mark.parametrize(
    ("status", "headers", "asked"),
    [(429, {}, 1), (429, {"Retry-After": "tomorrow"}, 1), (500, LATER, 1), (429, LATER, ATTEMPTS)],
    ids=["no time", "no number", "no 429", "again and again"],
)
async def test_otherwise_the_caller_decides(
    answers: tuple[Answers, ApiServer, Time], status: int, headers: dict[str, str], asked: int
) -> None:
    given, server, _ = answers
    given.statuses = [(status, headers)] * 10
    with pytest.raises(UnavailableError, match="said"):
        await server.request("GET", "/")
    assert given.asked == asked
