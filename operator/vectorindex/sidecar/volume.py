"""The data folder: who holds it, and the name it goes by.

One process per folder: a lock that the kernel drops with the process, so nothing stale can remain. The volume ID is
minted once and never changes, so that a result can be told from that of another volume under the same pod name.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from pathlib import Path

from vectorindex.engine.files import fsync_path, replace_file
from vectorindex.sidecar.errors import StartRefused


class Volume:
    """An open data folder. ``id``: its UUID; ``indexes``: the folder that holds one folder per index;
    ``snapshots``: one per index with its snapshots, which need not exist; ``epoch``: the file of the operator's epoch,
    which need not exist either."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, and make it what we need. Raises StartRefused if another process holds it."""
        self.indexes = folder / "indexes"
        self.snapshots = folder / "snapshots"
        self.epoch = folder / "epoch"
        try:
            self.indexes.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StartRefused(f"the data folder {folder} cannot be used: {error}; check its permissions") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StartRefused(f"another vectorindex-sidecar uses the data folder {folder}: end it first") from None
        try:
            self.id = _read_or_mint(folder / "volume.json")
            # What a start before made and was killed before it was durable: whoever is answered now relies on it.
            fsync_path(self.indexes)
            fsync_path(folder)
        except StartRefused:
            os.close(self._lock)
            raise
        except OSError as error:
            os.close(self._lock)
            raise StartRefused(f"the data folder {folder} cannot be made durable: {error}") from error

    def close(self) -> None:
        os.close(self._lock)


def _read_or_mint(path: Path) -> str:
    """The volume ID in ``path``; a new one is durable."""
    if path.exists():
        try:
            return str(uuid.UUID(json.loads(path.read_bytes())["volume_id"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StartRefused(
                f"{path} does not hold a volume ID ({error}); restore it, or remove it to make this a new volume"
            ) from error
    volume_id = str(uuid.uuid4())
    replace_file(path, json.dumps({"volume_id": volume_id}).encode())
    return volume_id
