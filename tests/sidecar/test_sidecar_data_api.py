"""The maintenance and data API as its existing clients use it: every route, every refusal."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from typing import Any

import numpy as np
import pytest

from tests.sidecar.program import DEADLINE, Client, Program, eventually, names, random_vectors, rows

VECTORS = random_vectors(40)


def nearest(query: np.ndarray, k: int) -> list[str]:
    """The truth for VECTORS as item-0 … by squared distance."""
    return [f"item-{row}" for row in np.argsort(((VECTORS - query) ** 2).sum(1), kind="stable")[:k]]


async def test_the_life_of_an_index(client: Client) -> None:
    created = await client.ok("POST", "/indexes", {"index_name": "life", "dim": 8})
    assert created["success"] is True
    assert created["index_name"] == "life"
    status = await client.ok("GET", "/indexes/life/status")
    assert {key: status[key] for key in ("index_name", "dim", "has_index", "needs_rebuild", "metric")} == {
        "index_name": "life",
        "dim": 8,
        "has_index": False,
        "needs_rebuild": False,
        "metric": "L2",
    }
    assert await client.search("life", VECTORS[0]) == []
    await client.load("life", names(40), VECTORS)
    assert (await client.ok("GET", "/indexes/life/status"))["has_index"] is True
    listed = await client.ok("GET", "/indexes")
    assert "life" in listed["indexes"]
    assert listed["count"] == len(listed["indexes"])

    await client.ok("DELETE", "/indexes/life")
    assert "life" not in (await client.ok("GET", "/indexes"))["indexes"]
    assert (await client.call("GET", "/indexes/life/status")).status == 404
    assert (await client.call("POST", "/indexes", {"index_name": "life", "dim": 8})).status == 409
    await client.ok("POST", "/indexes/load", {"index_name": "life"})
    assert await client.search("life", VECTORS[3], k=5) == nearest(VECTORS[3], 5)

    await client.ok("DELETE", "/indexes/life?destroy=True")
    assert (await client.call("POST", "/indexes/load", {"index_name": "life"})).status == 404
    await client.create("life", 8)


async def test_a_closed_index_can_be_destroyed(client: Client) -> None:
    await client.create("closed")
    await client.ok("DELETE", "/indexes/closed")
    await client.ok("DELETE", "/indexes/closed?destroy=true")
    assert (await client.call("POST", "/indexes/load", {"index_name": "closed"})).status == 404


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
async def test_probes(client: Client, path: str) -> None:
    assert (await client.ok("GET", path))["success"] is True


async def test_searches_find_the_nearest_first(client: Client) -> None:
    await client.create("search")
    await client.load("search", names(40), VECTORS)
    for query in VECTORS[:10] + 0.1:
        assert await client.search("search", query, k=7) == nearest(query, 7)
    batch = await client.ok(
        "POST", "/search/batch.bin?index_name=search&k=3&efs=50&n_jobs=2", (VECTORS[:5] + 0.1).tobytes()
    )
    assert batch == [nearest(query, 3) for query in VECTORS[:5] + 0.1]
    assert len(await client.search("search", VECTORS[0])) == 10, "k is 10 when it is not given"
    assert len(await client.search("search", VECTORS[0], k=1000)) == 40, "no more than there are"


async def test_a_large_batch_comes_and_goes_whole(client: Client) -> None:
    """Larger than a socket's buffer both ways."""
    await client.create("large")
    await client.load("large", names(40), VECTORS)
    queries = random_vectors(8192, seed=1)
    answer = await client.ok("POST", "/search/batch.bin?index_name=large&k=40", queries.tobytes())
    assert len(answer) == 8192
    assert all(len(set(found)) == 40 for found in answer)
    assert answer[4711] == nearest(queries[4711], 40)


async def test_deleted_items_are_gone_at_once(client: Client) -> None:
    await client.create("delete")
    await client.load("delete", names(40), VECTORS)
    answer = await client.delete("delete", ["item-3", "nobody", "item-3", "item-4"], return_not_found=True)
    assert answer == {"deleted_count": 2, "not_found": ["nobody"]}
    assert await client.delete("delete", ["item-3", "item-5"]) == {"deleted_count": 1, "not_found": None}
    found = await client.search("delete", VECTORS[3], k=40)
    assert sorted(found) == sorted(set(names(40)) - {"item-3", "item-4", "item-5"})


async def test_insert_adds_and_refuses_what_exists(client: Client) -> None:
    await client.create("insert")
    await client.load("insert", names(20), VECTORS[:20])
    await client.load("insert", names(20, first=20), VECTORS[20:], mode="insert")
    assert len(await client.search("insert", VECTORS[0], k=100)) == 40

    await client.ok("POST", "/init", {"index_name": "insert", "mode": "insert"})
    await client.ok("POST", "/ingest/batch?index_name=insert", rows(["item-7", "new"], VECTORS[:2]))
    refused = await client.call("POST", "/finalize", {"index_name": "insert"})
    assert refused.status == 400
    assert "item-7" in refused.body["detail"]
    assert "new" not in await client.search("insert", VECTORS[0], k=100)


async def test_upsert_replaces(client: Client) -> None:
    await client.create("upsert")
    await client.load("upsert", names(40), VECTORS)
    far = np.full((1, 8), 50, np.float32)
    await client.load("upsert", ["item-0"], far, mode="upsert")
    assert (await client.search("upsert", VECTORS[0], k=40))[-1] == "item-0"
    assert (await client.search("upsert", far[0], k=1)) == ["item-0"]
    assert (await client.state("upsert"))["counts"] == {"live": 40, "deleted": 1, "delta": 1}


async def test_build_replaces_everything(client: Client) -> None:
    await client.create("build")
    await client.load("build", names(40), VECTORS)
    await client.load("build", ["only"], VECTORS[:1])
    assert await client.search("build", VECTORS[0], k=40) == ["only"]


async def test_an_open_session_is_not_searched(client: Client) -> None:
    await client.create("session")
    await client.load("session", names(5), VECTORS[:5])
    await client.ok("POST", "/init", {"index_name": "session", "mode": "upsert"})
    await client.ok(
        "POST", "/ingest", {"index_name": "session", "external_id": "Zürich", "vector": VECTORS[9].tolist()}
    )
    assert "Zürich" not in await client.search("session", VECTORS[9])
    await client.ok("POST", "/finalize", {"index_name": "session"})
    assert (await client.search("session", VECTORS[9]))[0] == "Zürich"
    assert (await client.call("POST", "/finalize", {"index_name": "session"})).status == 400


async def test_rebuild_keeps_the_items_and_changes_the_parameters(client: Client) -> None:
    await client.create("rebuild", params={"M": 4, "ef_construction": 20})
    await client.load("rebuild", names(40), VECTORS)
    await client.delete("rebuild", ["item-1"])
    await client.ok("POST", "/rebuild", {"index_name": "rebuild", "params": {"M": 24, "ef_search": 99}})
    state = await client.state("rebuild")
    assert state["parameters"] == {"M": 24, "ef_construction": 20, "ef_search": 99, "rng_seed": 0}
    assert state["counts"] == {"live": 39, "deleted": 0, "delta": 0}
    assert await client.search("rebuild", VECTORS[3], k=5) == nearest(VECTORS[3], 5)


@pytest.mark.parametrize(
    "body", [pytest.param({"index_name": "optimize"}, id="an object"), pytest.param("optimize", id="the name alone")]
)
async def test_optimize_takes_out_what_is_deleted_and_changes_no_parameter(client: Client, body: Any) -> None:
    await client.create("optimize", params={"M": 4, "ef_construction": 20})
    await client.load("optimize", names(40), VECTORS)
    before = await client.state("optimize")
    await client.delete("optimize", names(10))
    done = await client.ok("POST", "/optimize", body)
    assert (done["message"], done["index_name"]) == ("optimized", "optimize")
    state = await client.state("optimize")
    assert state["parameters"] == before["parameters"]
    assert state["counts"] == {"live": 30, "deleted": 0, "delta": 0}
    assert sorted(await client.search("optimize", VECTORS[15], k=40)) == sorted(names(30, first=10))
    await client.ok("DELETE", "/indexes/optimize?destroy=true")


async def test_finalize_can_optimize_too(client: Client) -> None:
    await client.create("both")
    await client.load("both", names(40), VECTORS)
    await client.delete("both", names(10))
    await client.ok("POST", "/init", {"index_name": "both", "mode": "upsert"})
    await client.ok("POST", "/ingest/batch?index_name=both", rows(names(5), VECTORS[:5]))
    done = await client.ok("POST", "/finalize", {"index_name": "both", "optimize": True})
    kinds = [
        (await client.operation("both", done[field]))["kind"] for field in ("operation_id", "optimize_operation_id")
    ]
    assert kinds == ["Finalize", "Optimize"]
    assert (await client.state("both"))["counts"] == {"live": 35, "deleted": 0, "delta": 5}


async def test_a_failed_finalize_optimizes_nothing(client: Client) -> None:
    await client.create("neither")
    await client.load("neither", names(40), VECTORS)
    await client.delete("neither", names(10))
    await client.ok("POST", "/init", {"index_name": "neither", "mode": "insert"})
    await client.ok("POST", "/ingest/batch?index_name=neither", rows(["item-20"], VECTORS[:1]))
    body = {"index_name": "neither", "optimize": True}
    accepted = await client.call("POST", "/finalize?wait=false", body)
    status = await client.finished("neither", accepted.body["optimize_operation_id"])
    assert status["state"] == "Failed"
    assert accepted.body["operation_id"] in status["message"]
    assert (await client.state("neither"))["counts"] == {"live": 30, "deleted": 10, "delta": 0}


async def test_an_operation_can_be_left_alone_and_asked_for_later(client: Client) -> None:
    await client.create("later")
    await client.load("later", names(40), VECTORS)
    accepted = await client.call("POST", "/rebuild?wait=False", {"index_name": "later"})
    assert accepted.status == 202
    assert (await client.finished("later", accepted.body["operation_id"]))["state"] == "Succeeded"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"dim": "8", "delta_ratio": "0.2"}, id="numbers-as-strings"),
        pytest.param({"dim": 8, "build_params": {"M": 5, "build_n_threads": 4}}, id="build-params"),
        pytest.param({"dim": 8, "params": None}, id="params-null"),
        pytest.param({"dim": 8, "nobody": "knows"}, id="unknown-field"),
        pytest.param({"dim": 8, "metric": "InnerProduct"}, id="metric"),
    ],
)
async def test_lenient_creation(client: Client, body: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = f"lenient-{request.node.callspec.id}"
    await client.ok("POST", "/indexes", {"index_name": name, **body})
    state = await client.state(name)
    assert state["parameters"]["M"] == body.get("build_params", {}).get("M", 16)
    assert state["metric"] == body.get("metric", "L2")


GOOD = VECTORS[0].tobytes()
LONG_ID = {"index_name": "table", "external_id": "x" * 600, "vector": [0.0] * 8}
REFUSALS: dict[str, tuple[str, str, Any, int, str]] = {
    "unknown-path": ("GET", "/nowhere", None, 404, "nothing at /nowhere"),
    "wrong-method": ("GET", "/delete", None, 405, "only POST"),
    "no-json": ("POST", "/delete", b"{", 400, "no JSON"),
    "missing-field": ("POST", "/delete", {"index_name": "table"}, 422, "external_ids"),
    "delete-nothing": ("POST", "/delete", {"index_name": "table", "external_ids": []}, 400, "empty"),
    "delete-unknown-index": ("POST", "/delete", {"index_name": "nope", "external_ids": ["a"]}, 404, "no index nope"),
    "rebuild-unknown-index": ("POST", "/rebuild", {"index_name": "nope"}, 404, "no index nope"),
    "rebuild-bad-m": ("POST", "/rebuild", {"index_name": "table", "params": {"M": 1}}, 422, "M"),
    "optimize-unknown-index": ("POST", "/optimize", {"index_name": "nope"}, 404, "no index nope"),
    "optimize-no-name": ("POST", "/optimize", ["table"], 422, "should be an object"),
    "create-twice": ("POST", "/indexes", {"index_name": "table", "dim": 8}, 409, "exists"),
    "create-no-dimension": ("POST", "/indexes", {"index_name": "x", "dim": 0}, 422, "dim"),
    "create-huge-dimension": ("POST", "/indexes", {"index_name": "x", "dim": 10**6}, 422, "dim"),
    "create-bad-name": ("POST", "/indexes", {"index_name": "../x", "dim": 8}, 422, "index_name"),
    "create-bad-ratio": ("POST", "/indexes", {"index_name": "x", "dim": 8, "delta_ratio": 0.9}, 422, "delta_ratio"),
    "create-bad-metric": ("POST", "/indexes", {"index_name": "x", "dim": 8, "metric": "Manhattan"}, 422, "metric"),
    "load-unknown": ("POST", "/indexes/load", {"index_name": "nope"}, 404, "nope"),
    "status-unknown": ("GET", "/indexes/nope/status", None, 404, "nope"),
    "close-unknown": ("DELETE", "/indexes/nope", None, 404, "nope"),
    "close-not-boolean": ("DELETE", "/indexes/table?destroy=perhaps", None, 400, "destroy=perhaps"),
    "init-bad-mode": ("POST", "/init", {"index_name": "table", "mode": "append"}, 422, "mode"),
    "ingest-no-session": ("POST", "/ingest", {**LONG_ID, "external_id": "a"}, 400, "POST /init"),
    "batch-no-session": ("POST", "/ingest/batch?index_name=table", rows(["a"], VECTORS[:1]), 400, "POST /init"),
    "batch-not-whole-rows": ("POST", "/ingest/batch?index_name=table", b"x" * 65, 400, "whole rows of 64"),
    "batch-empty": ("POST", "/ingest/batch?index_name=table", b"", 400, "empty"),
    "batch-no-name": ("POST", "/ingest/batch", GOOD, 400, "index_name"),
    "finalize-no-session": ("POST", "/finalize", {"index_name": "table"}, 400, "POST /init"),
    "finalize-optimize-no-session": ("POST", "/finalize", {"index_name": "table", "optimize": True}, 400, "POST /init"),
    "search-unknown-index": ("POST", "/search.bin?index_name=nope", GOOD, 404, "nope"),
    "search-short": ("POST", "/search.bin?index_name=table", GOOD[:-1], 400, "31 bytes"),
    "search-nan": ("POST", "/search.bin?index_name=table", np.full(8, np.nan, "<f4").tobytes(), 400, "NaN"),
    "search-k-zero": ("POST", "/search.bin?index_name=table&k=0", GOOD, 400, "k=0"),
    "search-k-huge": ("POST", "/search.bin?index_name=table&k=1000000", GOOD, 400, "k=1000000"),
    "search-ef-huge": ("POST", "/search.bin?index_name=table&efs=10000000", GOOD, 400, "efs"),
    "search-k-text": ("POST", "/search.bin?index_name=table&k=ten", GOOD, 400, "not an integer"),
    "batch-search-empty": ("POST", "/search/batch.bin?index_name=table", b"", 400, "empty"),
    "batch-search-not-whole": ("POST", "/search/batch.bin?index_name=table", GOOD + b"x", 400, "whole rows"),
    "batch-search-many-rows": ("POST", "/search/batch.bin?index_name=table&k=1", GOOD * 8193, 400, "8193"),
    "batch-search-many-answers": ("POST", "/search/batch.bin?index_name=table&k=1000", GOOD * 1001, 413, "fewer"),
    "body-too-large": ("POST", "/ingest/batch?index_name=table", b"x" * (64 * 2**20 + 64), 413, "larger"),
    "operation-unknown": ("GET", "/v1/indexes/table/operations/nope", None, 404, "nope"),
    "operation-unknown-index": ("GET", "/v1/indexes/nope/operations/a", None, 404, "nope"),
    "operation-bad-id": ("GET", "/v1/indexes/table/operations/a%20b", None, 400, "operation ID"),
    "operation-bad-kind": ("PUT", "/v1/indexes/table/operations/a", {"kind": "Explode"}, 422, "kind"),
    "configuration-bad": ("PUT", "/v1/indexes/table/configuration", {"ef_search": 0}, 422, "ef_search"),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "detail"), REFUSALS.values(), ids=REFUSALS)
async def test_refusals(client: Client, method: str, path: str, body: Any, status: int, detail: str) -> None:
    """Each says what is wrong, and changes nothing."""
    if "table" not in (await client.ok("GET", "/indexes"))["indexes"]:
        await client.create("table")
        await client.load("table", names(3), VECTORS[:3])
    before = await client.state("table")
    answer = await client.call(method, path, body)
    assert answer.status == status, answer
    assert detail in answer.body["detail"]
    if path.startswith("/v1/"):
        assert answer.body["volume_id"] == before["volume_id"]
    assert await client.state("table") == before


async def test_bodies_that_are_more_than_memory_holds_are_refused(client: Client, shared: Program) -> None:
    """Five clients announce as much as a body may hold, and send nothing of it: one of them is answered, at once."""
    await client.create("bodies")
    host, port = shared.url.removeprefix("http://").split(":")
    head = b"POST /ingest/batch?index_name=bodies HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n"
    with contextlib.ExitStack() as waiting:
        connections = [waiting.enter_context(socket.create_connection((host, int(port)))) for _ in range(5)]
        for connection in connections:
            connection.sendall(head)
        answered, _, _ = select.select(connections, [], [], DEADLINE)
        assert [connection.recv(12) for connection in answered] == [b"HTTP/1.1 429"]
        assert (await client.call("GET", "/healthz")).status == 200

    async def room() -> bool:
        return (await client.call("POST", "/search.bin?index_name=bodies", GOOD)).status == 200

    await eventually(room, "room again")


async def test_a_bad_row_of_a_session_is_refused_whole(client: Client) -> None:
    await client.create("rows")
    await client.ok("POST", "/init", {"index_name": "rows", "mode": "build"})
    bad = VECTORS[:2].copy()
    bad[1, 3] = np.inf
    for ids, vectors, problem in [
        (["a", "b"], bad, "infinity"),
        (["a", ""], VECTORS[:2], "1 to 512 bytes"),
        (["a", "b\n"], VECTORS[:2], "control"),
    ]:
        answer = await client.call("POST", "/ingest/batch?index_name=rows", rows(ids, vectors))
        assert answer.status == 400
        assert problem in answer.body["detail"]
    not_ascii = "é".encode().ljust(32, b"\0") + GOOD
    assert (await client.call("POST", "/ingest/batch?index_name=rows", not_ascii)).status == 400
    assert (await client.call("POST", "/ingest", {**LONG_ID, "index_name": "rows"})).status == 400
    short = {"index_name": "rows", "external_id": "a", "vector": [1.0] * 7}
    assert (await client.call("POST", "/ingest", short)).status == 400
    await client.ok("POST", "/ingest/batch?index_name=rows", rows(["good"], VECTORS[:1]))
    await client.ok("POST", "/finalize", {"index_name": "rows"})
    assert await client.search("rows", VECTORS[0]) == ["good"]


async def test_a_configuration_is_in_force_at_once_in_place_of_the_last_one(client: Client) -> None:
    await client.create("configured")
    await client.load("configured", names(40), VECTORS)
    put = "/v1/indexes/configured/configuration"
    await client.ok("PUT", put, {"ef_search": 77, "min_items": 1})
    state = await client.ok("PUT", put, {"min_items": 1, "deleted_percent": 5})
    assert state["configuration"] == {"min_items": 1, "deleted_percent": 5}
    assert state["parameters"]["ef_search"] == 77, "what was put in force stays"
    assert state["needs_rebuild"] is False
    await client.delete("configured", ["item-0", "item-1"])
    state = await client.state("configured")
    assert (state["needs_rebuild"], state["reasons"]) == (True, ["DeletedRatio"])
    state = await client.ok("PUT", put, {"min_items": 1, "deleted_percent": 5, "desired_m": 32})
    assert state["reasons"] == ["DeletedRatio", "ParametersChanged"]
    assert state["figures"] == {
        "stored": 40,
        "deleted_percent": 5.0,
        "deleted_limit_percent": 5,
        "delta_percent": 0.0,
        "delta_limit_percent": 10,
        "min_items": 1,
        "wanted": {"M": 32},
    }
    status = await client.ok("GET", "/indexes/configured/status")
    assert (status["figures"], status["estimates"]) == (state["figures"], state["estimates"])
    state = await client.ok("PUT", put, {})
    assert (state["configuration"], state["needs_rebuild"], state["figures"]["wanted"]) == ({}, False, {})


async def test_answers_are_plain_json_for_existing_clients(client: Client) -> None:
    await client.create("plain")
    await client.load("plain", ['quo"te', "back\\slash"], VECTORS[:2])
    assert await client.search("plain", VECTORS[0]) == ['quo"te', "back\\slash"]
    assert json.dumps(await client.search("plain", VECTORS[0], k=1)) == '["quo\\"te"]'
