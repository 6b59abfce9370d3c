"""A builder by turns, where the container has one core or less.

A quota holds for all processes of the container together: once it is used up, searches stand still until its next
period, however nice the builder is. So the builder pauses in each period, the longer the more often the kernel has
throttled the container of late (``cpu.stat``), and nobody is kept from searching by a quota that only it has used.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import Process
from pathlib import Path

_PERIOD_SECONDS = 0.1
"""That of a quota, unless somebody has changed it."""
_LEAST_SHARE = 0.2
_LESS, _MORE = 0.7, 0.02


def next_share(share: float, throttled: bool) -> float:
    """Which part of the next period the builder runs, after one in which it ran ``share`` of it: less at once when the
    container was ``throttled``, more again little by little."""
    return max(_LEAST_SHARE, share * _LESS) if throttled else min(1.0, share + _MORE)


async def run_by_turns(child: Process, cpu_stat: Path) -> None:
    """Pause and continue ``child``, until cancelled; then it runs on."""
    share, before = 0.5, times_throttled(cpu_stat)
    with contextlib.suppress(ProcessLookupError):  # it has ended
        try:
            while True:
                await asyncio.sleep(share * _PERIOD_SECONDS)
                child.send_signal(signal.SIGSTOP)
                await asyncio.sleep((1 - share) * _PERIOD_SECONDS)
                child.send_signal(signal.SIGCONT)
                now = times_throttled(cpu_stat)
                share, before = next_share(share, now > before), now
        finally:
            child.send_signal(signal.SIGCONT)


def times_throttled(cpu_stat: Path) -> int:
    """In how many periods a cgroup has used up its quota."""
    fields = dict(line.split() for line in cpu_stat.read_text().splitlines())
    return int(fields["nr_throttled"])
