"""The real program as a process on a free loopback port, and a client of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp
import numpy as np
from numpy.typing import NDArray

from vectorindex.wire.epoch import HEADER

DEADLINE = 90.0  # for a machine that does other things too; nothing waits longer than it has to
REPOSITORY = Path(__file__).parents[2]
NEW_VOLUME = "the operator has not said yet whether this pod may serve, whose volume is new"
FINISHED = ("Succeeded", "Failed", "Cancelled")


def real_vectors() -> NDArray[np.float32]:
    """6,000 sentence embeddings, (6000, 384), of unit length."""
    return np.asarray(np.load(REPOSITORY / "examples/demo/vectors_f16.npy"), np.float32)


def random_vectors(count: int, dimensions: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


def names(count: int, first: int = 0) -> list[str]:
    return [f"item-{number}" for number in range(first, first + count)]


class Program:
    """A running ``vectorindex-sidecar``. ``url`` is where it listens; ``wrapper``: a command that becomes it in the
    end, by exec."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        program = [sys.executable, "-m", "vectorindex.sidecar", "--data-dir", str(data_dir), "--port", "0"]
        self.process = subprocess.Popen(
            [*wrapper, *program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, complaint = self.process.communicate(timeout=DEADLINE)
            raise NotStartedError(self.process.returncode, complaint)
        self.url = line.split()[-1]

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self, module: str = "") -> list[int]:
        """PIDs of its child processes, of those that run ``vectorindex.sidecar.<module>`` if it is given."""
        pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in pids if f"vectorindex.sidecar.{module}" in _command_line(int(pid))]

    def kill(self) -> None:
        """As if the node lost power over it: SIGKILL, then wait until its children are gone with it."""
        children = self.children()
        self.process.kill()
        self.process.communicate(timeout=DEADLINE)
        wait_until_gone(children)

    def stop(self) -> tuple[int, str]:
        """SIGTERM; returns the exit code and what it wrote to stderr. Its children must be gone."""
        children = self.children() if self.process.poll() is None else []
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=DEADLINE)
        wait_until_gone(children)
        return self.process.returncode, log


class NotStartedError(Exception):
    def __init__(self, code: int, complaint: str) -> None:
        super().__init__(f"exit code {code}: {complaint}")
        self.code = code
        self.complaint = complaint


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until_gone(pids: Iterable[int]) -> None:
    deadline = time.monotonic() + DEADLINE
    while alive := [pid for pid in pids if _command_line(pid)]:
        assert time.monotonic() < deadline, f"processes {alive} were left behind"
        time.sleep(0.01)


async def eventually(condition: Callable[[], Awaitable[Any] | Any], what: str) -> Any:
    """The first true value of ``condition``, asked again and again until a deadline."""
    deadline = time.monotonic() + DEADLINE
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s for: {what}"
        await asyncio.sleep(0.01)


class Answer(NamedTuple):
    status: int
    body: Any


class Client:
    """An application and an operator in one; ``epoch`` is the operator's."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.epoch: int | None = None

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        """``body``: bytes as they are, anything else as JSON."""
        encoded = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        content = None if encoded is None else io.BytesIO(encoded)
        headers = {} if self.epoch is None else {HEADER: str(self.epoch)}
        async with self._session.request(method, self._url + path, data=content, headers=headers) as response:
            return Answer(response.status, await response.json())

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.call(method, path, body)
        assert answer.status == 200, f"{method} {path}: {answer}"
        return answer.body

    async def create(self, index: str, dimensions: int = 8, **more: Any) -> None:
        await self.ok("POST", "/indexes", {"index_name": index, "dim": dimensions, **more})

    async def load(
        self, index: str, ids: Sequence[str], vectors: NDArray[np.float32], mode: str = "build", **finalize: Any
    ) -> None:
        """A whole ingest session."""
        await self.ok("POST", "/init", {"index_name": index, "mode": mode})
        await self.ok("POST", f"/ingest/batch?index_name={index}", rows(ids, vectors))
        await self.ok("POST", "/finalize", {"index_name": index, **finalize})

    async def search(self, index: str, query: NDArray[np.float32], k: int = 10, **more: Any) -> list[str]:
        options = "".join(f"&{name}={value}" for name, value in more.items())
        path = f"/search.bin?index_name={index}&k={k}{options}"
        found: list[str] = await self.ok("POST", path, query.astype("<f4").tobytes())
        return found

    async def delete(self, index: str, ids: Sequence[str], **more: Any) -> Any:
        return await self.ok("POST", "/delete", {"index_name": index, "external_ids": list(ids), **more})

    async def state(self, index: str) -> Any:
        return await self.ok("GET", f"/v1/indexes/{index}/state")

    async def put(
        self, index: str, operation: str, kind: str, operation_id: str | None = None, **request: Any
    ) -> Answer:
        """``operation_id``: what the user calls it, beyond the object."""
        body = {"kind": kind, "object": {"name": "run", "uid": operation}, "request": request}
        body |= {} if operation_id is None else {"operationID": operation_id}
        return await self.call("PUT", f"/v1/indexes/{index}/operations/{operation}", body)

    async def operation(self, index: str, operation: str) -> Any:
        return await self.ok("GET", f"/v1/indexes/{index}/operations/{operation}")

    async def finished(self, index: str, operation: str) -> Any:
        """The operation once it has ended."""

        async def ended() -> Any:
            status = await self.operation(index, operation)
            return status if status["state"] in FINISHED else None

        return await eventually(ended, f"the end of operation {operation}")

    async def running(self, index: str, operation: str, progress: int = 1) -> Any:
        """The operation once it runs and is that far. It must not have ended by then."""

        async def far_enough() -> Any:
            status = await self.operation(index, operation)
            assert status["state"] not in FINISHED, status
            return status if status["state"] == "Running" and status["progress"] >= progress else None

        return await eventually(far_enough, f"operation {operation} at {progress} %")


@contextlib.asynccontextmanager
async def connect(
    program: Program, *, ready: bool = True, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """A client of a program that has loaded what it can, and answers for all of it if ``ready``: a new pod of a
    VectorIndex waits to be told that it may serve, and answers. ``headers``: of each call."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        client = Client(session, program.url)

        async def loaded() -> bool:
            answer = await client.call("GET", "/readyz")
            if answer.status == 200:
                return True
            why = answer.body["detail"]
            return NEW_VOLUME in why or (not ready and "being loaded" not in why)

        await eventually(loaded, "readiness")
        yield client


class Launch(Protocol):
    """Starts a program on the test's volume."""

    def __call__(self, *arguments: str, environment: dict[str, str] | None = None) -> Program: ...


def rows(ids: Sequence[str], vectors: NDArray[np.float32]) -> bytes:
    """The body of ``/ingest/batch``."""
    table = np.zeros(len(ids), np.dtype([("id", "S32"), ("vector", "<f4", (vectors.shape[1],))]))
    table["id"] = [name.encode() for name in ids]
    table["vector"] = vectors
    return table.tobytes()
