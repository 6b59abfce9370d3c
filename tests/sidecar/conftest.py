from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.sidecar.program import Client, Launch, Program, connect, names, real_vectors


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One program for all tests of a module; each test names its own index."""
    program = Program(tmp_path_factory.mktemp("volume"))
    yield program
    assert program.stop()[0] == 0


@pytest.fixture
async def client(shared: Program) -> AsyncIterator[Client]:
    async with connect(shared) as client:
        yield client


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts programs on one volume, one after the other; what still runs at the end is stopped."""
    started: list[Program] = []

    def start(*arguments: str, environment: dict[str, str] | None = None) -> Program:
        program = Program(tmp_path / "volume", *arguments, environment=environment)
        started.append(program)
        return program

    yield start
    for program in started:
        if program.process.poll() is None:
            program.stop()


@pytest.fixture(scope="session")
def filled_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with the index ``demo``: 3,000 real vectors in a graph that leaves room for a better one."""
    volume = tmp_path_factory.mktemp("filled")

    async def fill(program: Program) -> None:
        async with connect(program) as client:
            await client.create("demo", 384, metric="Cosine", params={"M": 8, "ef_construction": 40})
            await client.load("demo", names(3000), real_vectors()[:3000])

    program = Program(volume)
    asyncio.run(fill(program))
    program.stop()
    return volume


@pytest.fixture
def filled(filled_volume: Path, tmp_path: Path, launch: Launch) -> Program:
    """A program on a copy of that volume."""
    shutil.copytree(filled_volume, tmp_path / "volume")
    return launch()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the index of :func:`filled`."""
    return tmp_path / "volume/indexes/demo"
