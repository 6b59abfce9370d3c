"""Starting child processes so that none outlives the front, however the front ends.

Three ties hold: a child ends at the end-of-file of its pipe to the front; the kernel kills it when the front's main
thread dies (``PR_SET_PDEATHSIG``; therefore children are started from that thread only); and :func:`stop` waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence


async def start(
    module: str, arguments: Sequence[str], *, blas_threads: int, pass_fds: Sequence[int] = (), pipes: bool = False
) -> asyncio.subprocess.Process:
    """Start ``python -m module --parent PID arguments…``; with ``pipes`` its stdin and stdout are ours.
    ``blas_threads`` of a numpy product, which otherwise takes every core of the host."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # never import from the working directory
        "-m",
        module,
        "--parent",
        str(os.getpid()),
        *arguments,
        stdin=asyncio.subprocess.PIPE if pipes else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if pipes else None,
        pass_fds=tuple(pass_fds),
        env={**os.environ, "OPENBLAS_NUM_THREADS": str(blas_threads), "OMP_NUM_THREADS": str(blas_threads)},
    )


async def stop(process: asyncio.subprocess.Process, grace: float = 0.0) -> int:
    """Wait ``grace`` seconds for the process to end by itself, then kill it. Returns its exit code."""
    if grace > 0:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(process.wait(), grace)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return await process.wait()


def describe_exit(code: int) -> str:
    """An exit code in words: ``exit code 3`` or ``killed by SIGKILL``."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
