"""Who may call what in a pod, and how it follows its identity file while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.sidecar.pod import ENVIRONMENT, KEY, operator, write_identity
from tests.sidecar.program import Client, Program, connect, eventually, names, random_vectors
from vectorindex.domain.keyring import SigningKey

VECTORS = random_vectors(50)
STATE = "/v1/indexes/products/state"
CANCEL = "/v1/indexes/products/operations/none"
PREVIEW: dict[str, Any] = {"external_ids": ["a"]}
BUILD = {"index_name": "products", "mode": "build"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pod")


@pytest.fixture(scope="module")
def pod(folder: Path) -> Iterator[Program]:
    """One pod for the module; a test that changes its identity file leaves it with KEY in it."""
    program = Program(folder / "volume", *write_identity(folder), environment=ENVIRONMENT)
    yield program
    assert program.stop()[0] == 0


def given(authorization: str) -> Mapping[str, str]:
    return {"Authorization": authorization}


async def until_taken(client: Client, status: int = 200) -> Any:
    """Until the state is answered so; returns the answer's body."""

    async def answered() -> Any:
        answer = await client.call("GET", STATE)
        return answer.body if answer.status == status else None

    return await eventually(answered, f"HTTP status {status}")


OPERATORS: list[tuple[str, str, Any]] = [
    ("GET", STATE, None),
    ("PUT", "/v1/indexes/products/configuration", {"threads": 1}),
    ("GET", "/v1/indexes/products/operations", None),
    ("GET", CANCEL, None),
    ("PUT", CANCEL, {"kind": "Delete"}),
    ("DELETE", CANCEL, None),
    ("POST", "/v1/indexes/products/delete-preview", PREVIEW),
    ("GET", "/v1/indexes/products/snapshots", None),
    ("POST", "/v1/indexes/products/snapshots", {"name": "a"}),
    ("DELETE", "/v1/indexes/products/snapshots/a", None),
    ("POST", "/rebuild", {"index_name": "products"}),
    ("POST", "/optimize", {"index_name": "products"}),
    ("POST", "/init", BUILD),
]


@pytest.mark.parametrize(("method", "path", "body"), OPERATORS, ids=[f"{each[0]} {each[1]}" for each in OPERATORS])
async def test_what_the_operator_calls_needs_its_token(pod: Program, method: str, path: str, body: Any) -> None:
    async with connect(pod) as client:
        answer = await client.call(method, path, body)
        assert answer.status == 401
        assert answer.body["detail"].startswith("only the operator may call this, with its token: create an Index")
    async with connect(pod, headers=operator()) as client:
        assert (await client.call(method, path, body)).status != 401


async def test_a_call_that_is_not_accepted_leaves_no_mark_on_the_fence(pod: Program) -> None:
    """Otherwise whoever reaches a pod could shut its operator out."""
    async with connect(pod) as stranger, connect(pod, headers=operator()) as client:
        stranger.epoch = 2_000
        assert (await stranger.call("GET", STATE)).status == 401
        client.epoch = 1_000
        await client.ok("GET", STATE)


async def test_everything_else_is_open(pod: Program) -> None:
    async with connect(pod) as client:
        await client.load("products", names(50), VECTORS, mode="upsert")
        assert (await client.search("products", VECTORS[4], k=1)) == ["item-4"]
        assert (await client.delete("products", ["item-4"]))["deleted_count"] == 1
        for path in ("/", "/healthz", "/indexes", "/indexes/products/status", "/indexes/products/count"):
            await client.ok("GET", path)
        assert (await client.call("GET", "/readyz")).status in (200, 503)


INVALID = 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("headers", "challenge", "words"),
    [
        pytest.param(dict, "Bearer", "only the operator may call this", id="none"),
        pytest.param(lambda: given("Basic YTpi"), "Bearer", "only the operator may call this", id="another scheme"),
        pytest.param(lambda: given("Bearer"), INVALID, "not accepted: it is no JWT", id="empty"),
        pytest.param(lambda: given("Bearer x.y.z"), INVALID, "not accepted: it is no JWT", id="garbage"),
        pytest.param(
            lambda: operator(SigningKey.generate()),
            INVALID,
            "its key is not in this pod's identity file",
            id="of another key",
        ),
        pytest.param(
            lambda: operator(pod="products-1"), INVALID, "it is not for shop/products/products-0", id="for another pod"
        ),
    ],
)
async def test_a_refusal_says_why(
    pod: Program, headers: Callable[[], Mapping[str, str]], challenge: str, words: str
) -> None:
    async with aiohttp.ClientSession(headers=headers()) as session, session.get(pod.url + STATE) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == challenge
        body = await answer.json()
        assert words in body["detail"]
        assert body.get("audience") == ("shop/products/products-0" if "not for" in words else None)


async def test_the_name_of_the_scheme_is_in_any_case(pod: Program) -> None:
    token = operator()["Authorization"].removeprefix("Bearer ")
    async with connect(pod, headers={"Authorization": f"bearer {token}"}) as client:
        await client.ok("GET", STATE)


async def test_new_keys_count_as_soon_as_the_file_is_replaced(pod: Program, folder: Path) -> None:
    other = SigningKey.generate()
    try:
        async with connect(pod, headers=operator()) as old, connect(pod, headers=operator(other)) as new:
            boot = (await until_taken(old))["boot_id"]
            await until_taken(new, 401)
            write_identity(folder, [other])
            assert (await until_taken(new))["boot_id"] == boot
            await until_taken(old, 401)
    finally:
        write_identity(folder)


async def test_a_rotation_under_load_is_noticed_by_nobody(pod: Program, folder: Path) -> None:
    """The next key has been in the file since before: it may sign before, while and after the file changes."""
    following, last = SigningKey.generate(), SigningKey.generate()
    write_identity(folder, [KEY, following])
    changed = asyncio.Event()
    try:
        async with connect(pod, headers=operator(following)) as client, connect(pod, headers=operator(last)) as newest:
            await until_taken(client)

            async def call() -> int:
                calls = 0
                while not changed.is_set():
                    await client.ok("GET", STATE)
                    await client.search("products", VECTORS[0], k=1)
                    calls += 1
                return calls

            load = [asyncio.create_task(call()) for _ in range(2)]
            write_identity(folder, [following, last])
            await until_taken(newest)
            changed.set()
            assert min(await asyncio.gather(*load)) > 5
    finally:
        write_identity(folder)


async def test_the_uid_of_an_index_that_was_created_again_is_taken_over(pod: Program, folder: Path) -> None:
    async with connect(pod, headers=operator()) as client:
        await until_taken(client)
        write_identity(folder, uid="uid-2")

        async def taken() -> bool:
            return bool((await client.state("products"))["identity"]["uid"] == "uid-2")

        await eventually(taken, "the new UID")
    write_identity(folder)


@pytest.mark.parametrize(
    "changes", [{"index": "others"}, {"namespace": "other"}, {"dimensions": 0}, {"public_keys": [{"kid": "x"}]}]
)
async def test_a_file_that_is_not_ours_or_not_valid_changes_nothing(
    pod: Program, folder: Path, changes: dict[str, Any]
) -> None:
    other = SigningKey.generate()
    async with connect(pod, headers=operator()) as client, connect(pod, headers=operator(other)) as new:
        await until_taken(client)
        write_identity(folder, [], uid="uid-3", **changes)
        await asyncio.sleep(2.5)  # it has been looked at by then; that nothing happens has no sign to wait for
        assert (await client.state("products"))["identity"]["uid"] != "uid-3"
        write_identity(folder, [KEY, other])
        await until_taken(new)
    write_identity(folder)


async def test_other_dimensions_take_the_pod_out_of_service_until_they_are_right_again(
    pod: Program, folder: Path
) -> None:
    async with connect(pod, headers=operator()) as client:
        await until_taken(client)
        client.epoch = 3_000
        await client.ok("PUT", "/v1/indexes/products/configuration", {"serve": True})
        write_identity(folder, dimensions=16, uid="uid-4")

        async def refused() -> Any:
            answer = await client.call("GET", "/readyz")
            return answer.body["detail"] if answer.status == 503 else None

        detail = await eventually(refused, "it is not ready")
        assert "with 8 dimensions and metric Cosine, but the identity says 16 and Cosine" in detail
        state = await client.state("products")
        assert (state["identity"]["uid"], state["dimensions"]) == ("uid-4", 8)
        write_identity(folder)

        async def ready() -> bool:
            return (await client.call("GET", "/readyz")).status == 200

        await eventually(ready, "it is ready again")


async def test_the_file_is_followed_through_the_links_that_a_kubelet_makes(tmp_path: Path) -> None:
    other = SigningKey.generate()
    for version, key in (("..1", KEY), ("..2", other)):
        (tmp_path / version).mkdir()
        write_identity(tmp_path / version, [key])
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "identity.json").symlink_to("..data/identity.json")
    arguments = ("--identity", str(tmp_path / "identity.json"))
    program = Program(tmp_path / "volume", *arguments, environment=ENVIRONMENT)
    async with connect(program, headers=operator(other)) as client:
        await until_taken(client, 401)
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await until_taken(client)
    program.stop()


async def test_a_file_without_keys_trusts_nobody(tmp_path: Path) -> None:
    program = Program(tmp_path / "volume", *write_identity(tmp_path, []), environment=ENVIRONMENT)
    async with connect(program, headers=operator()) as client:
        answer = await client.call("GET", STATE)
        assert answer.status == 401
        assert "has no public_keys, so nobody may call this: update the operator" in answer.body["detail"]
        await client.load("products", names(50), VECTORS, mode="upsert")
        write_identity(tmp_path)
        await until_taken(client)
    program.stop()
