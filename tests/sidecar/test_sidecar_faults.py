"""Whatever ends a process: what was acknowledged stays, what was unfinished goes on, and searches are served again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.sidecar.program import DEADLINE, Launch, Program, connect, eventually, names, real_vectors, rows

SLOW = {"M": 24, "ef_construction": 500}


async def test_a_sidecar_killed_in_a_rebuild_takes_it_up_again(filled: Program, launch: Launch, folder: Path) -> None:
    async with connect(filled) as client:
        await client.delete("demo", names(500))
        await client.put("demo", "rebuild.1", "Rebuild", params=SLOW)
        await client.running("demo", "rebuild.1", progress=5)
        await client.put("demo", "optimize.1", "Optimize", verify={"samples": 50})
        await client.delete("demo", names(100, first=500))
        boot = (await client.state("demo"))["boot_id"]
    filled.kill()

    async with connect(launch()) as client:
        status = await client.finished("demo", "rebuild.1")
        assert (status["state"], status["restarts"]) == ("Succeeded", 1)
        assert status["result"]["vectors"] == {"before": 2400, "after": 2400}
        state = await client.state("demo")
        assert state["boot_id"] != boot
        assert state["counts"] == {"live": 2400, "deleted": 0, "delta": 0}
        assert state["parameters"]["M"] == 24
        gone = set(names(600))
        for query in real_vectors()[:50]:
            assert not gone & set(await client.search("demo", query, k=20))
        assert len(list(folder.glob("*.hnsw"))) == 1
        assert (await client.put("demo", "rebuild.1", "Rebuild", params=SLOW)).body == status
        optimized = await client.finished("demo", "optimize.1")
        assert (optimized["state"], optimized["kind"]) == ("Succeeded", "Optimize")


async def test_a_sidecar_that_is_stopped_ends_at_once_and_goes_on_later(
    filled: Program, launch: Launch, folder: Path
) -> None:
    async with connect(filled) as client:
        await client.put("demo", "rebuild.1", "Rebuild", params=SLOW)
        await client.running("demo", "rebuild.1")
    assert len(filled.children()) == 2
    code, log = filled.stop()
    assert code == 0, log
    assert "Traceback" not in log
    with contextlib.closing(sqlite3.connect(folder / "index.db")) as database:
        counted = database.execute("SELECT state, restarts, crashes FROM operations WHERE id = 'rebuild.1'").fetchone()
    assert counted == ("Queued", 1, 0), "only a crash counts towards giving it up"
    async with connect(launch()) as client:
        status = await client.finished("demo", "rebuild.1")
        assert (status["state"], status["restarts"]) == ("Succeeded", 1)


async def test_a_rebuild_that_never_ends_well_is_given_up(filled: Program, launch: Launch) -> None:
    async with connect(filled) as client:
        await client.put("demo", "rebuild.1", "Rebuild", params=SLOW)
        await client.running("demo", "rebuild.1", progress=0)
    filled.kill()
    for restarts in range(1, 6):
        program = launch()
        async with connect(program) as client:
            await eventually(partial(program.children, "builder"), "the next attempt")
            assert (await client.running("demo", "rebuild.1", progress=0))["restarts"] == restarts
        program.kill()
    async with connect(launch()) as client:
        status = await client.finished("demo", "rebuild.1")
        assert (status["state"], status["reason"]) == ("Failed", "RestartLimitExceeded")
        assert (await client.put("demo", "rebuild.2", "Rebuild")).body["state"] == "Queued"
        assert (await client.finished("demo", "rebuild.2"))["state"] == "Succeeded"


async def test_acknowledged_writes_survive_sigkill(launch: Launch) -> None:
    vectors = real_vectors()[:300]
    first = launch()
    async with connect(first) as client:
        await client.create("demo", 384, metric="Cosine")
        await client.load("demo", names(200), vectors[:200])
        await client.load("demo", names(100, first=200), vectors[200:], mode="insert")
        await client.delete("demo", ["item-7"])
        put = await client.put("demo", "delete-1", "Delete", external_ids=["item-8"])
        volume = (await client.state("demo"))["volume_id"]
        await client.ok("POST", "/init", {"index_name": "demo", "mode": "upsert"})
        await client.ok("POST", "/ingest", {"index_name": "demo", "external_id": "x", "vector": vectors[0].tolist()})
    first.kill()
    async with connect(launch()) as client:
        state = await client.state("demo")
        assert state["volume_id"] == volume
        assert state["counts"]["live"] == 298
        found = await client.search("demo", vectors[7], k=300, efs=300)
        assert sorted(found) == sorted(set(names(300)) - {"item-7", "item-8"})
        assert await client.operation("demo", "delete-1") == put.body
        lost = await client.call(
            "POST", "/ingest", {"index_name": "demo", "external_id": "x", "vector": vectors[0].tolist()}
        )
        assert lost.status == 400
        assert "a restart ends it" in lost.body["detail"]


async def test_a_finalize_cut_off_by_a_kill_changes_nothing_and_says_so(filled: Program, launch: Launch) -> None:
    async with connect(filled) as client:
        await client.ok("POST", "/init", {"index_name": "demo", "mode": "build"})
        await client.ok("POST", "/ingest/batch?index_name=demo", rows(names(3000, first=3000), real_vectors()[3000:]))
        accepted = await client.call("POST", "/finalize?wait=false", {"index_name": "demo", "params": SLOW})
        assert accepted.status == 202
        identity = accepted.body["operation_id"]
        await client.running("demo", identity)
    filled.kill()
    async with connect(launch()) as client:
        status = await client.finished("demo", identity)
        assert (status["kind"], status["state"]) == ("Finalize", "Failed")
        assert "send its items again" in status["message"]
        assert (await client.state("demo"))["counts"]["live"] == 3000
        assert await client.search("demo", real_vectors()[17], k=1) == ["item-17"]


async def test_a_killed_searcher_is_replaced_and_searches_go_on(filled: Program) -> None:
    vectors = real_vectors()
    async with connect(filled) as client:
        await client.delete("demo", ["item-3"])
        (searcher,) = filled.children("searcher")
        searches = [client.search("demo", vectors[row], k=5, efs=1000) for row in range(40)]
        running = asyncio.gather(*searches)
        os.kill(searcher, signal.SIGKILL)
        for found in await running:
            assert len(found) == 5
            assert "item-3" not in found
        deleted = await client.delete("demo", ["item-4"])
        assert deleted["deleted_count"] == 1
        assert not {"item-3", "item-4"} & set(await client.search("demo", vectors[4], k=20))
        assert filled.children("searcher") != [searcher]


async def test_a_delete_does_not_wait_for_a_searcher_that_is_dead(filled: Program) -> None:
    async with connect(filled) as client:
        (searcher,) = filled.children("searcher")
        os.kill(searcher, signal.SIGSTOP)
        before = (await client.state("demo"))["sequence"]
        deleting = asyncio.create_task(client.delete("demo", ["item-4"]))

        async def committed() -> bool:
            return bool((await client.state("demo"))["sequence"] > before)

        await eventually(committed, "the delete to be committed")
        assert not deleting.done(), "acknowledged before the searcher knew of it"
        os.kill(searcher, signal.SIGKILL)
        assert (await deleting)["deleted_count"] == 1
        assert "item-4" not in await client.search("demo", real_vectors()[4], k=20)


async def test_a_killed_builder_fails_the_operation_and_says_why(filled: Program, folder: Path) -> None:
    async with connect(filled) as client:
        await client.put("demo", "rebuild.1", "Rebuild", params=SLOW)
        await client.running("demo", "rebuild.1")
        (builder,) = filled.children("builder")
        os.kill(builder, signal.SIGKILL)
        status = await client.finished("demo", "rebuild.1")
        assert (status["state"], status["reason"]) == ("Failed", "BuildFailed")
        assert "killed by SIGKILL" in status["message"]
        assert len(list(folder.glob("*.hnsw"))) == 1
        await client.put("demo", "rebuild.2", "Rebuild")
        assert (await client.finished("demo", "rebuild.2"))["state"] == "Succeeded"


async def test_too_many_searches_are_refused_and_the_others_answered(filled: Program) -> None:
    query = real_vectors()[0].tobytes()
    async with connect(filled) as client:
        (searcher,) = filled.children("searcher")
        os.kill(searcher, signal.SIGSTOP)
        refused = asyncio.Event()

        async def search() -> int:
            answer = await client.call("POST", "/search.bin?index_name=demo", query)
            if answer.status == 429:
                refused.set()
            return answer.status

        searches = [asyncio.create_task(search()) for _ in range(300)]
        try:
            await asyncio.wait_for(refused.wait(), 30)
        finally:
            os.kill(searcher, signal.SIGCONT)
        statuses = Counter(await asyncio.gather(*searches))
        assert set(statuses) == {200, 429}
        assert statuses[200] > 10


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_no_process_outlives_the_sidecar(filled: Program, how: str) -> None:
    """:meth:`Program.stop` and :meth:`Program.kill` wait for the children; here there are both kinds."""
    async with connect(filled) as client:
        await client.put("demo", "rebuild.1", "Rebuild", params=SLOW)
        await client.running("demo", "rebuild.1")
    assert len(filled.children("searcher")) == len(filled.children("builder")) == 1
    if how == "stop":
        assert filled.stop()[0] == 0
    else:
        filled.kill()


@pytest.mark.parametrize("job", [b"", pickle.dumps(list(range(9)))[:-5]], ids=["nothing", "a part"])
def test_a_builder_whose_job_does_not_come_whole_says_so_and_ends(job: bytes) -> None:
    command = [sys.executable, "-m", "vectorindex.sidecar.builder", "--parent", str(os.getpid())]
    ended = subprocess.run(command, input=job, capture_output=True, check=False, timeout=DEADLINE)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr == b"the sidecar that started this process has ended\n"
