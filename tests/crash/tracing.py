"""Tasks of the driver under strace: what calls they made, and what becomes of them when one call is tampered with."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash.messages import LARGEST, Answer, Begun, Done, Ended, Refused, Started, Task

REPOSITORY = Path(__file__).parents[2]
SEND = "sendto"
SYNCS = frozenset({"fsync", "fdatasync"})
RENAMES = frozenset({"rename", "renameat", "renameat2"})
CHANGES = frozenset(
    {"write", "writev", "pwrite64", "pwritev", "ftruncate", "truncate", "fallocate", "link", "linkat", "symlink",
     "symlinkat", "sendfile", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"}
) | SYNCS | RENAMES  # fmt: skip
"""Calls that change files or make them durable; besides those of ``openat`` that may create one."""
FOLLOWED = CHANGES | {"openat", "creat", "open", "close", "lseek", "dup", "dup2", "dup3", "mmap", SEND}

_LINE = re.compile(r"(\w+)\((.*)\)\s+= (\?|-?\d+|0x[0-9a-f]+)(?: (E[A-Z]+))?(.*)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass(frozen=True)
class Call:
    """A system call: the ``ordinal``-th of its name, from 1. ``arguments`` as strace writes them, ``strings``: those
    among them, decoded. ``result``: None when it never returned; ``error``: ENOSPC and the like."""

    name: str
    ordinal: int
    arguments: str
    strings: tuple[bytes, ...]
    result: int | None
    error: str
    injected: bool

    @property
    def changes(self) -> bool:
        return self.name in CHANGES or (self.name == "openat" and "O_CREAT" in self.arguments)

    @property
    def message(self) -> Any:
        """What a ``sendto`` said."""
        return pickle.loads(self.strings[0])


@dataclass(frozen=True)
class Injection:
    """``fault``: ``kill``, before the call does anything, or the name of an error that it ends with."""

    call: str
    ordinal: int
    fault: str

    @property
    def expression(self) -> str:
        what = "signal=SIGKILL" if self.fault == "kill" else f"error={self.fault}"
        return f"inject={self.call}:{what}:when={self.ordinal}"


@dataclass(frozen=True)
class Outcome:
    """``messages`` of the task in order; ``status`` as of waitpid; ``calls``: empty unless they were recorded."""

    messages: tuple[Any, ...]
    status: int
    calls: tuple[Call, ...] = ()
    injected: bool = False

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status)

    @property
    def failed(self) -> bool:
        """It ended with a traceback: an error that nothing in the product stands for."""
        return os.WIFEXITED(self.status) and os.WEXITSTATUS(self.status) != 0

    @property
    def last(self) -> Begun | Done | Refused | None:
        """How far the life came."""
        told = [message for message in self.messages if isinstance(message, Begun | Done | Refused)]
        return told[-1] if told else None

    @property
    def answer(self) -> Answer:
        (answer,) = [message for message in self.messages if isinstance(message, Answer)]
        return answer


class Driver:
    """A driver process: one task at a time."""

    def __init__(self, scratch: Path) -> None:
        self._log = scratch / "strace.log"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "operator"), os.environ.get("PYTHONPATH", "")])
        variables = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.driver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **variables},
                stderr=subprocess.PIPE,
            )
        ours.settimeout(60)
        self._channel = ours

    def close(self) -> str:
        """Ends the process and returns what it wrote to stderr."""
        self._channel.close()
        _, complaints = self._process.communicate(timeout=60)
        return complaints.decode()

    def run(self, task: Task, injection: Injection | None = None, *, recorded: bool = False) -> Outcome:
        """One task, from its start to its end."""
        self._channel.send(pickle.dumps(task))
        started = self._receive()
        assert isinstance(started, Started)
        with self._traced(started.pid, injection, recorded):
            self._channel.send(b"go")
            messages = []
            while not isinstance(message := self._receive(), Ended):
                messages.append(message)
        if injection is None and not recorded:
            return Outcome(tuple(messages), message.status)
        calls = parse(self._log.read_text())
        injected = any(call.injected for call in calls) or os.WIFSIGNALED(message.status)
        return Outcome(tuple(messages), message.status, calls if recorded else (), injected)

    def _receive(self) -> Any:
        content = self._channel.recv(LARGEST)
        if not content:
            raise RuntimeError(f"the driver has ended: {self.close()}")
        return pickle.loads(content)

    @contextlib.contextmanager
    def _traced(self, pid: int, injection: Injection | None, recorded: bool) -> Iterator[None]:
        """strace on the process until that ends, if there is anything to do for it."""
        if injection is None and not recorded:
            yield
            return
        followed = FOLLOWED if injection is None or recorded else {injection.call}
        command = ["strace", "-p", str(pid), "-o", str(self._log), "-e", f"trace={','.join(sorted(followed))}"]
        command += ["-xx", "-s", str(LARGEST) if recorded else "0", "-e", "signal=none"]
        if injection is not None:
            command += ["-e", injection.expression]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
            assert tracer.stderr is not None
            line = tracer.stderr.readline().decode()
            if "attached" not in line:
                tracer.wait()
                raise RuntimeError(f"strace cannot trace the driver: {line}")
            yield
            tracer.communicate(timeout=60)


def parse(log: str) -> tuple[Call, ...]:
    """The calls of a log of one thread. Raises ValueError on a line that is none."""
    numbers: Counter[str] = Counter()
    calls = []
    for line in log.splitlines():
        if line.startswith(("+++", "---")):
            continue
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise ValueError(f"not a line of strace: {line[:200]}")
        name, arguments, result, error, rest = matched.groups()
        strings = []
        for hexadecimal, cut in _STRING.findall(arguments):
            if cut and len(hexadecimal) > 4:
                raise ValueError(f"strace cut a string: {line[:200]}")
            strings.append(bytes.fromhex(hexadecimal.replace("\\x", "")))
        numbers[name] += 1
        returned = None if result == "?" else int(result, 0)
        calls.append(
            Call(name, numbers[name], _STRING.sub('""', arguments), tuple(strings), returned, error or "",
                 "INJECTED" in rest)
        )  # fmt: skip
    return tuple(calls)
