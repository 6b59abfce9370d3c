"""The sidecar under test as a process that can be killed, with its children, and is started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

from chaos.history import Violation
from vectorindex.wire.endpoint import Endpoint

HOST = "127.0.0.1"
DEADLINE = 120.0
"""Seconds within which an operation ends and a sidecar serves, however often it is killed meanwhile."""


class Sidecar:
    """The process under test, on one port of loopback over all its lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "log"
        with socket.create_server((HOST, 0)) as free:
            self.port = free.getsockname()[1]
        self._process = self._started()

    def endpoint(self, index: str) -> Endpoint:
        return Endpoint("", index, "", HOST, self.port)

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "vectorindex.sidecar", "--data-dir", self.folder / "data",
                 "--port", str(self.port)],
                stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def kill_front(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process = self._started()

    def kill_child(self, module: str, choose: random.Random) -> bool:
        """Kill one of its searchers or builders; False if it has none."""
        children = self.children(module)
        if not children:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(choose.choice(children), signal.SIGKILL)
        return True

    def children(self, module: str = "") -> list[int]:
        found = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if f"vectorindex.sidecar.{module}" in Path(f"/proc/{pid}/cmdline").read_text():
                        found.append(int(pid))
        return found

    def check_alive(self) -> None:
        """Raises Violation if it ended by itself. The folder's lock may outlive a killed front by the moment in which a
        child of it is between fork and exec; then it is started again."""
        code = self._process.poll()
        if code is None:
            return
        if code == 1 and "another vectorindex-sidecar uses the data folder" in self.last_lines(1):
            self._process = self._started()
            return
        raise Violation(f"the sidecar ended by itself with exit code {code}")

    def last_lines(self, count: int = 40) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-count:])

    def stop(self) -> None:
        """Ask it to end. Raises Violation if it does not, leaves children behind, or wrote a traceback at any time."""
        children = self.children()
        self._process.terminate()
        try:
            code = self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise Violation("the sidecar does not end on SIGTERM") from None
        if code != 0:
            raise Violation(f"the sidecar ended on SIGTERM with exit code {code}")
        if left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
            raise Violation(f"processes {left} were left behind")
        _, traceback, rest = self._log.read_text(errors="replace").partition("Traceback")
        if traceback:
            raise Violation(f"there is a traceback in the sidecar's log: {rest[:4_000]}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
