"""The snapshots on a volume, ``snapshots/{index}/{name}``: made while the index serves, listed, removed.

They outlive their index. Only the copy of the database and the hard links are made in the index's writer thread, where
they are one moment between two writes; the rest runs beside it, so that deletes wait for no checksum.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from vectorindex.engine import snapshot as engine
from vectorindex.engine.errors import EngineError
from vectorindex.engine.files import fsync_path
from vectorindex.engine.folders import UNFINISHED_PREFIX, make_folder, remove_unfinished, remove_whole
from vectorindex.engine.snapshot import Sealed, Snapshot
from vectorindex.sidecar import log
from vectorindex.sidecar.errors import NotFound
from vectorindex.sidecar.index import Index
from vectorindex.wire.snapshots import SnapshotList, SnapshotStatus
from vectorindex.wire.state import Counts


class Snapshots:
    def __init__(self, folder: Path, volume_id: str) -> None:
        """``folder`` is ``snapshots`` of the volume; it is made with the first of them."""
        self._folder = folder
        self._volume_id = volume_id

    def folder(self, index: str) -> Path:
        """Where those of an index lie; it may be missing."""
        return self._folder / index

    def prepare(self) -> None:
        """Remove what a former process left unfinished, and make durable what is there now, and what is not: that
        process may have ended before it did, and from here on it is what we show."""
        if not self._folder.is_dir():
            return
        for folder in _folders(self._folder):
            remove_unfinished(folder)
            fsync_path(folder)
        fsync_path(self._folder)

    async def take(self, index: Index, name: str) -> SnapshotStatus:
        """Make a snapshot of an index that serves. Raises TargetExists, EngineError."""
        loop = asyncio.get_running_loop()

        def seal(draft: Path) -> Sealed:
            return asyncio.run_coroutine_threadsafe(index.run(engine.seal, index.store, draft), loop).result()

        folder = self.folder(index.name) / name

        def take() -> Snapshot:
            make_folder(folder.parent)
            return engine.take(folder, seal)

        snapshot = await asyncio.to_thread(take)
        log.info("snapshot-taken", index=index.name, name=name, sequence=snapshot.sequence, bytes=snapshot.size)
        return self._status(index.name, name, snapshot)

    async def all(self, index: str) -> SnapshotList:
        """Those of an index, by name; one that cannot be read is left out and logged."""
        return await asyncio.to_thread(self._all, index)

    async def remove(self, index: str, name: str) -> None:
        """Remove a snapshot, whole or damaged. Raises NotFound."""
        folder = self.folder(index) / name
        if not folder.is_dir():
            raise NotFound(f"index {index} has no snapshot {name} on this volume")
        await asyncio.to_thread(remove_whole, folder)
        log.info("snapshot-removed", index=index, name=name)

    def _all(self, index: str) -> SnapshotList:
        found = []
        for folder in _folders(self.folder(index)):
            try:
                found.append(self._status(index, folder.name, engine.read_snapshot(folder)))
            except EngineError as error:
                log.warning("snapshot-unreadable", index=index, name=folder.name, why=error)
        return SnapshotList(volume_id=self._volume_id, snapshots=tuple(found))

    def _status(self, index: str, name: str, snapshot: Snapshot) -> SnapshotStatus:
        counts = snapshot.counts
        return SnapshotStatus(
            volume_id=self._volume_id,
            name=name,
            path=f"{self._folder.name}/{index}/{name}",
            index_name=snapshot.index,
            dimensions=snapshot.dimensions,
            metric=snapshot.metric.value,
            sequence=snapshot.sequence,
            counts=Counts(live=counts.live, deleted=counts.deleted, delta=counts.delta),
            created=snapshot.created,
            bytes=snapshot.size,
        )


def _folders(parent: Path) -> list[Path]:
    """The finished folders in one that may be missing, sorted."""
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(UNFINISHED_PREFIX))
