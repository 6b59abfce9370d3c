"""How much memory the container's processes hold, and how much of it a build may take.

Counted is anonymous memory (``RssAnon``) of the front and its children, which are all processes of the container: what
the page cache holds goes by itself when memory is short. A reserve stays for the requests that are being answered
and the writes that come meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from vectorindex.sidecar import process_memory
from vectorindex.sidecar.container import container_limits

_RESERVE_PART, _RESERVE_LEAST, _RESERVE_MOST = 16, 16 * 2**20, 256 * 2**20
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Allowance:
    """``limit``: bytes that all processes may hold together; ``reserve``: those of them that a build leaves alone."""

    limit: int
    reserve: int

    @classmethod
    def of(cls, limit: int) -> Allowance:
        """With the reserve for a limit of that size."""
        return cls(limit, min(_RESERVE_MOST, max(_RESERVE_LEAST, limit // _RESERVE_PART)))

    def free(self, held: int) -> int:
        """Bytes that a build may take while all processes hold ``held``."""
        return max(0, self.limit - self.reserve - held)

    def eaten(self, held: int, part: float) -> bool:
        """Whether more than this part of the reserve is gone."""
        return held > self.limit - (1 - part) * self.reserve


def allowance() -> Allowance | None:
    """By the container's limit; None where none is known, or where the kernel does not say what is in use."""
    limit = container_limits().memory
    return None if limit is None or not _children().exists() else Allowance.of(limit)


def held() -> int:
    """Anonymous bytes of this process and its children, which are all started by its main thread."""
    children = _children().read_text().split()
    return sum(process_memory.anonymous(pid) for pid in (os.getpid(), *map(int, children)))


def _children() -> Path:
    """A kernel has this file if it was configured with ``PROC_CHILDREN``, as those of the distributions are."""
    front = os.getpid()
    return Path(f"/proc/{front}/task/{front}/children")


async def wait_until_eaten(allowed: Allowance, part: float) -> None:
    """Returns when more than this part of the reserve is gone."""
    while not allowed.eaten(held(), part):  # noqa: ASYNC110 - nothing tells when it is
        await asyncio.sleep(_LOOK_SECONDS)
