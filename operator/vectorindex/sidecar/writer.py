"""The one thread that touches an index's store.

SQLite is used through one connection in one thread, and the front's event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from vectorindex.engine.errors import StoreFailed
from vectorindex.sidecar import log

P = ParamSpec("P")
T = TypeVar("T")


class Writer:
    """Runs calls one after the other, in the order in which they were made."""

    def __init__(self, name: str) -> None:
        self.failed: str | None = None
        """Why the store stopped, for which only a restart of the process helps."""
        self._name = name
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"writer-{name}")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in the writer thread. Once started it runs to its end, whoever stops waiting for it."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))
        except StoreFailed as error:
            if self.failed is None:
                self.failed = f"index {self._name}: {error}"
                log.warning("store-failed", index=self._name, why=error)
            raise

    async def close(self) -> None:
        """Wait for the calls made so far, then end the thread."""
        await asyncio.to_thread(self._thread.shutdown, wait=True)
