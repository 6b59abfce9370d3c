"""Bounds on what one request may ask for, and how many cores the container may use."""

from __future__ import annotations

import os
from pathlib import Path

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_BODIES_BYTES = 4 * MAX_BODY_BYTES  # of all requests at a time; more is answered 429
MAX_JSON_BYTES = 8 * 1024 * 1024  # of vectors as JSON, which take the event loop 10 ms a megabyte
MAX_BATCH_ROWS = 8_192
MAX_UPSERT_ROWS = 4_096  # of one request; more are what sessions are for
MAX_FETCH = 1_000  # IDs of one fetch
MAX_PAGE = 10_000  # IDs of one page
MAX_ANSWER_LABELS = 1_000_000  # rows times k of one request
MAX_K = 10_000
MAX_EF = 10_000
MAX_SEARCHES_IN_FLIGHT = 1_024  # per index; more is answered 429
MAX_BYTES_IN_FLIGHT = 2 * MAX_BODY_BYTES  # of their queries; more is answered 429

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


def cpu_quota() -> float:
    """Cores that this process may use: the cgroup's quota, or the CPUs of its affinity mask if that is less."""
    available = float(len(os.sched_getaffinity(0)))
    quota = _cgroup_quota()
    return min(available, quota) if quota is not None else available


def search_threads() -> int:
    """Threads of a searcher. Two at least: one long batch must not hold up every other search."""
    return max(2, round(cpu_quota()))


def builder_threads() -> int:
    """Threads of a builder: one core stays with the searches."""
    return max(1, int(cpu_quota()) - 1)


def _cgroup_quota() -> float | None:
    try:
        if _CGROUP_V2.exists():
            quota, period = _CGROUP_V2.read_text().split()
        else:
            quota = (_CGROUP_V1 / "cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP_V1 / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
