"""Is there room for a build? Asked before it starts, so that it fails with figures, and not halfway."""

from __future__ import annotations

import os

from vectorindex.engine.estimate import Need, needs, work_of
from vectorindex.engine.jobs import BuildJob, JobKind
from vectorindex.sidecar import memory
from vectorindex.sidecar.errors import BuildError
from vectorindex.wire.operations import FailureReason
from vectorindex.wire.text import bytes_text

_NAMES = {
    JobKind.FINALIZE: "a finalize",
    JobKind.FLUSH: "a flush",
    JobKind.REBUILD: "a rebuild",
    JobKind.OPTIMIZE: "an optimize",
}


def require(job: BuildJob) -> None:
    """Raises BuildError when memory or disk are known to be too small for the job."""
    need = needs(work_of(job))
    require_disk(job, need)
    require_memory(job, need.memory)


def require_for_searcher(job: BuildJob) -> None:
    """The builder has ended: raises BuildError when there is no room for a searcher on what it built."""
    require_memory(job, needs(work_of(job)).searcher)


def require_memory(job: BuildJob, needed: int) -> None:
    """Raises BuildError unless so many bytes are free, as far as a limit is known."""
    allowed = memory.allowance()
    if allowed is None:
        return
    held = memory.held()
    if needed <= allowed.free(held):
        return
    raise BuildError(
        FailureReason.INSUFFICIENT_MEMORY,
        f"{_NAMES[job.kind]} needs about {bytes_text(needed)} of memory beside what is in use, and "
        f"{bytes_text(allowed.free(held))} are free: the container may use {bytes_text(allowed.limit)} at most, "
        f"{bytes_text(held)} are in use, {bytes_text(allowed.reserve)} stay reserved for requests; {MORE_MEMORY}",
    )


def require_disk(job: BuildJob, need: Need) -> None:
    """Raises BuildError unless the volume has room for the files."""
    volume = os.statvfs(job.folder)
    free = volume.f_bavail * volume.f_frsize
    if need.disk <= free:
        return
    raise BuildError(
        FailureReason.INSUFFICIENT_STORAGE,
        f"{_NAMES[job.kind]} needs about {bytes_text(need.disk)} on the volume, for new files beside those that serve, "
        f"and {bytes_text(free)} are free; enlarge the volume, or make space on it, then try again",
    )


MORE_MEMORY = "raise the memory limit of the container, then try again"
