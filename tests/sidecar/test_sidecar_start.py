"""How it starts: on whose volume, with which identity, and when it must not."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.sidecar.pod import ENVIRONMENT, operator, write_identity
from tests.sidecar.program import (
    NEW_VOLUME,
    Client,
    Launch,
    NotStartedError,
    Program,
    connect,
    names,
    random_vectors,
)

VECTORS = random_vectors(50)


def refused(program: Program) -> tuple[int, str]:
    """Exit code and stderr of a program that must end by itself."""
    _, complaint = program.process.communicate(timeout=30)
    return program.process.returncode, complaint


async def test_an_identity_makes_its_index_on_an_empty_volume(launch: Launch, tmp_path: Path) -> None:
    program = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(program, headers=operator()) as client:
        state = await client.state("products")
        assert state["identity"] == {"namespace": "shop", "index": "products", "uid": "uid-1", "pod": "products-0"}
        assert (state["dimensions"], state["metric"], state["parameters"]["M"]) == (8, "Cosine", 12)
        await client.load("products", names(50), VECTORS)
    program.stop()
    again = launch(*write_identity(tmp_path, uid="uid-2"), environment=ENVIRONMENT)
    async with connect(again, headers=operator()) as client:
        state = await client.state("products")
        assert (state["identity"]["uid"], state["counts"]["live"]) == ("uid-2", 50)


async def test_a_new_volume_waits_to_be_told_that_it_may_serve(launch: Launch, tmp_path: Path) -> None:
    """What it was told counts from then on, also after a kill, and on no other volume."""

    async def readiness(client: Client) -> tuple[int, str]:
        answer = await client.call("GET", "/readyz")
        return answer.status, answer.body.get("detail", "")

    put = "/v1/indexes/products/configuration"
    program = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(program, ready=False, headers=operator()) as client:
        client.epoch = 1
        assert await readiness(client) == (503, f"index products: {NEW_VOLUME}")
        assert "serve" not in (await client.state("products"))["configuration"]
        await client.load("products", names(50), VECTORS)
        assert (await client.search("products", VECTORS[3], k=1)) == ["item-3"], (
            "whoever calls the pod itself is answered"
        )
        state = await client.ok("PUT", put, {"serve": False})
        assert state["configuration"] == {"serve": False}
    program.kill()
    program = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(program, ready=False, headers=operator()) as client:
        client.epoch = 1
        status, why = await readiness(client)
        assert (status, "held back until it holds the items of those that serve" in why) == (503, True)
        await client.ok("PUT", put, {"serve": True, "ef_search": 50})
        assert (await readiness(client))[0] == 200
    program.kill()
    program = launch(*write_identity(tmp_path, uid="uid-2"), environment=ENVIRONMENT)
    async with connect(program, headers=operator()) as client:
        assert (await client.state("products"))["configuration"] == {"serve": True, "ef_search": 50}
    program.stop()
    (tmp_path / "volume/volume.json").unlink()  # its files, copied to another volume
    program = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(program, headers=operator()) as client:
        assert await readiness(client) == (503, f"index products: {NEW_VOLUME}")
        assert (await client.state("products"))["configuration"] == {"ef_search": 50}


async def test_run_by_hand_it_serves_unless_it_is_told_not_to(launch: Launch) -> None:
    async with connect(launch()) as client:
        await client.create("words")
        await client.ok("PUT", "/v1/indexes/words/configuration", {"serve": False})
        assert (await client.call("GET", "/readyz")).status == 503
        await client.ok("PUT", "/v1/indexes/words/configuration", {})
        assert (await client.call("GET", "/readyz")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/indexes", {"index_name": "other", "dim": 8}),
        ("POST", "/indexes/load", {"index_name": "products"}),
        ("DELETE", "/indexes/products", None),
        ("DELETE", "/indexes/products?destroy=true", None),
    ],
    ids=["create", "load", "close", "destroy"],
)
async def test_an_identity_forbids_administration(
    launch: Launch, tmp_path: Path, method: str, path: str, body: Any
) -> None:
    async with connect(launch(*write_identity(tmp_path), environment=ENVIRONMENT), headers=operator()) as client:
        answer = await client.call(method, path, body)
        assert answer.status == 403
        assert "products" in answer.body["detail"]
        assert (await client.ok("GET", "/indexes"))["indexes"] == ["products"]


async def test_an_identity_forbids_replacing_everything_during_an_operation(launch: Launch, tmp_path: Path) -> None:
    program = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(program, headers=operator()) as client:
        vectors = random_vectors(3000)
        await client.load("products", names(3000), vectors)
        client.epoch = 1
        await client.put("products", "rebuild.1", "Rebuild", params={"M": 48, "ef_construction": 1500})
        await client.running("products", "rebuild.1")
        answer = await client.call("POST", "/init", {"index_name": "products", "mode": "build"})
        assert answer.status == 409
        assert "rebuild.1" in answer.body["detail"]
        await client.ok("POST", "/init", {"index_name": "products", "mode": "upsert"})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"index": "others"}, "holds the index products, but the identity names others"),
        ({"dimensions": 16}, "with 8 dimensions and metric Cosine, but the identity says 16 and Cosine"),
        ({"metric": "L2"}, "with 8 dimensions and metric Cosine, but the identity says 8 and L2"),
    ],
    ids=["name", "dimensions", "metric"],
)
async def test_another_index_on_the_volume_is_refused(
    launch: Launch, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    launch(*write_identity(tmp_path), environment=ENVIRONMENT).stop()
    try:
        code, log = refused(launch(*write_identity(tmp_path, **changes)))
    except NotStartedError as error:
        code, log = error.code, error.complaint
    assert code == 1
    assert complaint in log
    assert "Traceback" not in log
    async with connect(launch(*write_identity(tmp_path), environment=ENVIRONMENT), headers=operator()) as client:
        assert (await client.state("products"))["dimensions"] == 8


def test_an_unreadable_identity_is_refused(launch: Launch, tmp_path: Path) -> None:
    for arguments, complaint in [
        (("--identity", str(tmp_path / "missing.json")), "cannot be read"),
        (write_identity(tmp_path, dimensions=0), "dimensions"),
    ]:
        with pytest.raises(NotStartedError, match=complaint) as refusal:
            launch(*arguments)
        assert refusal.value.code == 1


def test_two_processes_on_one_folder_are_refused(launch: Launch) -> None:
    launch()
    with pytest.raises(NotStartedError, match="another vectorindex-sidecar uses the data folder") as refusal:
        launch()
    assert refusal.value.code == 1


def test_an_address_that_others_reach_is_refused(launch: Launch) -> None:
    with pytest.raises(NotStartedError, match="--insecure") as refusal:
        launch("--host", "0.0.0.0")
    assert refusal.value.code == 1


def test_a_port_in_use_is_refused(launch: Launch) -> None:
    complaint = r"cannot listen on 127\.0\.0\.1"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NotStartedError, match=complaint):
        launch("--port", str(taken.getsockname()[1]))


async def test_all_indexes_are_loaded_at_start(launch: Launch) -> None:
    first = launch()
    async with connect(first) as client:
        for name in ("a", "b.c", "closed"):
            await client.create(name)
            await client.load(name, names(50), VECTORS)
        await client.ok("DELETE", "/indexes/closed")
        volume = (await client.state("a"))["volume_id"]
    first.stop()
    async with connect(launch()) as client:
        assert (await client.ok("GET", "/indexes"))["indexes"] == ["a", "b.c", "closed"]
        assert (await client.search("b.c", VECTORS[4], k=1)) == ["item-4"]
        assert (await client.state("a"))["volume_id"] == volume


async def corrupt(program: Program, tmp_path: Path, index: str) -> str:
    """Flip one byte of the index's graph while the program is stopped; returns the file's name."""
    program.stop()
    (path,) = (tmp_path / "volume/indexes" / index).glob("*.hnsw")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path.name


async def test_a_corrupt_index_is_reported_and_stops_no_other(launch: Launch, tmp_path: Path) -> None:
    first = launch()
    async with connect(first) as client:
        for name in ("good", "bad"):
            await client.create(name)
            await client.load(name, names(50), VECTORS)
    file = await corrupt(first, tmp_path, "bad")
    async with connect(launch(), ready=False) as client:
        assert await client.search("good", VECTORS[1], k=1) == ["item-1"]
        for method, path in [("GET", "/readyz"), ("GET", "/v1/indexes/bad/state"), ("GET", "/indexes/bad/status")]:
            answer = await client.call(method, path)
            assert answer.status == 503
            assert file in answer.body["detail"]
        assert (await client.ok("GET", "/indexes"))["indexes"] == ["good"]
        await client.ok("DELETE", "/indexes/bad?destroy=true")
        assert (await client.call("GET", "/readyz")).status == 200


async def test_a_corrupt_index_keeps_its_pod_up_and_not_ready(launch: Launch, tmp_path: Path) -> None:
    first = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(first, headers=operator()) as client:
        await client.load("products", names(50), VECTORS)
    file = await corrupt(first, tmp_path, "products")
    again = launch(*write_identity(tmp_path), environment=ENVIRONMENT)
    async with connect(again, ready=False, headers=operator()) as client:
        await client.ok("GET", "/healthz")
        answer = await client.call("GET", "/v1/indexes/products/state")
        assert answer.status == 503
        assert file in answer.body["detail"]
        assert "volume_id" in answer.body
