"""The memory of one process, and a bound on that of this one. Imports little: a builder does."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

_STACK_BYTES = 2**20
"""Of each thread that is started from then on; by default it is 8 MB, and all of it counts against the bound."""
_OTHER_THREADS = 2
"""Of a builder beside those that its job starts: the one that waits for the front's end, and one to spare."""
_ATTRIBUTES_BYTES = 64  # more than a pthread_attr_t has on any platform


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory that a process holds; 0 when it is gone."""
    return _figure(pid, "RssAnon")


def confine(available: int, threads: int) -> None:
    """Let this process hold ``available`` bytes of anonymous memory and no more: beyond them, allocations fail.

    ``RLIMIT_DATA`` counts what is reserved, touched or not. So what is reserved and not touched by now (numpy's
    buffers) is granted on top, and the stacks of ``threads`` that are still to be started."""
    _shrink_stacks()
    me = os.getpid()
    untouched = max(0, _figure(me, "VmData") - _figure(me, "RssAnon"))
    limit = available + untouched + (threads + _OTHER_THREADS) * _STACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _shrink_stacks() -> None:
    libc = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    libc.pthread_attr_init(attributes)
    libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(_STACK_BYTES))
    error = libc.pthread_setattr_default_np(attributes)
    if error != 0:
        raise OSError(error, "pthread_setattr_default_np failed")


def _figure(pid: int, name: str) -> int:
    """A size of ``/proc/<pid>/status`` in bytes; 0 when the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return 1_024 * int(value.split()[0])
    return 0
