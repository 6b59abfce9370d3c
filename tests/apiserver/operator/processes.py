"""The operator's process, one of several if a test wants it so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

IMAGE = "vectorindex:test"


class Operator:
    """The process of one pod; it may be started again and again. ``lease``: that of its release, in its namespace."""

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        log: Path,
        lease: str,
        pod: str = "operator-0",
        options: Sequence[str] = (),
    ) -> None:
        self.namespace, self.lease, self.pod = namespace, lease, pod
        self.kubeconfig, self._log, self._options = kubeconfig, log, options
        self.default_image = IMAGE
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]

    def another(self, pod: str) -> Operator:
        """Another pod of the same release; it is not started."""
        log = self._log.with_name(f"{pod}.log")
        return Operator(self.kubeconfig, self.namespace, log, self.lease, pod, self._options)

    def start(self) -> None:
        environment = {"KUBECONFIG": str(self.kubeconfig), "POD_NAME": self.pod, "POD_UID": f"uid-of-{self.pod}"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vectorindex.cli.operator", "--namespace", self.namespace),
                    *("--health-host", "127.0.0.1", "--health-port", str(self._port)),
                    *("--default-image", self.default_image),
                    *("--operator-namespace", self.namespace, "--lease-name", self.lease, *self._options),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def healthz(self) -> int | None:
        """The HTTP status of its liveness endpoint."""
        return http_status(f"http://127.0.0.1:{self._port}/healthz")

    def readyz(self) -> int | None:
        """The HTTP status of its readiness endpoint."""
        return http_status(f"http://127.0.0.1:{self._port}/readyz")

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.ended()

    def stop(self) -> int:
        """SIGTERM, once it has begun to listen, and so to heed it; returns the exit code."""
        while self.running and self.healthz() is None:
            time.sleep(0.05)
        self.send(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait until it ends by itself; returns the exit code."""
        assert self._process is not None
        return self._process.wait(30)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def forget_log(self) -> None:
        """What was logged so far is of no interest any more."""
        os.truncate(self._log, 0)


def http_status(url: str) -> int | None:
    """The status of a GET, None when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None
