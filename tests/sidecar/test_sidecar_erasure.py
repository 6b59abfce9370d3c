"""Erasure by the real program: once it says so, no file holds a byte of what was deleted, whatever ended it before."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.sidecar.program import Launch, connect, eventually, random_vectors

RANDOM = random.Random(7)
COUNT = 400
IDS = [f"{RANDOM.getrandbits(112):028x}" for _ in range(COUNT)]
VECTORS = random_vectors(COUNT, dimensions=16, seed=7)
SNAPSHOTS = "/v1/indexes/secret/snapshots"


def left(volume: Path, deleted: range) -> set[str]:
    """Names of the files that hold the ID or any half of the vector of one of the items."""
    texts = [IDS[number].encode() for number in deleted]
    for stored in (VECTORS, VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)):
        rows = stored[deleted.start : deleted.stop].astype("<f4")
        texts += [half.tobytes() for row in rows for half in (row[:8], row[8:])]
    files = [path for path in volume.rglob("*") if path.is_file()]
    return {path.name for path in files if any(text in path.read_bytes() for text in texts)}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "volume"


async def test_an_operation_says_what_it_has_erased(launch: Launch, volume: Path) -> None:
    program = launch()
    async with connect(program) as client:
        await client.create("secret", 16, metric="Cosine")
        await client.load("secret", IDS, VECTORS)
        assert "erased_before" not in await client.state("secret")
        await client.delete("secret", IDS[:50])
        before = datetime.now(UTC)
        await client.put("secret", "optimize.1", "Optimize")
        result = (await client.finished("secret", "optimize.1"))["result"]
        assert before <= datetime.fromisoformat(result["erased_before"]) <= datetime.now(UTC)
        assert "erasure_blocked" not in result
        assert left(volume, range(50)) == set()
        assert left(volume, range(50, 51))
        assert (await client.state("secret"))["erased_before"] == result["erased_before"]

        # A snapshot keeps what is deleted later, and a session what it was sent.
        await client.ok("POST", SNAPSHOTS, {"name": "nightly"})
        await client.delete("secret", IDS[50:100])
        await client.put("secret", "rebuild.1", "Rebuild")
        result = (await client.finished("secret", "rebuild.1"))["result"]
        assert "erased_before" not in result
        assert result["erasure_blocked"].startswith("snapshot nightly of 20")
        assert left(volume, range(50, 100))
        await client.ok("POST", "/init", {"index_name": "secret", "mode": "upsert"})
        await client.ok("DELETE", f"{SNAPSHOTS}/nightly")
        assert "session" in (await client.state("secret"))["erasure_blocked"]
        await client.ok("POST", "/finalize", {"index_name": "secret"})
        state = await client.state("secret")
        assert "erasure_blocked" not in state
        assert state["erased_before"] > before.isoformat()
        assert left(volume, range(100)) == set()
    assert program.stop()[0] == 0


async def test_a_kill_behind_the_swap_leaves_nothing_after_the_restart(launch: Launch, volume: Path) -> None:
    program = launch()
    async with connect(program) as client:
        await client.create("secret", 16)
        await client.load("secret", IDS, VECTORS)
    for start in (0, 50, 100):
        deleted, operation = range(start, start + 50), f"rebuild.{start}"
        async with connect(program) as client:
            await client.delete("secret", IDS[start : start + 50])
            (old,) = (volume / "indexes/secret").glob("*.hnsw")
            await client.put("secret", operation, "Rebuild")
            await eventually(partial(is_gone, old), "the old graph unlinked")
        program.kill()
        program = launch()
        async with connect(program) as client:
            status = await client.finished("secret", operation)
            assert (status["state"], "erased_before" in status["result"]) == ("Succeeded", True), status
            assert left(volume, deleted) == set()


def is_gone(path: Path) -> bool:
    return not path.exists()
