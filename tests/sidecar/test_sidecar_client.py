"""The package's client against several real sidecars: one goes away and comes back, or does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.sidecar.program import Program, connect, names, random_vectors
from vectorindex.dataplane.items import Replicas, SidecarIndex, WriteFailedError
from vectorindex.dataplane.transport import Transport

VECTORS = random_vectors(50)


async def pods(folder: Path) -> list[Program]:
    """Two, each with an index ``words``."""
    programs = [Program(folder / name) for name in ("a", "b")]
    for program in programs:
        async with connect(program) as client:
            await client.create("words")
    return programs


def again(program: Program, folder: Path) -> Program:
    """The same pod after its end: same volume, same address."""
    return Program(folder, "--port", program.url.rpartition(":")[2])


async def test_a_pod_that_comes_back_gets_what_was_written_meanwhile(tmp_path: Path) -> None:
    first, second = await pods(tmp_path)
    second.kill()
    async with Transport() as transport:
        indexes = [SidecarIndex(transport, program.url, "words") for program in (first, second)]
        replicas = Replicas(indexes, patience=60)
        writing = asyncio.create_task(replicas.upsert([*names(49), "an ID of more than 32 characters: ü"], VECTORS))
        while await indexes[0].count() < 50:
            await asyncio.sleep(0.01)
        assert not writing.done()
        second = again(second, tmp_path / "b")
        await writing
        await replicas.delete(["item-3", "item-4"])
        await replicas.load(names(2, 100), VECTORS[:2] + 1)
        for index in indexes:
            assert await index.count() == 50
            found = await index.fetch(["an ID of more than 32 characters: ü", "item-3", "item-101"])
            assert list(found) == ["an ID of more than 32 characters: ü", "item-101"]
            np.testing.assert_array_equal(found["item-101"], VECTORS[1] + 1)
    first.stop()
    second.stop()


async def test_a_pod_that_stays_away_is_named_and_the_others_have_it(tmp_path: Path) -> None:
    first, second = await pods(tmp_path)
    second.kill()
    async with Transport() as transport:
        indexes = [SidecarIndex(transport, program.url, "words") for program in (first, second)]
        with pytest.raises(WriteFailedError) as raised:
            await Replicas(indexes, patience=0.3).upsert(names(1), VECTORS[:1])
        assert list(raised.value.errors) == [second.url]
        assert await indexes[0].count() == 1
    first.stop()
