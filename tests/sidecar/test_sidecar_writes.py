"""Single writes over HTTP: durable, read at once, flushed and merged behind everybody's back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.sidecar.program import Client, Launch, connect, eventually, names, random_vectors, rows

VECTORS = random_vectors(30_000, seed=3)


Vectors = NDArray[np.float32]


async def upsert(client: Client, ids: list[str], vectors: Vectors, index: str = "words") -> Any:
    return await client.ok("POST", f"/upsert.bin?index_name={index}", rows(ids, vectors))


async def ids_of(client: Client, index: str = "words", limit: int = 7_000) -> list[str]:
    """All of them, page by page."""
    found: list[str] = []
    after = ""
    while True:
        page = await client.ok("GET", f"/indexes/{index}/ids?limit={limit}&after={after}")
        found += page["external_ids"]
        if page["next"] is None:
            return found
        after = page["next"]


@pytest.mark.parametrize("metric", ["Cosine", "L2", "InnerProduct"])
async def test_what_is_written_is_read_at_once_and_after_a_kill(launch: Launch, metric: str) -> None:
    program = launch()
    async with connect(program) as client:
        await client.create("words", metric=metric)
        body = {"external_id": "a/b ✓", "vector": [float(number) for number in VECTORS[0]]}
        written = await client.ok("POST", "/upsert", {"index_name": "words", "items": [body]})
        assert (written["upserted_count"], written["replaced_count"], written["sequence"]) == (1, 0, 1)
        written = await upsert(client, names(500), VECTORS[:500])
        written = await upsert(client, ["item-7", "item-7", "new"], VECTORS[500:503])
        assert (written["upserted_count"], written["replaced_count"], written["sequence"]) == (2, 1, 3)
        assert (await client.delete("words", ["item-8", "none"]))["deleted_count"] == 1

    async def check(client: Client) -> None:
        assert await ids_of(client, limit=100) == sorted({*names(500), "a/b ✓", "new"} - {"item-8"})
        assert (await client.ok("GET", "/indexes/words/count"))["count"] == 501
        asked = ["item-7", "item-8", "a/b ✓", "item-9"]
        found = await client.ok("POST", "/fetch", {"index_name": "words", "external_ids": asked})
        assert found["not_found"] == ["item-8"]
        assert [item["external_id"] for item in found["items"]] == ["item-7", "a/b ✓", "item-9"]
        expected = [VECTORS[501], VECTORS[0], VECTORS[9]]
        np.testing.assert_allclose([item["vector"] for item in found["items"]], expected, rtol=1e-5, atol=1e-6)
        there = await client.ok("POST", "/exists", {"index_name": "words", "external_ids": asked})
        assert (set(there["found"]), there["not_found"]) == ({"item-7", "item-9", "a/b ✓"}, ["item-8"])
        query = VECTORS[501].tolist()
        exact = {"index_name": "words", "vectors": [query], "k": 5, "exact": True}
        result = await client.ok("POST", "/search", exact)
        approximate = await client.ok("POST", "/search", {**exact, "exact": False, "ef": 100})
        hits, others = result["results"][0], approximate["results"][0]
        assert [hit["external_id"] for hit in hits] == [hit["external_id"] for hit in others]
        distances = [hit["distance"] for hit in hits]
        assert distances == sorted(distances)
        np.testing.assert_allclose([hit["distance"] for hit in others], distances, rtol=1e-5, atol=1e-5)
        if metric != "InnerProduct":
            assert hits[0]["external_id"] == "item-7"
        assert await client.search("words", VECTORS[501], k=5) == [hit["external_id"] for hit in hits]

    async with connect(program) as client:
        await check(client)
    program.kill()
    async with connect(launch()) as client:
        await check(client)
        await client.ok("POST", "/rebuild", {"index_name": "words"})
        await check(client)
        await client.ok("POST", "/optimize", {"index_name": "words"})
        await check(client)


async def test_a_long_tail_becomes_segments_while_writes_go_on(launch: Launch) -> None:
    program = launch()
    async with connect(program) as client:
        await client.create("words", params={"M": 8, "ef_construction": 40})
        for start in range(0, 30_000, 1_000):
            await eventually_upsert(client, names(1_000, start), VECTORS[start : start + 1_000])

        async def flushed() -> bool:
            return bool((await client.state("words"))["tail"] < 4_096)

        await eventually(flushed, "the flush")
        state = await client.state("words")
        assert state["counts"] == {"live": 30_000, "deleted": 0, "delta": 30_000}
        for number in range(0, 30_000, 997):
            assert await client.search("words", VECTORS[number], k=1) == [f"item-{number}"]
        assert (state["sequence"], state["segments"] < 7) == (30, True)
    program.kill()
    async with connect(launch()) as client:
        assert await ids_of(client) == sorted(names(30_000))


async def eventually_upsert(client: Client, ids: list[str], vectors: Vectors) -> None:
    """As a client should: again when it is told 429."""

    async def taken() -> bool:
        answer = await client.call("POST", "/upsert.bin?index_name=words", rows(ids, vectors))
        assert answer.status in (200, 429), answer
        return answer.status == 200

    await eventually(taken, "room for more items")


async def test_writes_go_on_during_a_rebuild_and_are_all_there_after_it(launch: Launch) -> None:
    program = launch()
    async with connect(program) as client:
        await client.create("words")
        await client.load("words", names(3_000), VECTORS[:3_000])
        await client.delete("words", names(500))
        await client.put("words", "slow", "Rebuild", params={"M": 32, "ef_construction": 1_000})
        await client.running("words", "slow")
        written = 0
        while (await client.operation("words", "slow"))["state"] == "Running" and written < 20_000:
            first = 3_000 + written
            await eventually_upsert(client, names(200, first), VECTORS[first : first + 200])
            await client.delete("words", names(1, 500 + written // 200))
            written += 200
        assert (await client.finished("words", "slow"))["state"] == "Succeeded"
        expected = sorted(set(names(3_000 + written)) - set(names(500 + written // 200)))
        assert await ids_of(client) == expected
        counts = (await client.state("words"))["counts"]
        assert counts["live"] == len(expected)
        assert counts["deleted"] <= written // 200
        for number in range(2_990, 3_000 + written, 37):
            assert await client.search("words", VECTORS[number], k=1) == [f"item-{number}"]
    program.kill()
    async with connect(launch()) as client:
        assert await ids_of(client) == expected


@pytest.mark.parametrize("metric", ["Cosine", "L2"])
async def test_pods_that_hold_the_same_items_have_the_same_digest(launch: Launch, metric: str) -> None:
    """Three indexes as three pods: by one session, by single writes with more that goes again, and by both."""
    ids, vectors = names(900), VECTORS[:900]
    program = launch()
    async with connect(program) as client:
        for index in ("one", "two", "three"):
            await client.create(index, metric=metric)
        await client.load("one", ids, vectors)
        for start in range(600, -1, -300):
            await upsert(client, ids[start : start + 300], vectors[start : start + 300], "two")
        await upsert(client, ["extra"], VECTORS[900:901], "two")
        await client.load("three", ids, VECTORS[1_000:1_900])
        items = [{"external_id": name, "vector": vector.tolist()} for name, vector in zip(ids, vectors, strict=True)]
        await client.ok("POST", "/upsert", {"index_name": "three", "items": items[:100]})
        await client.load("three", ids[100:], vectors[100:], "upsert")
        assert len({(await client.state(index))["digest"] for index in ("one", "two", "three")}) == 2
        await client.delete("two", ["extra"])
        await client.put("three", "rebuild.1", "Rebuild")
        assert (await client.finished("three", "rebuild.1"))["state"] == "Succeeded"
        digests = {(await client.state(index))["digest"] for index in ("one", "two", "three")}
        assert len(digests) == 1
    program.kill()
    async with connect(launch()) as client:
        assert {(await client.ok("GET", f"/indexes/{index}/count"))["digest"] for index in ("one", "two")} == digests
        await client.delete("one", ids)
        assert (await client.state("one"))["digest"] == "0" * 16


async def test_many_clients_share_the_fsyncs(launch: Launch) -> None:
    async with connect(launch()) as client:
        await client.create("words")

        async def write(worker: int) -> None:
            for turn in range(20):
                await upsert(client, [f"item-{worker}"], VECTORS[worker * 20 + turn : worker * 20 + turn + 1])
                found = await client.search("words", VECTORS[worker * 20 + turn], k=1)
                assert found == [f"item-{worker}"], "what is acknowledged is found"

        await asyncio.gather(*(write(worker) for worker in range(30)))
        state = await client.state("words")
        assert (state["counts"]["live"], state["sequence"]) == (30, 600)


async def test_a_session_adds_to_the_searcher_that_serves(launch: Launch) -> None:
    program = launch()
    async with connect(program) as client:
        await client.create("words")
        await client.load("words", names(2_000), VECTORS[:2_000])
        searchers = program.children("searcher")
        await upsert(client, ["single"], VECTORS[9_000:9_001])
        await client.load("words", names(1_000, 1_500), VECTORS[10_000:11_000], mode="upsert")
        await client.load("words", names(10, 5_000), VECTORS[20_000:20_010], mode="insert")
        assert program.children("searcher") == searchers
        assert (await client.state("words"))["counts"] == {"live": 2_511, "deleted": 500, "delta": 1_011}
        for name, row in (("single", 9_000), ("item-1500", 10_000), ("item-5009", 20_009), ("item-3", 3)):
            assert await client.search("words", VECTORS[row], k=1) == [name]
        assert await client.search("words", VECTORS[1_700], k=1) != ["item-1700"]


async def test_bad_writes_change_nothing_and_say_what_is_wrong(launch: Launch) -> None:
    async with connect(launch()) as client:
        await client.create("words")
        for body, status, word in (
            ({"items": [{"external_id": "a", "vector": [1.0] * 7}]}, 400, "7 dimensions"),
            ({"items": [{"external_id": "a", "vector": [float("nan")] * 8}]}, 400, "NaN"),
            ({"items": [{"external_id": "", "vector": [1.0] * 8}]}, 400, "external ID 0"),
            ({"items": []}, 422, "items"),
            ({}, 422, "items"),
        ):
            answer = await client.call("POST", "/upsert", {"index_name": "words", **body})
            assert answer.status == status, answer
            assert word in answer.body["detail"], answer
        answer = await client.call("POST", "/upsert.bin?index_name=words", b"x" * 65)
        assert (answer.status, "whole rows" in answer.body["detail"]) == (400, True)
        answer = await client.call("POST", "/upsert.bin?index_name=words", rows(names(5_000), VECTORS[:5_000]))
        assert (answer.status, "session" in answer.body["detail"]) == (413, True)
        answer = await client.call("POST", "/search", {"index_name": "words", "vectors": [[1.0]], "k": 3})
        assert (answer.status, "1 dimensions" in answer.body["detail"]) == (400, True)
        answer = await client.call("POST", "/fetch", {"index_name": "nothing", "external_ids": ["a"]})
        assert answer.status == 404
        assert (await client.state("words"))["sequence"] == 0
        assert json.dumps(await ids_of(client)) == "[]"
