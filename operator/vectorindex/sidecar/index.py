"""One index as the front serves it: its store, its searchers, its ingest session and its operations."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.digest import as_text
from vectorindex.engine.erasure import Erasure
from vectorindex.engine.errors import EngineError, OperationConflict, OutOfSpace
from vectorindex.engine.jobs import BuildJob
from vectorindex.engine.ledger import NewOperation
from vectorindex.engine.params import IndexSpec, Metric, validate_external_ids
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.snapshot import traces
from vectorindex.engine.store import IndexStatus, Store
from vectorindex.engine.writes import Delete, Deletion, Preview, Upsert, Upserted, Write, Written
from vectorindex.sidecar import convert, log, maintenance
from vectorindex.sidecar.errors import BadRequest, Conflict
from vectorindex.sidecar.flusher import Flusher
from vectorindex.sidecar.operations import Operations
from vectorindex.sidecar.recent_queries import RecentQueries
from vectorindex.sidecar.searcher_client import SearcherFailed, SearcherGone
from vectorindex.sidecar.serving import Answer, Searchers
from vectorindex.sidecar.write_queue import WriteQueue
from vectorindex.sidecar.writer import Writer
from vectorindex.wire.operations import distinct
from vectorindex.wire.state import Configuration, Counts, IndexState, PodIdentity

P = ParamSpec("P")
T = TypeVar("T")

ID_BYTES = 32  # of the external ID at the head of each row of a binary batch
_INLINE_LABELS = 1_000  # more are looked at by a thread, so that the event loop goes on
_INLINE_FLOATS = 50_000
_FETCH_ATTEMPTS = 5
_SAID_OF = "volume_id"  # of the volume that a configuration was given to


class Index:
    """An open index. Make it with :meth:`open`; :meth:`close` leaves no process and no lock behind."""

    def __init__(
        self,
        writer: Writer,
        store: Store,
        spec: IndexSpec,
        snapshots: Path,
        volume_id: str,
        boot_id: str,
        identity: Callable[[], PodIdentity | None],
    ) -> None:
        self.name = spec.name
        self.spec = spec
        self.dimensions = spec.dimensions
        self.store = store
        self.searchers = Searchers(self.name, spec.dimensions, writer, store)
        self.operations = Operations(self, volume_id)
        self.flusher = Flusher(self)
        self.recent_queries = RecentQueries(spec.dimensions)
        self._writes = WriteQueue(self._commit)
        self._replacing = False
        self._writer = writer
        self._metric = spec.metric
        self._ef_search = spec.parameters.ef_search
        self._snapshots = snapshots
        self._volume_id = volume_id
        self._boot_id = boot_id
        self._identity = identity
        self._session: IngestSession | None = None
        self._past: maintenance.Past = {}
        self._serve: bool | None = None

    @classmethod
    async def open(
        cls,
        folder: Path,
        snapshots: Path,
        volume_id: str,
        boot_id: str,
        identity: Callable[[], PodIdentity | None],
        check: Callable[[IndexSpec], None],
    ) -> Index:
        """Open the index in ``folder``, start its searcher and take its unfinished operations up again. Its snapshots
        lie in ``snapshots``, if there are any.

        Raises what ``check`` raises of it, EngineError (CorruptFile names the file), SearcherFailed, SearcherGone."""
        writer = Writer(folder.name)
        try:
            store = await writer.run(Store.open, folder)
        except BaseException:
            await writer.close()
            raise
        spec = (await writer.run(store.status)).spec
        index = cls(writer, store, spec, snapshots, volume_id, boot_id, identity)
        try:
            check(spec)
            await index.erasure()
            await index.refresh_parameters()
            await index.searchers.start()
            await index.operations.resume()
        except BaseException:
            await index.close()
            raise
        index.flusher.wake()
        state = await index.state()
        log.info("index-opened", index=index.name, live=state.counts.live, deleted=state.counts.deleted)
        return index

    async def close(self) -> None:
        """Stop what runs (an unfinished rebuild goes on at the next start), end the processes, close the store."""
        await self.operations.stop()
        await self._writes.close()
        await self.flusher.stop()
        await self.searchers.stop()
        if self._session is not None:
            await self._writer.run(self._session.discard)
            self._session = None
        await self._writer.run(self.store.close)
        await self._writer.close()
        log.info("index-closed", index=self.name)

    @property
    def not_ready(self) -> str | None:
        """Why the pod must not be ready, or None."""
        if self.searchers.problem is not None:
            return self.searchers.problem
        if self._serve is False:
            return "this pod is held back until it holds the items of those that serve; write them to it"
        if self._serve is None and self._identity() is not None:
            return "the operator has not said yet whether this pod may serve, whose volume is new"
        return None

    def _configuration(self, status: IndexStatus) -> Configuration:
        """The one that is kept; ``serve`` only if it was said of this volume."""
        kept = Configuration.model_validate(status.configuration)
        same = status.configuration.get(_SAID_OF) == self._volume_id
        return kept if same else kept.model_copy(update={"serve": None})

    @property
    def failed(self) -> str | None:
        """Why the store stopped, for which only a restart of the process helps."""
        return self._writer.failed

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of the store in the writer thread."""
        return await self._writer.run(function, *args, **kwargs)

    async def planned(self, plan: Callable[[], T], job_of: Callable[[T], BuildJob | None]) -> T:
        """Plan a build in the writer thread. If whoever waits for it is cancelled, its job is given up."""
        planning = asyncio.ensure_future(self.run(plan))
        try:
            return await asyncio.shield(planning)
        except asyncio.CancelledError:
            await asyncio.wait([planning])
            if planning.exception() is None and (job := job_of(planning.result())) is not None:
                await self.run(self.store.builds.discard, job)
            raise

    async def search(self, queries: bytes, rows: int, k: int, ef: int | None) -> bytes:
        """``rows`` x dim float32 → JSON: for each query the IDs of its k nearest items, nearest first."""
        answer = await self.find(queries, rows, k, ef)
        if answer.labels.size <= _INLINE_LABELS:
            return _as_json(answer)
        return await asyncio.to_thread(_as_json, answer)

    async def find(self, queries: bytes, rows: int, k: int, ef: int | None, *, exact: bool = False) -> Answer:
        """``rows`` x dim float32 → the k nearest items of each query, and their distances."""
        answer = await self.searchers.search(queries, rows, k, 0 if exact else ef or self._ef_search)
        self.recent_queries.note(queries, rows)
        return answer

    async def upsert(self, external_ids: Sequence[str], vectors: NDArray[np.float32]) -> Upserted:
        """Write items (n, dim): durable, and seen by every later search, when this returns. Raises InvalidInput,
        TooManyRequests, Conflict."""
        checked = partial(Upsert.of, external_ids, vectors, self.dimensions, self._metric)
        write = checked() if vectors.size <= _INLINE_FLOATS else await asyncio.to_thread(checked)
        if self._replacing:
            raise Conflict(
                f"index {self.name}: a session in mode build replaces every item; write when it is finalized"
            )
        self.flusher.admit(len(write.external_ids), self._writes.upserting)
        outcome = await self._writes.put(write)
        assert isinstance(outcome, Upserted)
        return outcome

    async def delete(
        self, external_ids: Sequence[str], operation: NewOperation | None = None, max_percent: int | None = None
    ) -> Deletion:
        """Delete items; no later search finds one of them. It is recorded in the same transaction as ``operation``,
        unless more than ``max_percent`` of the live items would go: the operation fails then."""
        checked = partial(Delete, tuple(external_ids), operation, max_percent)
        write = checked() if len(external_ids) <= _INLINE_LABELS else await asyncio.to_thread(checked)
        deletion = await self._writes.put(write)
        assert isinstance(deletion, Deletion)
        if deletion.labels.size:
            log.info("deleted", index=self.name, deleted=deletion.deleted, not_found=deletion.not_found)
        return deletion

    async def preview_delete(self, external_ids: Sequence[str]) -> Preview:
        """What a delete would do now; nothing is changed. Raises InvalidInput."""
        await asyncio.to_thread(validate_external_ids, external_ids)
        return await self.run(self.store.preview, distinct(external_ids))

    async def fetch(self, external_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vector (dim,) of each of these IDs that there is, as it was received, within float32."""
        vectors: dict[str, NDArray[np.float32]] = {}
        left = list(external_ids)
        for _ in range(_FETCH_ATTEMPTS):
            labels, rows = await self.searchers.between_writes(partial(self.store.look_up, left))
            vectors.update(zip(rows.external_ids, rows.vectors, strict=True))
            left = [name for name in labels if name not in vectors]
            if not left:
                break
            vectors.update(await self._stored(left, np.array([labels[name] for name in left], np.uint64)))
            # What is not found by its label was replaced since, and its old vector may be in no segment any more.
            left = [name for name in left if name not in vectors]
        return {name: vectors[name] for name in external_ids if name in vectors}

    async def _stored(self, names: Sequence[str], labels: NDArray[np.uint64]) -> dict[str, NDArray[np.float32]]:
        """The vectors that the segments hold of these items (n), by name, as they were received."""
        stored = await self.searchers.fetch(labels)
        lengths = stored.norms if self._metric is Metric.COSINE else np.ones(len(names), np.float32)
        received = stored.vectors * lengths[:, None]
        return {name: row for name, row, there in zip(names, received, stored.found, strict=True) if there}

    @contextlib.asynccontextmanager
    async def replacing(self) -> AsyncIterator[None]:
        """In this block every item is being replaced, and single upserts, which would be lost, are refused."""
        self._replacing = True
        try:
            await self._writes.settle()
            yield
        finally:
            self._replacing = False

    async def _commit(self, writes: Sequence[Write]) -> Sequence[Written | OperationConflict]:
        outcomes = await self.searchers.write(writes)
        self.flusher.wake()
        return outcomes

    async def open_session(self, mode: SessionMode) -> None:
        """Begin an ingest session. One that is open is discarded: its client went away, or begins anew."""
        await self.operations.refuse_while_finalizing()
        if self._session is not None:
            log.warning("session-discarded", index=self.name, rows=self._session.rows, why="another one was opened")
            old, self._session = self._session, None
            await self.run(old.discard)
        self._session = await self.run(IngestSession, self.store.folder, self.dimensions, self._metric, mode)
        log.info("session-opened", index=self.name, mode=mode)

    async def ingest_one(self, external_id: str, vector: Sequence[float]) -> None:
        await self.run(self._open_session().append, [external_id], np.array([vector], np.float32))

    async def ingest_rows(self, rows: bytes) -> None:
        """Whole rows of an ID of 32 bytes, padded with NUL, and dim x float32 little-endian."""
        await self.run(_append_rows, self._open_session(), rows, self.dimensions)

    def take_session(self) -> IngestSession:
        """The open session, which from now on belongs to the caller. Raises BadRequest."""
        session = self._open_session()
        self._session = None
        return session

    def put_back_session(self, session: IngestSession) -> None:
        """Undo :meth:`take_session`."""
        self._session = session

    def _open_session(self) -> IngestSession:
        if self._session is None:
            raise BadRequest(f"index {self.name} has no open ingest session (a restart ends it): begin with POST /init")
        return self._session

    async def configure(self, configuration: Configuration) -> None:
        """Keep ``configuration`` on the volume in place of the last one; ``ef_search`` counts from the next search."""
        content = configuration.model_dump(exclude_none=True)
        # A copy of this volume's files on another one, as of a snapshot, must not be taken for a volume that may serve.
        await self.run(self.store.configure, {**content, _SAID_OF: self._volume_id}, configuration.ef_search)
        await self.refresh_parameters()
        log.info("configured", index=self.name, **content)

    async def refresh_parameters(self) -> None:
        """Read again what searches use, whether the pod may serve, and how long the last builds took; after every
        transaction that may change it."""
        status = await self.run(self.store.status)
        self._ef_search = status.parameters.ef_search
        self._serve = self._configuration(status).serve
        self._past = await self.run(maintenance.read_past, self.store)

    async def settle(self) -> Erasure:
        """See :meth:`Store.settle`. Raises OutOfSpace, StoreFailed."""
        # Looked for in the writer thread: a snapshot of the state before a swap is there by then, as a draft at least.
        return await self.run(lambda: self.store.settle(traces(self._snapshots)))

    async def erasure(self) -> Erasure:
        """The same, where a full volume is one more thing that stands against it."""
        try:
            return await self.settle()
        except OutOfSpace as error:
            return Erasure(None, str(error))

    async def state(self) -> IndexState:
        erasure = await self.erasure()
        status = await self.run(self.store.status)
        configuration = self._configuration(status)
        reasons = maintenance.reasons(status, configuration)
        return IndexState(
            volume_id=self._volume_id,
            boot_id=self._boot_id,
            identity=self._identity(),
            index_name=self.name,
            dimensions=self.dimensions,
            metric=status.spec.metric.value,
            sequence=status.sequence,
            digest=as_text(status.digest),
            counts=Counts(live=status.counts.live, deleted=status.counts.deleted, delta=status.counts.delta),
            segments=len(status.segments),
            tail=status.tail_rows,
            bytes=status.size,
            erased_before=None if erasure.before is None else convert.moment(erasure.before),
            erasure_blocked=erasure.blocked,
            parameters=convert.parameters_in_force(status.parameters),
            configuration=configuration,
            needs_rebuild=bool(reasons),
            reasons=reasons,
            figures=maintenance.figures(status, configuration),
            estimates=maintenance.estimates(status, configuration, self._past),
            read_only=status.read_only,
            operations=await self.operations.unfinished(),
        )


def _as_json(answer: Answer) -> bytes:
    """A list of lists of IDs."""
    return f"[{', '.join(map(json.dumps, answer.external_ids()))}]".encode()


def _append_rows(session: IngestSession, rows: bytes, dimensions: int) -> None:
    session.append(*parse_rows(rows, dimensions))


def parse_rows(rows: bytes, dimensions: int) -> tuple[list[str], NDArray[np.float32]]:
    """Whole rows of an ID of 32 bytes, padded with NUL, and dim x float32 little-endian. Raises BadRequest."""
    table = np.frombuffer(rows, np.dtype([("id", f"S{ID_BYTES}"), ("vector", "<f4", (dimensions,))]))
    try:
        external_ids = table["id"].astype(f"U{ID_BYTES}").tolist()
    except UnicodeDecodeError as error:
        raise BadRequest(f"an external ID of the batch is not ASCII: {error}") from None
    return external_ids, np.ascontiguousarray(table["vector"])


OPEN_ERRORS = (EngineError, SearcherFailed, SearcherGone)
"""What :meth:`Index.open` raises when the files do not let the index serve."""
