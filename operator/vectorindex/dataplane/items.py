"""An application's calls: write items to every pod of an index, and search in one.

Until replicas follow each other, an application writes to every pod itself; :class:`Replicas` does that, and says
which pod failed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vectorindex.dataplane.errors import SidecarError, UnreachableError
from vectorindex.dataplane.transport import WRITE_TIMEOUT, Transport
from vectorindex.wire.identity import GraphParameters, Metric

ID_BYTES = 32
"""Size of an ID in a batch: ASCII, padded with NUL."""
BATCH = 1_000
"""Items in one request."""
FINALIZE_TIMEOUT = 3_600.0

PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between two attempts of a write; the last one again and again."""

Vectors = NDArray[np.float32]
Progress = Callable[[int], None]
"""Called with the number of items that one pod has taken since the last call."""

Result = TypeVar("Result")


class WriteFailedError(Exception):
    """A write failed on some pods. ``errors``: what each of them met with, by URL; on the others it was done."""

    def __init__(self, errors: dict[str, SidecarError]) -> None:
        super().__init__("; ".join(f"{url}: {error}" for url, error in sorted(errors.items())))
        self.errors = errors


class SidecarIndex:
    """One index in one sidecar, by the sidecar's URL. All methods raise SidecarError."""

    def __init__(self, transport: Transport, url: str, index: str) -> None:
        self._transport = transport
        self.url = url.rstrip("/")
        self.index = index

    async def create(self, dimensions: int, metric: Metric, parameters: GraphParameters | None = None) -> None:
        """Create the index, in a sidecar that runs without an identity."""
        params = (parameters or GraphParameters()).to_json()
        body = {"index_name": self.index, "dim": dimensions, "metric": metric, "params": params}
        await self._transport.call("POST", f"{self.url}/indexes", body=body)

    async def load(
        self, ids: Sequence[str], vectors: Vectors, mode: str = "upsert", progress: Progress | None = None
    ) -> None:
        """Write ``n`` items in one session, durable when this returns. ``vectors``: n rows. ``mode``: build
        replaces all items (in a pod that is the operator's to do), insert refuses IDs that exist, upsert replaces
        them."""
        await self._transport.call("POST", f"{self.url}/init", body={"index_name": self.index, "mode": mode})
        query = {"index_name": self.index}
        for count, batch in batches(ids, vectors):
            url = f"{self.url}/ingest/batch"
            await self._transport.call("POST", url, data=batch, query=query, timeout=WRITE_TIMEOUT)
            if progress is not None:
                progress(count)
        body = {"index_name": self.index}
        await self._transport.call("POST", f"{self.url}/finalize", body=body, timeout=FINALIZE_TIMEOUT)

    async def upsert(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Write ``n`` items without a session, 1 to 4,096; durable, and seen by every later search, when this returns.
        It may be repeated."""
        if all(_fits(name) for name in ids):
            ((_, data),) = batches(ids, vectors, len(ids))
            query = {"index_name": self.index}
            await self._transport.call("POST", f"{self.url}/upsert.bin", data=data, query=query, timeout=WRITE_TIMEOUT)
            return
        items = [{"external_id": name, "vector": row.tolist()} for name, row in zip(ids, vectors, strict=True)]
        body = {"index_name": self.index, "items": items}
        await self._transport.call("POST", f"{self.url}/upsert", body=body, timeout=WRITE_TIMEOUT)

    async def delete(self, ids: Sequence[str]) -> int:
        """Delete items, and return how many there were. No later search finds one of them."""
        body = {"index_name": self.index, "external_ids": list(ids)}
        answer = await self._transport.call("POST", f"{self.url}/delete", body=body, timeout=WRITE_TIMEOUT)
        return int(answer["deleted_count"])

    async def fetch(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """The vector (dim,) of each of these items that there is."""
        body = {"index_name": self.index, "external_ids": list(ids)}
        answer = await self._transport.call("POST", f"{self.url}/fetch", body=body)
        return {item["external_id"]: np.array(item["vector"], np.float32) for item in answer["items"]}

    async def count(self) -> int:
        """How many items there are."""
        answer = await self._transport.call("GET", f"{self.url}/indexes/{self.index}/count")
        return int(answer["count"])

    async def search(self, queries: Vectors, k: int = 10, ef: int | None = None) -> list[list[str]]:
        """The IDs of the ``k`` nearest items of each query, nearest first. ``queries``: 1..8192 rows."""
        query = {"index_name": self.index, "k": str(k)} | ({} if ef is None else {"efs": str(ef)})
        data = np.ascontiguousarray(queries, dtype="<f4").tobytes()
        url = f"{self.url}/search/batch.bin"
        found = await self._transport.call("POST", url, data=data, query=query, timeout=WRITE_TIMEOUT)
        return [[str(item) for item in ids] for ids in found]


class Replicas:
    """One index in the sidecars of all its pods. A pod that cannot be reached, or that has too much to do, is asked
    again for ``patience`` seconds; every write here may be repeated, since it ends the same."""

    def __init__(self, indexes: Sequence[SidecarIndex], patience: float = 30.0) -> None:
        self._indexes = tuple(indexes)
        self._patience = patience

    async def load(
        self, ids: Sequence[str], vectors: Vectors, mode: str = "upsert", progress: Progress | None = None
    ) -> None:
        """Write the items to every pod, at the same time; see :meth:`SidecarIndex.load`. ``mode``: build or upsert;
        one that refuses what exists would refuse its own repetition.

        Raises:
            WriteFailedError: some pods failed; they may hold the items or not. The call may be repeated.
        """
        if mode == "insert":
            raise ValueError("mode insert cannot be repeated: load each pod by its SidecarIndex, or use upsert")
        await self._all(lambda index: index.load(ids, vectors, mode, progress))

    async def upsert(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Write the items to every pod, at the same time; see :meth:`SidecarIndex.upsert`. Raises WriteFailedError."""
        await self._all(lambda index: index.upsert(ids, vectors))

    async def delete(self, ids: Sequence[str]) -> None:
        """Delete the items on every pod, at the same time. Raises WriteFailedError."""

        async def delete(index: SidecarIndex) -> None:
            await index.delete(ids)

        await self._all(delete)

    async def _all(self, call: Callable[[SidecarIndex], Awaitable[None]]) -> None:
        outcomes = await asyncio.gather(*(self._attempt(index, call) for index in self._indexes))
        errors = {index.url: error for index, error in zip(self._indexes, outcomes, strict=True) if error is not None}
        if errors:
            raise WriteFailedError(errors)

    async def _attempt(
        self, index: SidecarIndex, call: Callable[[SidecarIndex], Awaitable[None]]
    ) -> SidecarError | None:
        """Until it is done, refused, or patience is over; then the last error."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            try:
                await call(index)
                return None
            except UnreachableError as error:
                if loop.time() + pause > deadline:
                    return error
            except SidecarError as error:
                return error
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")


def batches(ids: Sequence[str], vectors: Vectors, size: int = BATCH) -> Iterator[tuple[int, bytes]]:
    """The items as request bodies of at most ``size`` rows, each with its number of rows.

    Raises:
        ValueError: the shapes do not agree, or an ID is not 1..32 bytes of ASCII.
    """
    if vectors.ndim != 2 or len(ids) != len(vectors):
        raise ValueError(f"{len(ids)} IDs do not go with vectors of shape {vectors.shape}")
    row = np.dtype([("id", f"S{ID_BYTES}"), ("vector", "<f4", (vectors.shape[1],))])
    for start in range(0, len(ids), size):
        names = [_encoded(name) for name in ids[start : start + size]]
        rows = np.empty(len(names), dtype=row)
        rows["id"] = names
        rows["vector"] = vectors[start : start + size]
        yield len(names), rows.tobytes()


def _fits(name: str) -> bool:
    """Whether it can be an ID in a batch."""
    return name.isascii() and 0 < len(name) <= ID_BYTES and "\0" not in name


def _encoded(name: str) -> bytes:
    if not _fits(name):
        raise ValueError(f"{name!r} is not an ID of 1 to {ID_BYTES} ASCII characters")
    return name.encode("ascii")
