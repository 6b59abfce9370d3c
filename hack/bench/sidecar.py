"""The real sidecar as a process of its own, and a client of its HTTP API."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import names, row_of
from bench.plan import EF_CONSTRUCTION, EF_SEARCH, K, M
from vectorindex.engine.params import Metric

INDEX = "bench"
HOST = "127.0.0.1"
READY_SECONDS = 600.0
STOP_SECONDS = 60.0
BATCH_BYTES = 32 * 1024 * 1024


class SidecarError(Exception):
    """It answered what it must not, or ended."""


@dataclass(frozen=True)
class Run:
    """A rebuild or an optimize: ``wall`` seconds from the request to its answer, and the operation's result."""

    wall: float
    result: dict[str, Any]

    @property
    def graph(self) -> float:
        """Seconds of the graph phase, with the repair of reachability."""
        return float(self.result["seconds"].get("graph", 0.0) + self.result["seconds"].get("repair", 0.0))

    @property
    def fixed(self) -> float:
        """Seconds of everything else: processes, checks, files, the measurement of recall, the swap."""
        return self.wall - self.graph


class Sidecar:
    """One that serves the volume in ``folder``; ready once it is made, ``start_seconds`` after its process began."""

    def __init__(self, folder: Path) -> None:
        began = time.perf_counter()
        self.folder = folder
        self._log = folder.with_name(f"{folder.name}.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vectorindex.sidecar", "--data-dir", folder, "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        self.start_seconds = time.perf_counter() - began

    def _wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line:
            raise self._error("did not start")
        self.port = int(line.rsplit(":", 1)[1])
        deadline = time.monotonic() + READY_SECONDS
        while self._answer("GET", "/readyz")[0] != 200:
            if time.monotonic() > deadline:
                raise self._error(f"is not ready after {READY_SECONDS:.0f} s")
            time.sleep(0.02)

    def _error(self, what: str) -> SidecarError:
        """With the last lines of its log, which goes with the run."""
        lines = self._log.read_text(errors="replace").splitlines()[-20:]
        return SidecarError("\n".join([f"the sidecar {what}; its last lines:", *lines]))

    def pids(self) -> list[int]:
        """Its processes: the front, searchers, builders."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return [self._process.pid, *map(int, children.read_text().split())]
        return []

    def settle(self) -> None:
        """Wait until no builder is left, and no searcher but the one that serves."""
        deadline = time.monotonic() + STOP_SECONDS
        while len(self.pids()) > 2:
            if time.monotonic() > deadline:
                raise self._error("keeps processes of an operation that has ended")
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_SECONDS)
        if code:
            raise self._error(f"ended with exit code {code}")

    def kill(self) -> None:
        """End it whatever it does; nothing if it has ended."""
        self._process.kill()
        self._process.wait()

    # --- its API

    def create(self, dimensions: int, metric: Metric) -> None:
        params = {"M": M, "ef_construction": EF_CONSTRUCTION, "ef_search": EF_SEARCH}
        self._ok("POST", "/indexes", {"index_name": INDEX, "dim": dimensions, "metric": metric, "params": params})

    def configure(self, **configuration: int) -> None:
        self._ok("PUT", f"/v1/indexes/{INDEX}/configuration", configuration)

    def load(self, rows: NDArray[np.int64], vectors: NDArray[np.float32], mode: str = "build") -> None:
        """A whole ingest session of the items ``rows`` (n,) with their vectors (n, d)."""
        self._ok("POST", "/init", {"index_name": INDEX, "mode": mode})
        size = max(1, BATCH_BYTES // (32 + 4 * vectors.shape[1]))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            table = np.zeros(len(rows[part]), np.dtype([("id", "S32"), ("vector", "<f4", (vectors.shape[1],))]))
            table["id"] = [name.encode() for name in names(rows[part])]
            table["vector"] = vectors[part]
            self._ok("POST", f"/ingest/batch?index_name={INDEX}", table.tobytes())
        self._ok("POST", "/finalize", {"index_name": INDEX})

    def delete(self, rows: NDArray[np.int64]) -> float:
        """Delete items in one request; returns the seconds that it took, of which encoding the request is none."""
        body = json.dumps({"index_name": INDEX, "external_ids": names(rows)}).encode()
        started = time.perf_counter()
        deleted = self._ok("POST", "/delete", body)["deleted_count"]
        seconds = time.perf_counter() - started
        if deleted != len(rows):
            raise self._error(f"deleted {deleted:,} of {len(rows):,} items")
        return seconds

    def rebuild(self, seed: int = 0) -> Run:
        return self._run("/rebuild", {"index_name": INDEX, "params": {"rng_seed": seed}})

    def optimize(self) -> Run:
        return self._run("/optimize", {"index_name": INDEX})

    def search(self, queries: NDArray[np.float32], ef: int = EF_SEARCH) -> NDArray[np.int64]:
        """The rows of the items nearest to each query (q, d): (q, K), -1 where fewer are found."""
        path = f"/search/batch.bin?index_name={INDEX}&k={K}&efs={ef}"
        answers = self._ok("POST", path, queries.astype("<f4").tobytes())
        found = np.full((len(queries), K), -1)
        for line, answer in zip(found, answers, strict=True):
            line[: len(answer)] = [row_of(name) for name in answer]
        return found

    def files(self) -> list[Path]:
        return sorted((self.folder / "indexes" / INDEX).iterdir())

    def graph(self) -> Path:
        """The hnswlib file of an index that has no delta."""
        (path,) = (path for path in self.files() if path.suffix == ".hnsw")
        return path

    def _run(self, path: str, body: dict[str, Any]) -> Run:
        started = time.perf_counter()
        identity = self._ok("POST", path, body)["operation_id"]
        wall = time.perf_counter() - started
        return Run(wall, self._ok("GET", f"/v1/indexes/{INDEX}/operations/{identity}")["result"])

    def _ok(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self._answer(method, path, body)
        if status != 200:
            raise self._error(f"answered {method} {path} with {status} {answer}")
        return answer

    def _answer(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """``body``: bytes as they are, anything else as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(HOST, self.port)
        try:
            connection.request(method, path, content)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@contextmanager
def running(folder: Path) -> Iterator[Sidecar]:
    """A sidecar on a volume, which is stopped at the end, and killed when the block fails."""
    sidecar = Sidecar(folder)
    try:
        yield sidecar
        sidecar.stop()
    finally:
        sidecar.kill()


@contextmanager
def running_on_copy(folder: Path) -> Iterator[Sidecar]:
    """The same on a copy of the volume, which goes afterwards."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    try:
        with running(copy) as sidecar:
            yield sidecar
    finally:
        shutil.rmtree(copy, ignore_errors=True)
