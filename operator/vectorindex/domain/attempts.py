"""Attempts of a build on one pod: which failures are final, and when the next attempt begins.

Invariant: the number of an attempt grows only after the pod itself has reported that the one before has failed. Number
and time of the next one are in the status before it begins, so an operator that was started anew neither skips an
attempt nor makes one twice.
"""

from __future__ import annotations

import hashlib
import math
from datetime import datetime, timedelta

from vectorindex.api.builds import BuildPodResult
from vectorindex.api.reasons import Reason
from vectorindex.domain.replies import failure
from vectorindex.domain.verdicts import Verdict

FIRST_DELAY, LONGEST_DELAY = 10.0, 360.0
"""Seconds between an attempt and the next one, as a Job's: doubling, less up to half of it by chance."""

RETRIED = frozenset({Reason.BUILD_FAILED, Reason.OPERATION_FAILED})
"""What may pass by itself. Any other failure would be the same next time: the request, the data, the size of the pod,
or a sidecar that did not survive the work (it has made attempts of its own then) are for somebody to change first."""


def attempt_to_call(row: BuildPodResult) -> int:
    """The attempt that the pod is at, or begins next."""
    return (row.attempt or 0) + 1 if row.retry_time is not None else row.attempt or 1


def retry_at(row: BuildPodResult, limit: int, run_uid: str, now: datetime) -> datetime | None:
    """When the next attempt begins after a row's failure; None: it was the last one. ``limit``: attempts beyond the
    first one."""
    attempt = row.attempt or 1
    if row.reason not in RETRIED or attempt > limit:
        return None
    return now + timedelta(seconds=math.ceil(_delay(attempt, f"{run_uid}.{attempt} {row.name}")))


def final_failure(row: BuildPodResult, limit: int) -> Verdict | None:
    """Why this pod ends the run, None if it does not. One that refused the request has made no attempt."""
    why = failure(row)
    if why is None or row.retry_time is not None:
        return None
    if why.reason in RETRIED and row.attempt is not None and row.attempt > limit:
        return Verdict(Reason.BACKOFF_LIMIT_EXCEEDED, f"pod {row.name} failed {attempt_of(row, limit)}: {row.message}")
    return why


def attempt_of(row: BuildPodResult, limit: int) -> str:
    """``attempt 1 of 4``."""
    return f"attempt {row.attempt} of {limit + 1}"


def _delay(attempt: int, seed: str) -> float:
    """Seconds; the chance is a hash, so that the same failure always waits as long."""
    full = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt - 1, 30))
    chance = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64
    return full * (0.5 + 0.5 * chance)
