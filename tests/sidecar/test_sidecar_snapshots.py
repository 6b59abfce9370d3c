"""Snapshots of an index that serves, and the commands that work on a data folder by hand."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import hnswlib
import pytest

from tests.sidecar.program import Launch, Program, connect, eventually, names, random_vectors, real_vectors, rows
from tests.unit.engine.harness import live_ids
from vectorindex.engine.snapshot import restore
from vectorindex.engine.store import Store

SLOW = {"M": 24, "ef_construction": 250}
PATH = "/v1/indexes/demo/snapshots"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "vectorindex.sidecar", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)


def done(*arguments: object) -> str:
    """The closing line of a command that must succeed."""
    ended = command(*arguments)
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    return line


def refused(*arguments: object) -> str:
    """What a command that must be refused says at its end."""
    ended = command(*arguments)
    assert ended.returncode == 1, ended
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


def unfinished(volume: Path) -> list[Path]:
    return [path for path in volume.rglob(".unfinished-*") if path.is_dir()]


async def test_snapshots_while_deletes_a_session_and_a_rebuild_run(filled: Program, tmp_path: Path) -> None:
    """Each is the index after one write: as its sequence says, so many of the deletes are in it, and none more."""
    async with connect(filled) as client:
        base = (await client.state("demo"))["sequence"]
        await client.ok("POST", "/init", {"index_name": "demo", "mode": "upsert"})
        await client.ok("POST", "/ingest/batch?index_name=demo", rows(names(10, first=5000), real_vectors()[:10]))
        await client.put("demo", "rebuild.1", "Rebuild", params=SLOW)
        await client.running("demo", "rebuild.1", progress=3)
        acknowledged = 0
        ended = asyncio.Event()

        async def delete() -> None:
            nonlocal acknowledged
            while not ended.is_set():
                await client.delete("demo", [f"item-{acknowledged}"])
                acknowledged += 1

        def at_least(count: int) -> bool:
            return acknowledged >= count

        deleting = asyncio.create_task(delete())
        taken: list[tuple[range, Any]] = []

        async def take(name: str) -> None:
            least = acknowledged
            snapshot = await client.ok("POST", PATH, {"name": name})
            taken.append((range(least, acknowledged + 2), snapshot))  # one may be on its way

        for number in range(4):
            await eventually(partial(at_least, acknowledged + 5), "deletes")
            await take(f"s{number}")
            if number == 0:
                assert (await client.operation("demo", "rebuild.1"))["state"] == "Running"
        status = await client.finished("demo", "rebuild.1")
        await take("after")
        ended.set()
        await deleting
        assert status["state"] == "Succeeded", status
        listed = await client.ok("GET", PATH)
        assert [found["name"] for found in listed["snapshots"]] == ["after", "s0", "s1", "s2", "s3"]
    assert not unfinished(tmp_path / "volume")
    for possible, snapshot in taken:
        deleted = snapshot["sequence"] - base
        assert deleted in possible
        assert snapshot["counts"]["live"] == 3000 - deleted
        name = snapshot["name"]
        restore(tmp_path / "volume" / snapshot["path"], tmp_path, name)
        store = Store.open(tmp_path / name)
        assert live_ids(store) == set(names(3000 - deleted, first=deleted))
        finished = ["rebuild.1"] if name == "after" else []
        assert [record.id for record in store.operations() if record.kind == "Rebuild"] == finished
        store.close()


async def test_a_restored_index_serves_on_a_volume_of_its_own(filled: Program, launch: Launch, tmp_path: Path) -> None:
    async with connect(filled) as client:
        await client.delete("demo", names(7))
        volume = (await client.state("demo"))["volume_id"]
        line = done("snapshot", "--url", filled.url, "--index", "demo", "--to", "first")
        assert line.startswith("snapshot of index demo at 2: 2,993 items, ")
        assert line.endswith(f" bytes, in snapshots/demo/first of the volume {volume}")
        found = await client.search("demo", real_vectors()[100], k=20)
    filled.stop()
    snapshot = tmp_path / "volume/snapshots/demo/first"
    assert "exists already" in refused("restore", "--from", snapshot, "--data-dir", tmp_path / "volume")
    shutil.move(tmp_path / "volume", tmp_path / "old")
    snapshot = tmp_path / "old/snapshots/demo/first"
    line = done("restore", "--from", snapshot, "--data-dir", tmp_path / "volume", "--index", "again")
    assert line.startswith("restored index again at 2: 2,993 items")
    async with connect(launch()) as client:
        assert await client.search("again", real_vectors()[100], k=20) == found
        assert (await client.state("again"))["volume_id"] != volume
        await client.delete("again", ["item-100"])
        assert "item-100" not in await client.search("again", real_vectors()[100], k=20)


async def test_snapshots_are_named_and_removed_by_their_name(filled: Program, tmp_path: Path) -> None:
    async with connect(filled) as client:
        assert (await client.call("POST", "/v1/indexes/none/snapshots", {"name": "a"})).status == 404
        for name in ("", "../a", ".a", "a/b", "x" * 129):
            assert (await client.call("POST", PATH, {"name": name})).status == 422, name
        first = await client.ok("POST", PATH, {"name": "a"})
        again = await client.call("POST", PATH, {"name": "a"})
        assert again.status == 409
        assert "a exists already" in again.body["detail"]
        assert (await client.ok("GET", PATH))["snapshots"] == [first]
        await client.ok("DELETE", "/indexes/demo?destroy=true")
        assert (await client.ok("GET", PATH))["snapshots"] == [first], "a snapshot outlives its index"
        for name in ("b", "..", ".unfinished-1"):
            assert (await client.call("DELETE", f"{PATH}/{name}")).status in (400, 404, 405)
        assert (await client.ok("DELETE", f"{PATH}/a"))["snapshots"] == []
    assert not any((tmp_path / "volume/snapshots/demo").iterdir())


async def test_a_snapshot_cut_off_by_a_kill_is_not_there(filled: Program, launch: Launch, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    async with connect(filled) as client:
        asking = [asyncio.create_task(client.call("POST", PATH, {"name": f"s{number}"})) for number in range(3)]
        await eventually(lambda: unfinished(volume), "a snapshot that is being made")
        filled.kill()
        await asyncio.gather(*asking, return_exceptions=True)
    assert unfinished(volume)
    async with connect(launch()) as client:
        listed = (await client.ok("GET", PATH))["snapshots"]
        assert not unfinished(volume)
        assert {path.name for path in (volume / "snapshots/demo").iterdir()} == {found["name"] for found in listed}
        for found in listed:
            assert restore(volume / found["path"], tmp_path, found["name"]).counts.live == 3000
        await client.ok("POST", PATH, {"name": "later"})


# --- by hand


def test_commands_keep_out_of_a_running_sidecar(filled: Program, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    for arguments in (
        ("export", "--data-dir", volume, "--index", "demo", "--to", tmp_path / "x"),
        ("snapshot", "--data-dir", volume, "--index", "demo", "--to", tmp_path / "x"),
    ):
        assert "another vectorindex-sidecar uses the data folder" in refused(*arguments)
    assert not (tmp_path / "x").exists()
    assert "409: s exists already" not in done("snapshot", "--url", filled.url, "--index", "demo", "--to", "s")
    assert "answered 409: s exists already" in refused("snapshot", "--url", filled.url, "--index", "demo", "--to", "s")
    assert "answered 422: name: " in refused("snapshot", "--url", filled.url, "--index", "demo", "--to", "/tmp/s")


async def test_export_and_import_by_hand(filled_volume: Path, launch: Launch, tmp_path: Path) -> None:
    volume, out = tmp_path / "volume", tmp_path / "out"
    shutil.copytree(filled_volume, volume)
    assert done("export", "--data-dir", volume, "--index", "demo", "--to", out) == (
        f"exported 3,000 items of index demo to {out}: main.hnsw; deleted ones, which are marked: 0"
    )
    index = hnswlib.Index("cosine", 384)
    index.load_index(str(out / "main.hnsw"))
    ids = (out / "main.ids.txt").read_text().split("\n")
    index.set_ef(64)
    expected = [ids[label] for label in index.knn_query(real_vectors()[5000], k=10)[0][0]]
    index.mark_deleted(ids.index(expected[0]))
    index.save_index(str(out / "changed.hnsw"))
    given = ("--hnsw", out / "changed.hnsw", "--ids", out / "main.ids.txt", "--dimensions", 384, "--metric", "Cosine")
    assert done("import", "--data-dir", volume, "--index", "again", *given) == (
        "imported 2,999 items into index again: M 8, ef_construction 40; unreachable: 0; deleted and left out: 1"
    )
    assert "index again exists already" in refused("import", "--data-dir", volume, "--index", "again", *given)
    async with connect(launch()) as client:
        assert await client.search("demo", real_vectors()[5000], k=10) == expected
        assert (await client.search("again", real_vectors()[5000], k=9)) == expected[1:]


def test_a_snapshot_and_its_way_back_by_hand(filled_volume: Path, tmp_path: Path) -> None:
    volume, copy = tmp_path / "volume", tmp_path / "copy"
    shutil.copytree(filled_volume, volume)
    assert done("snapshot", "--data-dir", volume, "--index", "demo", "--to", copy).endswith(f" bytes, in {copy}")
    assert "copy exists already" in refused("snapshot", "--data-dir", volume, "--index", "demo", "--to", copy)
    done("restore", "--from", copy, "--data-dir", tmp_path / "new")
    store = Store.open(tmp_path / "new/indexes/demo")
    assert live_ids(store) == set(names(3000))
    assert json.loads((tmp_path / "new/volume.json").read_text()) != json.loads((volume / "volume.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        pytest.param(("export", "--index", "none", "--to", "x"), "index none is not on this volume", id="no-index"),
        pytest.param(("snapshot", "--index", "..", "--to", "x"), "index name", id="no-name"),
        pytest.param(("restore", "--from", "."), "is no snapshot", id="no-snapshot"),
        pytest.param(
            ("import", "--index", "a", "--hnsw", "x", "--ids", "x", "--dimensions", "3", "--metric", "L2"),
            "No such file",
            id="no-file",
        ),
    ],
)
def test_what_cannot_be_done_ends_with_a_message(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    assert why in refused(*arguments, "--data-dir", tmp_path / "volume")
    assert not list(tmp_path.rglob("index.db"))


# --- old and foreign files, as a sidecar finds them


async def test_files_that_are_not_the_index_s_are_named_and_kept(launch: Launch, tmp_path: Path) -> None:
    first = launch()
    indexes = tmp_path / "volume/indexes"
    async with connect(first) as client:
        made = ("good", "newer", "lost", "renamed", "exchanged", "emptied", "swapped-a", "swapped-b")
        for number, name in enumerate(made):
            await client.create(name)
            await client.load(name, names(50), random_vectors(50, seed=number))
            await client.load(name, names(50, first=50), random_vectors(50, seed=50 + number), mode="upsert")
        await client.create("blank")
    first.stop()
    one, two = "0000000001.hnsw", "0000000002.hnsw"
    put_version(indexes / "newer/index.db", 9)
    (indexes / "lost/index.db").unlink()
    (indexes / "renamed").rename(indexes / "other")
    exchange(indexes / "exchanged" / one, indexes / "exchanged" / two)
    shutil.copyfile(indexes / "blank/index.db", indexes / "emptied/index.db")
    exchange(indexes / "swapped-a" / two, indexes / "swapped-b" / two)
    before = files(indexes)
    async with connect(launch(), ready=False) as client:
        assert (await client.ok("GET", "/indexes"))["indexes"] == ["blank", "good"]
        why = (await client.call("GET", "/readyz")).body["detail"]
        for name, complaint in {
            "newer": "index.db: has format 9",
            "lost": "index.db: is missing",
            "other": "index.db: is the database of index renamed",
            "exchanged": f"{one}: its content has changed",
            "emptied": "index.db: is the database of index blank",
            "swapped-a": f"{two}: its content has changed",
            "swapped-b": f"{two}: its content has changed",
        }.items():
            assert f"index {name} cannot be loaded: {complaint}" in why
            answer = await client.call("POST", "/indexes", {"index_name": name, "dim": 8})
            assert answer.status == 409
    after = files(indexes)
    for serving in ("good", "blank"):
        before = {name: content for name, content in before.items() if not name.startswith(serving)}
        after = {name: content for name, content in after.items() if not name.startswith(serving)}
    assert after == before


def put_version(database: Path, version: int) -> None:
    data = bytearray(database.read_bytes())
    data[60:64] = version.to_bytes(4, "big")
    database.write_bytes(data)


def exchange(first: Path, second: Path) -> None:
    content = first.read_bytes(), second.read_bytes()
    assert len(content[0]) == pytest.approx(len(content[1]), rel=0.2)
    second.write_bytes(content[0])
    first.write_bytes(content[1])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
