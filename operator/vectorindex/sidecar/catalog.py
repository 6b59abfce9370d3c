"""The indexes of one volume: those that serve, and those that cannot, with the reason.

A corrupt index stops nobody else. Under an identity it does not end the process either: the pod stays up and not
ready, with the reason in ``/readyz`` and in every answer about the index. A pod that crashes in a loop would hide the
reason in the log of its last life and read the same files again and again; one that is up can be asked, looked into,
and removed from by hand. Only an identity that does not fit the volume refuses to start, since nothing on this volume
can ever make it right.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable

from vectorindex.engine import catalog as folders
from vectorindex.engine.folders import remove_unfinished
from vectorindex.engine.params import IndexSpec, Metric, Parameters
from vectorindex.sidecar import convert, log
from vectorindex.sidecar.errors import Forbidden, NotFound, StartRefused, Unavailable
from vectorindex.sidecar.identity import OwnIdentity
from vectorindex.sidecar.index import OPEN_ERRORS, Index
from vectorindex.sidecar.snapshots import Snapshots
from vectorindex.sidecar.volume import Volume
from vectorindex.wire.identity import GraphParameters, Identity
from vectorindex.wire.identity import Metric as WireMetric
from vectorindex.wire.state import PodIdentity


class Catalog:
    def __init__(self, volume: Volume, identity: OwnIdentity | None) -> None:
        self.volume_id = volume.id
        self.boot_id = str(uuid.uuid4())
        self._identity = identity
        self.snapshots = Snapshots(volume.snapshots, volume.id)
        self._folder = volume.indexes
        self._open: dict[str, Index] = {}
        self._refused: dict[str, str] = {}
        self._loading: set[str] = set()
        self._changes = asyncio.Lock()  # create, load, close and destroy, one at a time

    @property
    def identity(self) -> Identity | None:
        """What the identity file says now; None: the sidecar was started by hand, without one."""
        return self._identity.says if self._identity is not None else None

    def prepare(self) -> None:
        """Find the indexes of the volume, or make the one of the identity. Raises StartRefused if another one is there.

        Before the server listens, so that no index which exists is ever answered with 404."""
        remove_unfinished(self._folder)
        self.snapshots.prepare()
        names = folders.index_names(self._folder)
        if (says := self.identity) is not None:
            wanted = says.index
            others = [name for name in names if name != wanted]
            if others:
                raise StartRefused(
                    f"this volume holds the index {', '.join(others)}, but the identity names {wanted}: "
                    "give the pod its own volume, or an empty one"
                )
            if not names:
                self._create_folder(wanted, says.dimensions, says.metric, says.parameters)
                names = [wanted]
        self._loading.update(names)

    async def start(self) -> None:
        """Load what was found. Raises StartRefused if an index is not the one of the identity."""
        async with self._changes:
            for name in sorted(self._loading):
                await self._open_or_note(name)
                self._loading.discard(name)

    def names(self) -> list[str]:
        """The indexes that are loaded, sorted."""
        return sorted(self._open)

    def get(self, name: str) -> Index:
        """The index of that name. Raises NotFound, or Unavailable if it lies on the volume and cannot be used."""
        index = self._open.get(name)
        if index is not None:
            return index
        if name in self._refused:
            raise Unavailable(f"index {name} cannot be loaded: {self._refused[name]}")
        if name in self._loading:
            raise Unavailable(f"index {name} is being loaded; try again in a moment")
        if self.identity is not None:
            raise NotFound(f"there is no index {name} in this pod: it has the index {self.identity.index}")
        raise NotFound(f"there is no index {name}")

    def not_ready(self) -> str | None:
        """Why not every index serves, or None."""
        problems = [f"index {name} is being loaded" for name in sorted(self._loading)]
        problems += [f"index {name} cannot be loaded: {why}" for name, why in sorted(self._refused.items())]
        problems += _problems((name, self._open[name].not_ready) for name in self.names())
        problems += filter(None, (self._mismatch(index.spec) for index in self._open.values()))
        return "; ".join(problems) or None

    def failed(self) -> str | None:
        """Why only a restart of the process can help, or None."""
        return "; ".join(index.failed for index in self._open.values() if index.failed) or None

    def allow_administration(self) -> None:
        """Raises Forbidden in a pod that belongs to one index."""
        if self.identity is not None:
            raise Forbidden(
                f"this pod serves the index {self.identity.index} of a VectorIndex and no other; change that object"
            )

    async def create(
        self, name: str, dimensions: int, metric: WireMetric, changes: GraphParameters, delta_ratio: float
    ) -> None:
        async with self._changes:
            await asyncio.to_thread(self._create_folder, name, dimensions, metric, changes, delta_ratio)
            await self._load(name)

    async def load(self, name: str) -> None:
        """Open an index that lies on the volume; one that is open stays as it is."""
        async with self._changes:
            if name not in self._open:
                await self._load(name)

    async def close(self, name: str, *, destroy: bool) -> None:
        """Close an index, and with ``destroy`` remove its files, also those of one that is closed or cannot be
        loaded."""
        async with self._changes:
            known = name in self._open or name in self._refused
            if not known and not (destroy and name in folders.index_names(self._folder)):
                raise NotFound(f"there is no index {name}")
            self._refused.pop(name, None)
            index = self._open.pop(name, None)
            if index is not None:
                await index.close()
            if destroy:
                await asyncio.to_thread(folders.destroy_index, self._folder, name)
                log.info("index-destroyed", index=name)

    async def stop_operations(self) -> None:
        """Stop what runs in the background, so that whoever waits for it is answered."""
        await asyncio.gather(*(index.operations.stop() for index in self._open.values()))

    async def stop(self) -> None:
        """Close every index."""
        indexes, self._open = list(self._open.values()), {}
        await asyncio.gather(*(index.close() for index in indexes))

    def _create_folder(
        self, name: str, dimensions: int, metric: WireMetric, changes: GraphParameters, delta_ratio: float = 0.10
    ) -> None:
        parameters = convert.changed(Parameters(), changes)
        folders.create_index(self._folder, IndexSpec(name, dimensions, Metric(metric), parameters, delta_ratio))
        log.info("index-created", index=name, dimensions=dimensions, metric=metric)

    async def _load(self, name: str) -> None:
        """Open an index for a client who asks for it. Raises Conflict, Unavailable, EngineError."""
        folders.index_folder(self._folder, name)
        await self._open_or_note(name)
        if name in self._refused:
            raise Unavailable(f"index {name} cannot be loaded: {self._refused[name]}")

    async def _open_or_note(self, name: str) -> None:
        self._refused.pop(name, None)
        folder = folders.index_folder(self._folder, name)
        try:
            self._open[name] = await Index.open(
                folder, self.snapshots.folder(name), self.volume_id, self.boot_id, self._pod, self._check_identity
            )
        except OPEN_ERRORS as error:
            self._refused[name] = str(error)
            log.warning("index-refused", index=name, why=error)

    def _pod(self) -> PodIdentity | None:
        return self._identity.pod if self._identity is not None else None

    def _check_identity(self, spec: IndexSpec) -> None:
        """Raises StartRefused when the index is not the identity's."""
        if (problem := self._mismatch(spec)) is not None:
            raise StartRefused(problem)

    def _mismatch(self, spec: IndexSpec) -> str | None:
        """Why the index is not the identity's. Its UID may be another: an index that was created again takes its
        volumes back."""
        says = self.identity
        held = (spec.dimensions, spec.metric.value)
        if says is None or held == (says.dimensions, says.metric.value):
            return None
        return (
            f"this volume holds the index {spec.name} with {held[0]} dimensions and metric {held[1]}, "
            f"but the identity says {says.dimensions} and {says.metric.value}: "
            "give the pod an empty volume, or restore the VectorIndex's values"
        )


def _problems(pairs: Iterable[tuple[str, str | None]]) -> list[str]:
    return [f"index {name}: {problem}" for name, problem in pairs if problem is not None]
