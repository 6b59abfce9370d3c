"""The operations API as the operator uses it: idempotent, durable, one build at a time, cancelled for good."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.sidecar.program import Client, Launch, Program, connect, eventually, names, real_vectors, rows
from vectorindex.engine.hnsw_file import HnswFile
from vectorindex.engine.params import Metric
from vectorindex.wire.operations import unpack_bitmap

SLOW = {"M": 24, "ef_construction": 500}  # a build of seconds, so that there is something to interrupt


@asynccontextmanager
async def slowed(pids: list[int]) -> AsyncIterator[None]:
    """The processes get a tenth of the time, as on a busy machine, however fast this one is."""

    async def hold() -> None:
        try:
            while True:
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(0.045)
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(0.005)
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    holding = asyncio.create_task(hold())
    try:
        yield
    finally:
        holding.cancel()
        await asyncio.wait([holding])


async def test_a_delete_runs_in_its_put_and_only_once(filled: Program) -> None:
    async with connect(filled) as client:
        ids = ["nobody", "item-5", "item-6", "item-5"]
        first = await client.put("demo", "delete-1", "Delete", external_ids=ids)
        assert first.status == 200
        assert first.body["state"] == "Succeeded"
        result = first.body["result"]
        assert (result["deleted"], result["not_found"]) == (2, 1)
        assert unpack_bitmap(result["bitmap"], 3) == [False, True, True]
        assert first.body["volume_id"] == (await client.state("demo"))["volume_id"]

        sequence = (await client.state("demo"))["sequence"]
        distinct = ["nobody", "item-5", "item-6"]
        assert await client.put("demo", "delete-1", "Delete", external_ids=distinct) == first
        assert (await client.state("demo"))["sequence"] == sequence
        assert await client.operation("demo", "delete-1") == first.body
        listed = await client.ok("GET", "/v1/indexes/demo/operations")
        assert first.body in listed["operations"]


async def test_a_delete_is_previewed_and_kept_within_its_limit(filled: Program) -> None:
    async with connect(filled) as client:
        live = (await client.state("demo"))["counts"]["live"]
        ids = [*names(live // 2), "nobody"]
        before = await client.state("demo")
        preview = await client.ok("POST", "/v1/indexes/demo/delete-preview", {"external_ids": ids})
        assert (preview["live"], preview["deleted"]) == (live, live // 2)
        assert unpack_bitmap(preview["bitmap"], len(ids)) == [True] * (live // 2) + [False]
        assert preview["volume_id"] == before["volume_id"]
        refused = await client.put("demo", "limited", "Delete", external_ids=ids, max_delete_percent=49)
        assert (refused.status, refused.body["state"], refused.body["reason"]) == (200, "Failed", "DeleteLimitExceeded")
        after = await client.state("demo")
        assert (after["sequence"], after["counts"]) == (before["sequence"], before["counts"])
        assert await client.put("demo", "limited", "Delete", external_ids=ids, max_delete_percent=49) == refused
        assert (await client.put("demo", "limited", "Delete", external_ids=ids)).status == 409
        done = await client.put("demo", "enough", "Delete", external_ids=ids, max_delete_percent=50)
        assert done.body["result"]["deleted"] == live // 2


async def test_what_a_user_calls_the_same_is_done_once(filled: Program) -> None:
    async with connect(filled) as client:
        of_index = {"M": 9, "ef_construction": 55}
        asked: dict[str, Any] = {"operation_id": "2026/w47", "params": {"M": 6}}
        await client.put("demo", "first.1", "Rebuild", **asked, index_params=of_index)
        first = await client.finished("demo", "first.1")
        assert (first["state"], first.get("reason", "")) == ("Succeeded", "")
        assert [first["result"]["parameters"][name] for name in ("M", "ef_construction")] == [6, 55]
        # The index asks for something else by now, the object does not.
        second = (await client.put("demo", "second.1", "Rebuild", **asked, index_params={})).body
        assert (second["state"], second["reason"]) == ("Succeeded", "AlreadyApplied")
        assert second["result"] == first["result"]
        other = (await client.put("demo", "third.1", "Rebuild", operation_id="2026/w47", params={"M": 7})).body
        assert (other["state"], other["reason"]) == ("Failed", "OperationIDConflict")
        assert (await client.state("demo"))["parameters"]["M"] == 6


async def test_what_is_no_id_is_not_previewed(filled: Program) -> None:
    async with connect(filled) as client:
        bodies: list[dict[str, list[str]]] = [{"external_ids": []}, {"external_ids": ["a\nb"]}, {}]
        for body in bodies:
            assert (await client.call("POST", "/v1/indexes/demo/delete-preview", body)).status in (400, 422)
        answer = await client.call("POST", "/v1/indexes/nothing/delete-preview", {"external_ids": ["a"]})
        assert answer.status == 404


async def test_an_id_is_for_one_request(filled: Program) -> None:
    async with connect(filled) as client:
        await client.put("demo", "run-1", "Delete", external_ids=["item-1"])
        others: list[tuple[str, dict[str, Any]]] = [("Delete", {"external_ids": ["item-2"]}), ("Rebuild", {})]
        for kind, request in others:
            answer = await client.put("demo", "run-1", kind, **request)
            assert answer.status == 409
            assert "run-1" in answer.body["detail"]
        assert (await client.state("demo"))["counts"]["deleted"] == 1


async def test_what_is_cancelled_before_it_arrives_never_runs(filled: Program) -> None:
    async with connect(filled) as client:
        cancelled = await client.ok("DELETE", "/v1/indexes/demo/operations/late")
        assert cancelled["state"] == "Cancelled"
        answer = await client.put("demo", "late", "Delete", external_ids=["item-1"])
        assert answer.body["state"] == "Cancelled"
        assert (await client.state("demo"))["counts"]["deleted"] == 0


async def test_a_finished_operation_cannot_be_cancelled(filled: Program) -> None:
    async with connect(filled) as client:
        done = await client.put("demo", "done", "Delete", external_ids=["item-1"])
        assert await client.ok("DELETE", "/v1/indexes/demo/operations/done") == done.body


async def test_a_rebuild_while_searches_and_deletes_go_on(filled: Program, folder: Path) -> None:
    """No search fails, nothing deleted is ever found after its acknowledgement, and the figures are right."""
    vectors = real_vectors()[:3000]
    gone: set[str] = set()
    stop = asyncio.Event()
    searches = 0

    async def search_on(client: Client, seed: int) -> None:
        nonlocal searches
        choice = random.Random(seed)
        while not stop.is_set():
            acknowledged = set(gone)
            found = await client.search("demo", vectors[choice.randrange(3000)], k=20)
            assert len(found) == 20
            assert not acknowledged & set(found)
            searches += 1

    async with connect(filled) as client:
        old_files = {path.name for path in folder.glob("*.hnsw")}
        await client.delete("demo", names(600))
        gone.update(names(600))
        assert (await client.state("demo"))["counts"] == {"live": 2400, "deleted": 600, "delta": 0}
        async with asyncio.TaskGroup() as group:
            for seed in range(2):
                group.create_task(search_on(client, seed))
            await client.put("demo", "rebuild.1", "Rebuild", params=SLOW)
            progress = [0]
            deleted = 600
            while (status := await client.operation("demo", "rebuild.1"))["state"] in ("Queued", "Running"):
                progress.append(status["progress"])
                if deleted == 2_500:  # a slow machine: enough has been deleted meanwhile, and searches need some items
                    continue
                batch = names(5, first=deleted)
                assert (await client.delete("demo", batch))["deleted_count"] == 5
                gone.update(batch)
                deleted += 5
            stop.set()

        assert status["state"] == "Succeeded", status
        assert progress == sorted(progress)
        assert any(0 < percent < 90 for percent in progress)
        assert status["progress"] == 100
        assert searches > 10
        result = status["result"]
        assert result["parameters"]["M"] == 24
        assert result["unreachable"]["after"] == 0
        assert result["recall"]["n"] == 200
        assert result["recall"]["after"] > 0.95
        assert result["vectors"]["after"] < result["vectors"]["before"] <= 2400
        assert {"graph", "recall"} <= set(result["seconds"])
        state = await client.state("demo")
        live = 3000 - deleted
        assert state["counts"]["live"] == live
        assert live <= result["vectors"]["after"] <= live + 5
        assert state["counts"]["deleted"] <= deleted - 600, "what was dead when the build began is in no graph"
        for query in vectors[600:650]:
            assert not gone & set(await client.search("demo", query, k=20))
        assert not old_files & {path.name for path in folder.glob("*.hnsw")}


async def test_an_optimize_repairs_the_graph_in_place(filled: Program) -> None:
    vectors = real_vectors()[:3000]
    async with connect(filled) as client:
        before = await client.state("demo")
        await client.delete("demo", names(600))
        answer = await client.put("demo", "mend.1", "Optimize", verify={"samples": 100, "min_recall_percent": 90})
        assert answer.body["kind"] == "Optimize"
        status = await client.finished("demo", "mend.1")
        assert status["state"] == "Succeeded", status
        result = status["result"]
        assert result["vectors"] == {"before": 2400, "after": 2400}
        assert result["links_repaired"] > 600
        assert result["unreachable"]["after"] == 0
        assert result["bytes"]["after"] < 0.85 * result["bytes"]["before"]
        assert 0 < result["computations"]["after"] < result["computations"]["before"]
        assert (result["recall"]["n"], result["recall"]["k"]) == (100, 10)
        assert result["recall"]["after"] > 0.95
        state = await client.state("demo")
        assert state["parameters"] == before["parameters"] == result["parameters"]
        assert state["counts"] == {"live": 2400, "deleted": 0, "delta": 0}
        gone = set(names(600))
        for query in vectors[:50]:
            assert not gone & set(await client.search("demo", query, k=20))
        assert (
            await client.put("demo", "mend.1", "Optimize", verify={"samples": 100, "min_recall_percent": 90})
        ).body == status
        assert (await client.put("demo", "mend.1", "Rebuild")).status == 409


async def test_an_optimize_of_a_graph_that_needs_none(filled: Program) -> None:
    async with connect(filled) as client:
        await client.put("demo", "idle.1", "Optimize")
        result = (await client.finished("demo", "idle.1"))["result"]
        assert result["links_repaired"] == 0
        assert result["bytes"]["after"] == result["bytes"]["before"]
        assert result["vectors"] == {"before": 3000, "after": 3000}


async def test_builds_wait_for_each_other_in_order(filled: Program) -> None:
    async with connect(filled) as client:
        await client.put("demo", "one.1", "Rebuild", params=SLOW)
        await client.running("demo", "one.1")
        second = await client.put("demo", "two.1", "Rebuild", params={"M": 6})
        third = await client.put("demo", "three.1", "Optimize")
        assert (second.body["state"], third.body["state"]) == ("Queued", "Queued")
        running = (await client.state("demo"))["operations"]
        assert [operation["id"] for operation in running] == ["one.1", "two.1", "three.1"]
        for path in ("/rebuild", "/optimize"):
            refused = await client.call("POST", path, {"index_name": "demo"})
            assert refused.status == 409
            assert "one.1" in refused.body["detail"]
        assert (await client.ok("DELETE", "/v1/indexes/demo/operations/two.1"))["state"] == "Cancelled"
        assert (await client.put("demo", "one.1", "Rebuild", params=SLOW)).body["state"] == "Running"
        assert (await client.finished("demo", "three.1"))["state"] == "Succeeded"
        assert (await client.operation("demo", "one.1"))["state"] == "Succeeded"
        assert (await client.operation("demo", "two.1"))["state"] == "Cancelled"
        assert (await client.state("demo"))["parameters"]["M"] == SLOW["M"]


async def test_a_rebuild_changes_every_parameter_while_items_come_and_go(filled: Program, folder: Path) -> None:
    vectors = real_vectors()
    wanted = {"M": 24, "ef_construction": 400, "ef_search": 91, "rng_seed": 7}
    async with connect(filled) as client:
        assert not set(wanted.items()) & set((await client.state("demo"))["parameters"].items())
        await client.put("demo", "all.1", "Rebuild", params=wanted)
        await client.running("demo", "all.1")
        await client.ok("POST", "/init", {"index_name": "demo", "mode": "upsert"})
        await client.ok("POST", "/ingest/batch?index_name=demo", rows(names(50, first=3000), vectors[3000:3050]))
        await client.delete("demo", ["item-8"])
        status = await client.finished("demo", "all.1")
        assert status["state"] == "Succeeded", status
        assert status["result"]["parameters"] == wanted
        await client.ok("POST", "/finalize", {"index_name": "demo"})
        assert (await client.state("demo"))["parameters"] == wanted
        main, delta = (HnswFile.open(path, 384, Metric.COSINE) for path in sorted(folder.glob("*.hnsw")))
        assert [(graph.count, graph.m, graph.ef_construction) for graph in (main, delta)] == [
            (3000, 24, 400),
            (50, 24, 400),
        ]
        levels = main.graph.levels().copy()
        assert await client.search("demo", vectors[3017], k=1) == ["item-3017"]
        assert "item-8" not in await client.search("demo", vectors[8], k=20)

        await client.put("demo", "seed.1", "Rebuild", params={"rng_seed": 8})
        assert (await client.finished("demo", "seed.1"))["result"]["parameters"] == wanted | {"rng_seed": 8}
        (again,) = (HnswFile.open(path, 384, Metric.COSINE) for path in folder.glob("*.hnsw"))
        assert not np.array_equal(levels[:2000], again.graph.levels()[:2000]), "the seed draws the levels"


async def test_how_long_it_still_takes_and_what_the_next_would_take(filled: Program) -> None:
    async with connect(filled) as client:
        await client.delete("demo", names(600))
        before = (await client.state("demo"))["estimates"]
        assert (before["rebuild"]["measured"], before["optimize"]["measured"]) == (False, False)
        assert before["optimize"]["seconds"] <= before["rebuild"]["seconds"]
        assert 3_000_000 < before["optimize"]["disk_bytes"] <= before["rebuild"]["disk_bytes"]
        await client.put("demo", "timed.1", "Rebuild", params=SLOW)
        await client.running("demo", "timed.1")

        async def known() -> int | None:
            status = await client.operation("demo", "timed.1")
            assert status["state"] in ("Queued", "Running"), status
            return int(status.get("remaining_seconds", 0)) or None

        async with slowed(filled.children("builder")):
            assert 0 < await eventually(known, "the remaining time to be known") < 600
        status = await client.finished("demo", "timed.1")
        assert status["state"] == "Succeeded", status
        assert "remaining_seconds" not in status
        after = (await client.state("demo"))["estimates"]
        took = sum(status["result"]["seconds"].values())
        assert after["rebuild"]["measured"]
        assert took <= after["rebuild"]["seconds"] <= 1.1 * (took + 1) + 1
        assert not after["optimize"]["measured"]


async def test_a_running_rebuild_is_cancelled_at_once(filled: Program, folder: Path) -> None:
    async with connect(filled) as client:
        before = await client.state("demo")
        files = sorted(path.name for path in folder.glob("*.*"))
        await client.put("demo", "stop.1", "Rebuild", params=SLOW)
        await client.running("demo", "stop.1")
        assert len(filled.children("builder")) == 1
        status = await client.ok("DELETE", "/v1/indexes/demo/operations/stop.1")
        assert (status["state"], status["reason"]) == ("Cancelled", "Cancelled")
        assert filled.children("builder") == []
        assert sorted(path.name for path in folder.glob("*.*")) == files
        after = await client.state("demo")
        assert (after["parameters"], after["counts"]) == (before["parameters"], before["counts"])
        assert (await client.put("demo", "stop.1", "Rebuild", params=SLOW)).body["state"] == "Cancelled"


async def test_a_graph_that_finds_less_is_refused(filled: Program) -> None:
    async with connect(filled) as client:
        before = await client.state("demo")
        poor = {"M": 2, "ef_construction": 1, "ef_search": 1}
        await client.put("demo", "poor.1", "Rebuild", params=poor, verify={"samples": 50, "min_recall_percent": 100})
        status = await client.finished("demo", "poor.1")
        assert (status["state"], status["reason"]) == ("Failed", "RecallRegressed")
        assert "recall@10 would fall from" in status["message"]
        after = await client.state("demo")
        assert (after["parameters"], after["counts"]) == (before["parameters"], before["counts"])
        assert len(filled.children("searcher")) == 1


async def test_a_rebuild_of_nothing_live(launch: Launch) -> None:
    async with connect(launch()) as client:
        await client.create("empty")
        await client.put("empty", "none.1", "Rebuild", params={"M": 5})
        status = await client.finished("empty", "none.1")
        assert status["state"] == "Succeeded"
        assert status["result"]["vectors"] == {"before": 0, "after": 0}
        await client.load("empty", names(30), np.eye(30, 8, dtype=np.float32) + 1)
        await client.delete("empty", names(30))
        await client.put("empty", "none.2", "Rebuild")
        assert (await client.finished("empty", "none.2"))["state"] == "Succeeded"
        assert (await client.state("empty"))["counts"] == {"live": 0, "deleted": 0, "delta": 0}
        assert await client.search("empty", np.ones(8, np.float32)) == []


async def test_who_has_read_that_it_succeeded_may_begin_the_next(filled: Program) -> None:
    """Also in the moment in which the operation still cleans up."""
    async with connect(filled) as client:
        for _ in range(6):
            accepted = await client.call("POST", "/rebuild?wait=false", {"index_name": "demo"})
            assert accepted.status == 202
            while (await client.operation("demo", accepted.body["operation_id"]))["state"] != "Succeeded":
                pass


async def test_recall_is_measured_on_what_was_searched(launch: Launch) -> None:
    vectors = real_vectors()
    async with connect(launch()) as client:
        await client.create("demo", 384, metric="Cosine", params={"M": 8, "ef_construction": 40})
        await client.load("demo", names(2_000), vectors[:2_000])
        await client.delete("demo", names(300))
        await client.put("demo", "first", "Optimize")
        assert (await client.finished("demo", "first"))["result"]["recall"]["kind"] == "MovedItems"
        for query in vectors[3_000:3_150]:
            await client.search("demo", query)
        await client.delete("demo", names(300, 300))
        await client.put("demo", "second", "Optimize", verify={"samples": 120, "k": 5})
        recall = (await client.finished("demo", "second"))["result"]["recall"]
        assert (recall["kind"], recall["n"], recall["k"]) == ("RecentQueries", 120, 5)
        assert 0.9 < recall["after"] <= 1
        assert abs(recall["after"] - recall["before"]) < 0.05
