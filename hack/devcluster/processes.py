"""The long-running programs of a cluster, each with its log file.

Invariant: a program never outlives the process that started it, unless it is detached, also when that process is
killed: the kernel sends SIGKILL then (PR_SET_PDEATHSIG, by util-linux' setpriv, which unlike a preexec_fn is safe
beside threads).
"""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from devcluster.errors import DevClusterError

T = TypeVar("T")

TAIL_BYTES = 4_000
POLL_SECONDS = 0.05


class Component:
    """One program with its log; `start` and `stop` may follow each other."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        detached: bool = False,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            name: for messages.
            argv: the command line.
            log: gets everything that it prints.
            environment: variables beside those of this process.
            detached: whether it goes on when this process ends.
        """
        self.name = name
        self.log = log
        tied = [] if detached else ["setpriv", "--pdeathsig", "KILL", "--"]
        self._argv = [*tied, *map(str, argv)]
        self._environment = dict(os.environ) | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, when it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def last_pid(self) -> int | None:
        """The process that was started last, whether it runs or not."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the process ended; None while it runs and before it was started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the program; its output is appended to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = _LAUNCHER.call(
                lambda: subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,
                )
            )

    def wait_until(self, ready: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait until `ready()` holds.

        Raises:
            DevClusterError: the program ended or the time is up; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if self.exit_code is not None:
                raise DevClusterError(f"{self.name} ended with {self.exit_code}.\n{self.tail()}")
            if time.monotonic() > deadline:
                raise DevClusterError(f"{self.name} was not ready after {timeout:.0f} s.\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def stop(self, timeout: float = 10.0) -> None:
        """End the program: SIGTERM, then SIGKILL after `timeout` seconds."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End the program at once (SIGKILL)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def tail(self) -> str:
        """The end of the log, for an error message."""
        return f"The end of {self.log}:\n{tail(self.log)}"


def tail(path: Path) -> str:
    """The last lines of a file, indented."""
    try:
        text = path.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")
    except FileNotFoundError:
        return "  (there is none)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-20:])


class _Launcher:
    """A thread that lives as long as this process.

    PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the process: a component started from a worker
    thread would otherwise be killed as soon as that thread is done.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._owner = 0

    def call(self, function: Callable[[], T]) -> T:
        with self._lock:
            if self._owner != os.getpid():  # first use, or after a fork, which takes no threads along
                self._owner = os.getpid()
                self._calls = queue.SimpleQueue()
                threading.Thread(target=self._run, args=(self._calls,), name="launcher", daemon=True).start()
        done = threading.Event()
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        self._calls.put(run)
        done.wait()
        if errors:
            raise errors[0]
        return results[0]

    @staticmethod
    def _run(calls: "queue.SimpleQueue[Callable[[], None]]") -> None:
        while True:
            calls.get()()


_LAUNCHER = _Launcher()
