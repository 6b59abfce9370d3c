"""The front's end of a builder: one process per build, a job in, progress and a result out.

A builder ends when its stdin does, so it cannot outlive the front; it is killed when the task that runs it is
cancelled. It writes files only: whatever becomes of it, the index is as it was until the front commits the result.

It is started only where there is room for it (:mod:`vectorindex.sidecar.resources`). Then it cannot take more memory
than was free (``RLIMIT_DATA``: it fails, and says so), and where others take theirs meanwhile, it is killed before the
kernel would kill the container.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from typing import Any

from vectorindex.engine.jobs import BuildJob, BuildResult, JobKind
from vectorindex.sidecar import container, duty, memory, process, resources
from vectorindex.sidecar.builder_messages import SIZE, Cause, Failed, Progress
from vectorindex.sidecar.errors import BuildError
from vectorindex.sidecar.memory import Allowance
from vectorindex.wire.operations import FailureReason
from vectorindex.wire.text import bytes_text

_RESERVE_PART = {JobKind.FLUSH: 0.25}
"""How much of the reserve may be gone before a build is ended, by default half. A flush gives way to a rebuild: it is
short, and tried again."""
_REASONS = {
    Cause.CORRUPT: FailureReason.INDEX_CORRUPT,
    Cause.NO_MEMORY: FailureReason.INSUFFICIENT_MEMORY,
    Cause.NO_SPACE: FailureReason.INSUFFICIENT_STORAGE,
    Cause.OTHER: FailureReason.BUILD_FAILED,
}


async def run(job: BuildJob, progress: Callable[[int], None]) -> BuildResult:
    """Run one builder to its end and return its result. ``progress`` gets the percentage done, 0..100, growing.

    Raises BuildError, before anything is started when memory or disk are too small. When cancelled, kills the builder
    and waits for its end, so that nothing writes afterwards."""
    resources.require(job)
    return await run_within(memory.allowance(), job, progress)


async def run_within(allowed: Allowance | None, job: BuildJob, progress: Callable[[int], None]) -> BuildResult:
    """As :func:`run`, within what the container allows; None: no limit is known."""
    free = None if allowed is None else allowed.free(memory.held())
    arguments = [] if free is None else ["--memory", str(free)]
    child = await process.start("vectorindex.sidecar.builder", arguments, blas_threads=job.threads, pipes=True)
    turns: asyncio.Task[None] | None = None
    watch = None if allowed is None else asyncio.create_task(_kill_when_eaten(child, allowed, job.kind))
    assert child.stdin is not None
    assert child.stdout is not None
    outcome: BuildResult | Failed | None = None
    try:
        child.stdin.write(pickle.dumps(job))
        async for message in _messages(child.stdout):
            # Not before: a builder that is paused while it starts would stay, paused, if the front died then.
            turns = turns or _start_turns(child)
            if isinstance(message, Progress):
                progress(message.percent)
            else:
                outcome = message
        code = await child.wait()
    finally:
        for task in (turns, watch):
            if task is not None:
                task.cancel()
        await process.stop(child)
        child.stdin.close()
    if isinstance(outcome, BuildResult):
        return outcome
    if watch is not None and watch.done() and not watch.cancelled():
        watch.result()
        assert allowed is not None
        raise BuildError(
            FailureReason.INSUFFICIENT_MEMORY,
            f"the build was ended, because memory in use had eaten into the {bytes_text(allowed.reserve)} that are "
            f"reserved for requests, of the {bytes_text(allowed.limit)} that the container may use at most; "
            f"{resources.MORE_MEMORY}",
        )
    if isinstance(outcome, Failed):
        raise BuildError(_REASONS[outcome.cause], _explain(outcome, free))
    raise BuildError(
        FailureReason.BUILD_FAILED,
        f"the builder ended before it was done ({process.describe_exit(code)}); "
        "if the memory limit is near, raise it, then try again",
    )


def _explain(failed: Failed, free: int | None) -> str:
    if failed.cause is not Cause.NO_MEMORY:
        return failed.message
    within = "" if free is None else f", which may take {bytes_text(free)}"
    return f"the memory of the builder{within}, was not enough ({failed.message}); {resources.MORE_MEMORY}"


def _start_turns(child: Process) -> asyncio.Task[None] | None:
    stat = container.cpu_stat() if container.container_limits().cpus <= 1 else None
    return None if stat is None else asyncio.create_task(duty.run_by_turns(child, stat))


async def _kill_when_eaten(child: Process, allowed: Allowance, kind: JobKind) -> None:
    await memory.wait_until_eaten(allowed, _RESERVE_PART.get(kind, 0.5))
    with contextlib.suppress(ProcessLookupError):
        child.kill()


async def _messages(stream: asyncio.StreamReader) -> AsyncIterator[Any]:
    """Whole messages until the end of the stream; one that was cut off is none."""
    while True:
        try:
            (size,) = SIZE.unpack(await stream.readexactly(SIZE.size))
            content = await stream.readexactly(size)
        except asyncio.IncompleteReadError:
            return
        yield pickle.loads(content)  # noqa: S301 - from our own builder, by our own pipe
