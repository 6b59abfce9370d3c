"""Which index this pod holds, and whose calls it may trust, as its identity file says now.

Invariant: what was read last counts, and nothing of a file that is not valid or that names another index. The kubelet
replaces the file, whose name leads to it by links, within two minutes of a change of the ConfigMap.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pydantic import ValidationError

from vectorindex.sidecar import log
from vectorindex.sidecar.errors import StartRefused
from vectorindex.wire.identity import Identity
from vectorindex.wire.state import PodIdentity

INTERVAL = 2.0
"""Seconds between two looks at the file."""


class OwnIdentity:
    """``path``: the file; ``pod``: this pod's name."""

    def __init__(self, path: Path, pod: str) -> None:
        """Raises StartRefused."""
        self._path = path
        self._pod = pod
        self._mark = _mark_of(path)
        try:
            self.says = _read(path)
        except (OSError, ValueError) as error:
            raise StartRefused(f"the identity file {error}") from error

    @property
    def pod(self) -> PodIdentity:
        """Who answers."""
        says = self.says
        return PodIdentity(namespace=says.namespace, index=says.index, uid=says.uid, pod=self._pod)

    async def follow(self) -> None:
        """Read the file again whenever it has changed, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.look()

    def look(self) -> None:
        mark = _mark_of(self._path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            says = _read(self._path)
        except (OSError, ValueError) as error:
            log.warning("identity-not-taken", why=error)
            return
        if (says.namespace, says.index) != (self.says.namespace, self.says.index):
            log.warning("identity-not-taken", why=f"it names another index, {says.namespace}/{says.index}")
            return
        self.says = says
        log.info("identity-taken", uid=says.uid, keys=",".join(key.kid for key in says.public_keys))


def _mark_of(path: Path) -> tuple[int, int, int, int] | None:
    """What differs when the file has changed or was replaced; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> Identity:
    """Raises OSError, ValueError."""
    try:
        return Identity.model_validate_json(path.read_bytes())
    except OSError as error:
        raise OSError(f"cannot be read: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{path} is not valid: {error}") from error
