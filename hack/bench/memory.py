"""Anonymous memory of processes: what cannot be read again from a file, each shared page counted once."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SAMPLE_SECONDS = 0.02
_ANONYMOUS = re.compile(r"^Pss_Anon:\s+(\d+) kB$", re.MULTILINE)


def anonymous(pids: Iterable[int]) -> int:
    """Bytes of anonymous PSS (``smaps_rollup``) of processes; one that has ended has none."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found = _ANONYMOUS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
            total += 1024 * int(found.group(1)) if found else 0
    return total


class Peak:
    """The most that was seen, in bytes."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def peak(pids: Callable[[], Iterable[int]]) -> Iterator[Peak]:
    """Look at the processes again and again while the block runs."""
    seen, ended = Peak(), threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            seen.bytes = max(seen.bytes, anonymous(pids()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def line(sizes: Iterable[int], measured: Iterable[int]) -> tuple[float, float]:
    """Bytes per item, and the fixed part, of the straight line through the figures of several sizes."""
    slope, fixed = np.polyfit(np.array(list(sizes), np.float64), np.array(list(measured), np.float64), 1)
    return float(slope), float(fixed)
