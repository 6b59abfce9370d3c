"""The fence: what an operator sends that is the leader no more is refused.

Invariant: a call that bears an epoch is carried out only if no higher one has been seen on this volume, and its epoch
is durable before that. So a leader that was paused or cut off, and whose calls come late, changes nothing after its
successor's first call, whether the sidecar is restarted or not. A new epoch costs an fsync, a call none.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from vectorindex.engine.errors import OutOfSpace
from vectorindex.engine.files import replace_file
from vectorindex.sidecar import log
from vectorindex.sidecar.errors import BadRequest, OutOfEpoch, PreconditionRequired, StartRefused, Unavailable
from vectorindex.wire.epoch import HEADER, MAX_AHEAD

_EPOCH = re.compile(r"[0-9]{1,18}", re.ASCII)


def _microseconds() -> int:
    return time.time_ns() // 1_000


class Fence:
    def __init__(self, path: Path, *, required: bool, clock: Callable[[], int] = _microseconds) -> None:
        """``path``: the file that holds the highest epoch seen; there need be none. ``required``: a call that changes
        something must bear one. ``clock``: microseconds since 1970. Raises StartRefused."""
        self._path = path
        self._required = required
        self._clock = clock
        self._recorded = _read(path)
        self._recording = asyncio.Lock()

    @property
    def seen(self) -> int:
        """The highest epoch seen; 0: none. One that no pod would take any more was taken while this pod's clock was
        wrong. It counts for nothing, or no leader could ever call here again."""
        return self._recorded if self._recorded <= self._clock() + MAX_AHEAD else 0

    def guards(self, handler: Handler, *, changes: bool = False) -> Handler:
        """``handler``, for those calls alone that may be carried out; ``changes``: whether it changes anything."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            text = request.headers.get(HEADER)
            if text is not None:
                await request.read()  # a body may take long, and a newer leader's call come meanwhile
                await self.admit(_parse(text))
            elif changes and self._required:
                raise PreconditionRequired(
                    f"the header {HEADER} is missing: what is done to the pods of a VectorIndex is its operator's to do"
                )
            return await handler(request)

        return guarded

    async def admit(self, epoch: int) -> None:
        """Returns when calls of this epoch may be carried out. Raises OutOfEpoch, Unavailable."""
        self._check(epoch)
        if epoch == self._recorded:
            return
        async with self._recording:
            self._check(epoch)  # a higher one may have come first
            if epoch == self._recorded:
                return
            try:
                await asyncio.to_thread(replace_file, self._path, f"{epoch}\n".encode())
            except (OutOfSpace, OSError) as error:
                raise Unavailable(f"the operator's epoch cannot be recorded: {error}") from error
            log.info("new-epoch", epoch=epoch, before=self._recorded)
            self._recorded = epoch

    def _check(self, epoch: int) -> None:
        seen = self.seen
        if epoch < seen:
            raise OutOfEpoch(f"epoch {epoch} is over: a newer leader, of {seen}, has called this pod", epoch, seen)
        if epoch > self._clock() + MAX_AHEAD:
            raise OutOfEpoch(
                f"epoch {epoch} is more than {MAX_AHEAD // 60_000_000} minutes ahead of this pod's clock: "
                "compare the clocks of its node and the operator's",
                epoch,
                seen,
            )


def _parse(text: str) -> int:
    if not _EPOCH.fullmatch(text):
        raise BadRequest(f"{HEADER}: {text[:40]!r} is no epoch; it is a number of microseconds since 1970")
    return int(text)


def _read(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return 0
    except (OSError, UnicodeDecodeError) as error:
        raise StartRefused(f"{path} cannot be read: {error}") from error
    if not _EPOCH.fullmatch(text):
        raise StartRefused(f"{path} does not hold an epoch; remove it: the operator's next call writes it again")
    return int(text)
