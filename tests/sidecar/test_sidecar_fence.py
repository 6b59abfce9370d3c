"""The calls of operators, of which one is the leader no more."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.sidecar.pod import ENVIRONMENT, operator, write_identity
from tests.sidecar.program import Answer, Client, Launch, connect, names, random_vectors
from vectorindex.wire.epoch import HEADER

INDEX = "products"
BASE = f"/v1/indexes/{INDEX}"
CALLS: list[tuple[str, str, Any, bool]] = [
    ("GET", f"{BASE}/state", None, False),
    ("GET", f"{BASE}/operations", None, False),
    ("GET", f"{BASE}/operations/first", None, False),
    ("POST", f"{BASE}/delete-preview", {"external_ids": ["a"]}, False),
    ("PUT", f"{BASE}/configuration", {"ef_search": 99}, True),
    ("DELETE", f"{BASE}/operations/late", None, True),
]
"""Every call of the operator but the start of an operation, and whether it changes anything."""


async def delete(client: Client, operation: str, *ids: str) -> Answer:
    return await client.put(INDEX, operation, "Delete", external_ids=list(ids))


async def test_an_older_leader_is_refused_whatever_it_asks_also_after_a_restart(launch: Launch, tmp_path: Path) -> None:
    program = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(program, headers=operator()) as client:
        await client.load(INDEX, names(50), random_vectors(50))
        client.epoch = 1_000
        assert (await delete(client, "first", "item-1")).body["result"]["deleted"] == 1
        client.epoch = 2_000
        assert (await client.state(INDEX))["counts"]["live"] == 49
    program.stop()
    async with connect(launch(*write_identity(tmp_path), environment=ENVIRONMENT), headers=operator()) as client:
        volume = (await client.state(INDEX))["volume_id"]
        client.epoch = 1_999
        answers = [await client.call(method, path, body) for method, path, body, _ in CALLS]
        answers += [await delete(client, "late", "item-2"), await delete(client, "first", "item-1")]
        for answer in answers:
            detail = answer.body.pop("detail")
            assert answer == (409, {"epoch": 1_999, "seen": 2_000, "volume_id": volume})
            assert detail == "epoch 1999 is over: a newer leader, of 2000, has called this pod"
        client.epoch = 2_000
        state = await client.state(INDEX)
        assert (state["counts"]["live"], state["parameters"]["ef_search"]) == (49, 64)
        operations = (await client.ok("GET", f"{BASE}/operations"))["operations"]
        assert [each["id"] for each in operations if each["kind"] != "Finalize"] == ["first"]


async def test_a_call_that_took_long_to_arrive_is_refused_if_a_newer_leader_has_called_meanwhile(
    launch: Launch, tmp_path: Path
) -> None:
    program = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(program, headers=operator()) as client, aiohttp.ClientSession() as session:
        await client.load(INDEX, names(50), random_vectors(50))
        sending, called = asyncio.Event(), asyncio.Event()

        async def slowly() -> Any:
            yield b'{"kind": "Delete", "object": {"name": "run", "uid": "slow"}, '
            sending.set()
            await called.wait()
            yield b'"request": {"external_ids": ["item-1"]}}'

        url, headers = f"{program.url}{BASE}/operations/slow", {**operator(), HEADER: "1000"}
        slow = asyncio.create_task(session.put(url, data=slowly(), headers=headers))
        await sending.wait()
        client.epoch = 2_000
        assert (await client.state(INDEX))["counts"]["live"] == 50
        called.set()
        async with await slow as response:
            assert (response.status, (await response.json())["seen"]) == (409, 2_000)
        assert (await client.state(INDEX))["counts"]["live"] == 50


async def test_an_epoch_of_the_future_is_refused(launch: Launch, tmp_path: Path) -> None:
    async with connect(launch(*write_identity(tmp_path), environment=ENVIRONMENT), headers=operator()) as client:
        client.epoch = time.time_ns() // 1_000 + 600_000_000
        answer = await client.call("GET", f"{BASE}/state")
        assert (answer.status, answer.body["epoch"], answer.body["seen"]) == (409, client.epoch, 0)
        assert "compare the clocks" in answer.body["detail"]
        client.epoch = time.time_ns() // 1_000
        await client.state(INDEX)


@pytest.mark.parametrize("identified", [True, False], ids=["a pod", "by hand"])
async def test_without_an_epoch_a_pod_can_be_asked_and_by_hand_all_is_allowed(
    launch: Launch, tmp_path: Path, identified: bool
) -> None:
    program = launch(*(write_identity(tmp_path) if identified else ()), environment=ENVIRONMENT)
    async with connect(program, headers=operator()) as client:
        if not identified:
            await client.create(INDEX)
        client.epoch = 1_000
        await client.load(INDEX, names(50), random_vectors(50))
        await delete(client, "first", "item-1")
        client.epoch = None
        for method, path, body, changes in CALLS:
            answer = await client.call(method, path, body)
            assert answer.status == (428 if changes and identified else 200), (method, path)
            assert not (changes and identified) or HEADER in answer.body["detail"]
        assert (await delete(client, "second", "item-2")).status == (428 if identified else 200)
        assert (await client.state(INDEX))["counts"]["live"] == (49 if identified else 48)


async def test_an_epoch_that_is_none_is_refused(launch: Launch) -> None:
    program = launch()
    async with connect(program) as client, aiohttp.ClientSession() as session:
        await client.create(INDEX)
        for text in ("", "-1", "1e9", "9" * 19, "now"):
            async with session.get(f"{program.url}{BASE}/state", headers={HEADER: text}) as response:
                assert response.status == 400, text
                assert HEADER in (await response.json())["detail"]
