"""What the container may use of memory and processors.

By the downward API, where the operator started it; by its cgroup (version 1 or 2) otherwise. A limit that is unknown is
none. The tightest limit of a cgroup and its ancestors holds, as far as they can be seen: in a container the path of
``/proc/self/cgroup`` may be the host's, and then only the top of what is mounted is there, the container's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vectorindex.sidecar.errors import StartRefused
from vectorindex.wire import environment

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60
"""Version 1 says about so many bytes where there is no limit."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class ContainerLimits:
    """``cpus``: cores that all processes together may use; ``memory``: bytes, None where no limit is known."""

    cpus: float
    memory: int | None


def container_limits(
    environ: Mapping[str, str] = os.environ, root: Path = CGROUP_ROOT, own: Path = OWN_CGROUP
) -> ContainerLimits:
    """Raises StartRefused when ``environ`` holds something else where a number should be."""
    available = float(len(os.sched_getaffinity(0)))
    millicores = _given(environ, environment.CPU_LIMIT)
    quota = _cgroup_quota(root, own) if millicores is None else millicores / 1_000
    memory = _given(environ, environment.MEMORY_LIMIT)
    return ContainerLimits(
        cpus=available if quota is None else min(available, quota),
        memory=_cgroup_memory(root, own) if memory is None else memory,
    )


def cpu_stat(root: Path = CGROUP_ROOT, own: Path = OWN_CGROUP) -> Path | None:
    """The file that counts how often the quota of this process's cgroup was used up; None: there is none."""
    paths = _own_paths(own)
    for folder in (*_levels(root / "cpu", paths.get("cpu")), *_levels(root, paths.get(""))):
        file = folder / "cpu.stat"
        if file.is_file() and "nr_throttled" in file.read_text():
            return file
    return None


def _given(environ: Mapping[str, str], name: str) -> int | None:
    """A limit of the environment; None when it is not set, or 0."""
    value = environ.get(name, "")
    try:
        return int(value or 0) or None
    except ValueError:
        raise StartRefused(f"the environment variable {name} is {value!r}; it must be a whole number") from None


def _cgroup_memory(root: Path, own: Path) -> int | None:
    def version_2(folder: Path) -> int | None:
        text = (folder / "memory.max").read_text().strip()
        return None if text == "max" else int(text)

    def version_1(folder: Path) -> int | None:
        limit = int((folder / "memory.limit_in_bytes").read_text())
        return None if limit >= _UNLIMITED else limit

    return _tightest(root, own, "memory", version_2, version_1)


def _cgroup_quota(root: Path, own: Path) -> float | None:
    def version_2(folder: Path) -> float | None:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)

    def version_1(folder: Path) -> float | None:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return None if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())

    return _tightest(root, own, "cpu", version_2, version_1)


def _tightest(
    root: Path,
    own: Path,
    controller: str,
    version_2: Callable[[Path], Number | None],
    version_1: Callable[[Path], Number | None],
) -> Number | None:
    paths = _own_paths(own)
    found = []
    for folders, read in (
        (_levels(root, paths.get("")), version_2),
        (_levels(root / controller, paths.get(controller)), version_1),
    ):
        for folder in folders:
            try:
                found.append(read(folder))
            except OSError:  # not mounted, not of this version, or the root, which has no limits
                continue
    return min((limit for limit in found if limit is not None), default=None)


def _own_paths(own: Path) -> dict[str, str]:
    """The path of this process's cgroup in the hierarchy of each controller of version 1; of version 2 by ``""``."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split(":", 2) for line in lines)
    return {controller: path for _, controllers, path in fields for controller in controllers.split(",")}


def _levels(mount: Path, path: str | None) -> list[Path]:
    """A cgroup's folder and those of its ancestors up to what is mounted."""
    folder = mount / (path or "/").lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent == mount or mount in parent.parents)]
