"""The front's end of a builder: one process per build, a job in, progress and a result out.

A builder ends when its stdin does, so it cannot outlive the front; it is killed when the task that runs it is
cancelled. It writes files only: whatever becomes of it, the index is as it was until the front commits the result.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any

from vectorindex.engine.jobs import BuildJob, BuildResult
from vectorindex.sidecar import process
from vectorindex.sidecar.builder_messages import SIZE, Failed, Progress
from vectorindex.wire.operations import FailureReason


class BuildError(Exception):
    """There is no result. ``reason`` is the operation's; the message is for the user."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def run(job: BuildJob, progress: Callable[[int], None]) -> BuildResult:
    """Run one builder to its end and return its result. ``progress`` gets the percentage done, 0..100, growing.

    Raises BuildError. When cancelled, kills the builder and waits for its end, so that nothing writes afterwards."""
    child = await process.start("vectorindex.sidecar.builder", [], blas_threads=job.threads, pipes=True)
    assert child.stdin is not None
    assert child.stdout is not None
    outcome: BuildResult | Failed | None = None
    try:
        child.stdin.write(pickle.dumps(job))
        async for message in _messages(child.stdout):
            if isinstance(message, Progress):
                progress(message.percent)
            else:
                outcome = message
        code = await child.wait()
    finally:
        await process.stop(child)
        child.stdin.close()
    if isinstance(outcome, BuildResult):
        return outcome
    if isinstance(outcome, Failed):
        reason = FailureReason.INDEX_CORRUPT if outcome.corrupt else FailureReason.BUILD_FAILED
        raise BuildError(reason, outcome.message)
    raise BuildError(
        FailureReason.BUILD_FAILED,
        f"the builder ended before it was done ({process.describe_exit(code)}); "
        "if the memory limit is near, raise it, then try again",
    )


async def _messages(stream: asyncio.StreamReader) -> AsyncIterator[Any]:
    """Whole messages until the end of the stream; one that was cut off is none."""
    while True:
        try:
            (size,) = SIZE.unpack(await stream.readexactly(SIZE.size))
            content = await stream.readexactly(size)
        except asyncio.IncompleteReadError:
            return
        yield pickle.loads(content)  # noqa: S301 - from our own builder, by our own pipe
