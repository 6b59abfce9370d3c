"""The workers: errors become outcomes, keys run side by side, and cancelling ends them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from vectorindex.api.common import UnreadableError
from vectorindex.cluster.errors import RejectedError, UnavailableError
from vectorindex.reconcile.keys import Key, Work
from vectorindex.reconcile.queue import Backoff, KeyedQueue
from vectorindex.reconcile.reconciler import is_temporary
from vectorindex.reconcile.workers import Workers

A, B = (Key(Work.INDEX, "default", name) for name in "ab")


@asynccontextmanager
async def running(reconcile: Callable[[Key], Awaitable[float | None]], concurrency: int = 4) -> AsyncIterator[Workers]:
    queue = KeyedQueue(time.monotonic, random.Random(0), Backoff(first=0.01))
    workers = Workers(queue, reconcile, is_temporary, concurrency)
    task = asyncio.create_task(workers.run())
    try:
        async with asyncio.timeout(10):
            yield workers
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@pytest.mark.parametrize(
    ("error", "level", "traceback"),
    [
        pytest.param(UnavailableError("no answer"), logging.WARNING, False, id="the world around"),
        pytest.param(RejectedError("invalid status"), logging.ERROR, True, id="what the API server rejects"),
        pytest.param(RejectedError("forbidden", 403), logging.WARNING, False, id="a right that is missing"),
        pytest.param(UnreadableError("spec.metric"), logging.WARNING, False, id="an index that cannot be read"),
        pytest.param(KeyError("uid"), logging.ERROR, True, id="a bug"),
    ],
)
async def test_an_error_is_logged_and_the_key_comes_back(
    error: Exception, level: int, traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    again = asyncio.Event()
    errors = [error]

    async def reconcile(key: Key) -> float | None:
        if errors:
            raise errors.pop()
        again.set()
        return None

    async with running(reconcile) as workers:
        workers.enter(A)
        await again.wait()
    [record] = caplog.records
    assert (record.levelno, bool(record.exc_info)) == (level, traceback)
    assert "VectorIndex default/a" in record.getMessage()


async def test_a_slow_key_holds_up_no_other() -> None:
    release, other = asyncio.Event(), asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        if key == A:
            await release.wait()
        else:
            other.set()
        return None

    async with running(reconcile) as workers:
        workers.enter(A)
        workers.enter(B)
        await other.wait()
        release.set()


async def test_a_key_is_looked_at_again_when_it_wished_for() -> None:
    looks = asyncio.Queue[Key]()

    async def reconcile(key: Key) -> float | None:
        looks.put_nowait(key)
        return 0.01

    async with running(reconcile) as workers:
        workers.enter(A)
        for _ in range(3):
            assert await looks.get() == A


async def test_no_more_than_so_many_at_a_time() -> None:
    at_work, most = 0, 0
    done = asyncio.Queue[Key]()

    async def reconcile(key: Key) -> float | None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        done.put_nowait(key)
        return None

    async with running(reconcile, concurrency=2) as workers:
        for number in range(10):
            workers.enter(Key(Work.DELETE, "default", str(number)))
        for _ in range(10):
            await done.get()
    assert most == 2
