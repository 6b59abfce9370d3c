"""The operations of one index: durable before they are answered, one build at a time, taken up again after a restart.

The ledger in the store says what every operation is; a task here runs each one that is unfinished. Builds wait for
each other in order of arrival; a delete never waits for one. Nothing has changed until a run commits, so it may be
interrupted at any time but then and while it cleans up.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from vectorindex.engine.errors import (
    EngineError,
    IdConflict,
    InvalidInput,
    OperationConflict,
    OperationFinished,
    OutOfSpace,
    StoreFailed,
)
from vectorindex.engine.ledger import NewOperation, OperationRecord, OperationState
from vectorindex.engine.session import IngestSession
from vectorindex.sidecar import convert, log
from vectorindex.sidecar.errors import BuildError, Conflict, NotFound, RequestError, Unavailable
from vectorindex.sidecar.pace import Pace
from vectorindex.sidecar.searcher_client import SearcherFailed, SearcherGone
from vectorindex.sidecar.swap import Swap
from vectorindex.wire.identity import GraphParameters
from vectorindex.wire.operations import (
    DeleteBody,
    FailureReason,
    ObjectReference,
    OperationBody,
    OperationKind,
    OperationStatus,
    OptimizeBody,
    OptimizeRequest,
    RebuildBody,
    RebuildRequest,
    request_digest,
)

if TYPE_CHECKING:
    from vectorindex.sidecar.index import Index

MAX_CRASHES = 5
"""A build starts anew with each restart of the sidecar; after so many crashes it is given up, for it may be their
cause."""


BuildRequest = RebuildRequest | OptimizeRequest

_REQUESTS: dict[OperationKind, type[BuildRequest]] = {
    OperationKind.REBUILD: RebuildRequest,
    OperationKind.OPTIMIZE: OptimizeRequest,
}


@dataclass
class _Run:
    """An unfinished operation of this process: its task and how far it is. ``conflict`` is for whoever waits, and for
    nobody else: it names items, which the ledger must not. ``session`` ends with the run."""

    id: str
    kind: OperationKind
    progress: int = 0
    pace: Pace = field(default_factory=Pace)
    conflict: str = ""
    session: IngestSession | None = None
    task: asyncio.Task[None] = field(init=False)
    _undisturbed: bool = False
    _interrupted: bool = False

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """In this block, which is short, it is not interrupted: it commits, or cleans up."""
        self._undisturbed = True
        try:
            yield
        finally:
            self._undisturbed = False

    def interrupt(self) -> None:
        """End it where it stands, once: a second time would hit it as it cleans up."""
        if not self._undisturbed and not self._interrupted:
            self._interrupted = True
            self.task.cancel()


Work = Callable[[_Run], Awaitable[None]]
P = ParamSpec("P")
T = TypeVar("T")

_SPACE_SECONDS = 5.0  # between two attempts to write a record to a full volume
_STOP_SECONDS = 1.0  # for a commit to end, after which the run is interrupted if it goes on


class Operations:
    def __init__(self, index: Index, volume_id: str) -> None:
        self._index = index
        self._volume_id = volume_id
        self._runs: dict[str, _Run] = {}  # in order of arrival
        self._lane = asyncio.Lock()  # wakes whoever waits in order of arrival
        self._arrivals = asyncio.Lock()  # makes "refuse while busy" and "accept" one step

    async def resume(self) -> None:
        """Take up what a former process left unfinished, in order of arrival."""
        for record in await self._index.run(self._index.store.unfinished_operations):
            log.info("operation-resumed", index=self._index.name, id=record.id, restarts=record.restarts)
            if record.kind == OperationKind.FINALIZE:
                self._start(record, _session_lost)
            else:
                request = _REQUESTS[OperationKind(record.kind)].model_validate(record.request)
                self._start(record, self._build_work(request))

    async def stop(self) -> None:
        """Stop every run where it stands. The ledger has them as unfinished, and not as crashed."""
        stopped: set[str] = set()
        while self._runs:
            runs = list(self._runs.values())
            stopped.update(self._runs)
            for run in runs:
                run.interrupt()
            await asyncio.wait([run.task for run in runs], timeout=_STOP_SECONDS)
        for identity in stopped:
            try:
                await self._index.run(self._index.store.requeue_operation, identity, crashed=False)
            except OperationFinished:  # it was still Queued, or it has ended
                continue
            except EngineError as error:  # then the next start takes it for crashed
                log.warning("operation-not-set-back", index=self._index.name, id=identity, why=error)

    # The operations API

    async def put(self, identity: str, body: OperationBody) -> OperationStatus:
        """Start the operation, or return the one that has this ID. Raises Conflict if that has another body, and
        Unavailable if it cannot be recorded, so that it does not exist."""
        try:
            if isinstance(body, DeleteBody):
                record = await self._delete(identity, body)
            else:
                record = await self._accept(_new_operation(identity, body), self._build_work(body.request))
        except OperationConflict as error:
            raise Conflict(str(error)) from None
        return self._status(record)

    async def get(self, identity: str) -> OperationStatus:
        record = await self._index.run(self._index.store.operation, identity)
        if record is None:
            raise NotFound(f"index {self._index.name} has no operation {identity}")
        return self._status(record)

    async def all(self) -> tuple[OperationStatus, ...]:
        return tuple(self._status(record) for record in await self._index.run(self._index.store.operations))

    async def unfinished(self) -> tuple[OperationStatus, ...]:
        records = await self._index.run(self._index.store.unfinished_operations)
        return tuple(self._status(record) for record in records)

    async def cancel(self, identity: str) -> OperationStatus:
        """End the operation: killed at once if it runs, as it is if it has finished, and refused for good if it has not
        arrived yet."""
        record = await self._index.run(self._index.store.cancel_operation, identity)
        run = self._runs.get(identity)
        if run is not None and record.state is OperationState.CANCELLED:
            run.interrupt()  # or, where it commits, its transaction finds the record and changes nothing
            await asyncio.wait([run.task])
            log.info("operation-cancelled", index=self._index.name, id=identity)
        return self._status(record)

    async def wait(self, identity: str) -> OperationStatus:
        """The operation once it is finished, or once this process has stopped working on it."""
        run = self._runs.get(identity)
        if run is None:
            return await self.get(identity)
        await asyncio.wait([run.task])
        status = await self.get(identity)
        return status.model_copy(update={"message": run.conflict}) if run.conflict else status

    # The public API's ways in

    async def build(self, request: BuildRequest) -> str:
        """Start a rebuild or an optimize and return its ID. Raises Conflict while another build runs."""
        new = _unnamed(request)
        async with self._arrivals:
            await self.refuse_while_busy(f"this {new.kind}")
            await self._accept(new, self._build_work(request))
        return new.id

    async def finalize(self, parameters: GraphParameters) -> str:
        """Start to make the open session's items searchable, and return the operation's ID. Raises Conflict,
        BadRequest."""
        async with self._arrivals:
            return await self._finalize(parameters)

    async def finalize_and_optimize(self, parameters: GraphParameters) -> tuple[str, str]:
        """As :meth:`finalize`, and an optimize right behind it; returns the IDs of both."""
        async with self._arrivals:
            first = await self._finalize(parameters)
            request = OptimizeRequest()
            second = _unnamed(request)
            await self._accept(second, self._work_after(first, self._build_work(request)))
        return first, second.id

    async def refuse_while_busy(self, what: str) -> None:
        """Raises Conflict, with its ID, if a build runs or waits."""
        for run in await self._unended():
            raise Conflict(
                f"{what} must wait: operation {run.id} ({run.kind}) of index {self._index.name} is unfinished"
            )

    async def refuse_while_finalizing(self) -> None:
        for run in await self._unended():
            if run.kind is OperationKind.FINALIZE:
                raise Conflict(f"operation {run.id} finalizes a session of index {self._index.name}; wait for it")

    async def _unended(self) -> list[_Run]:
        """The runs whose end is not recorded. One whose end is recorded only cleans up, and that is waited for: who has
        read that it succeeded may begin the next one at once."""
        unended = []
        for run in list(self._runs.values()):
            record = await self._index.run(self._index.store.operation, run.id)
            if record is not None and record.state.finished:
                await asyncio.wait([run.task])
            else:
                unended.append(run)
        return unended

    # How they run

    async def _delete(self, identity: str, body: DeleteBody) -> OperationRecord:
        try:
            limit = body.request.max_delete_percent
            deletion = await self._index.delete(body.request.external_ids, _new_operation(identity, body), limit)
        except (OperationConflict, InvalidInput):
            raise
        except EngineError as error:
            raise Unavailable(f"the delete was not committed and is not recorded: {error}") from error
        assert deletion.record is not None
        return deletion.record

    async def _accept(self, new: NewOperation, work: Work, session: IngestSession | None = None) -> OperationRecord:
        record = await self._index.run(self._index.store.begin_operation, new)
        if record.state is OperationState.QUEUED and new.id not in self._runs:
            log.info("operation-queued", index=self._index.name, id=new.id, kind=new.kind)
            self._start(record, work, session)
        return record

    def _start(self, record: OperationRecord, work: Work, session: IngestSession | None = None) -> None:
        run = _Run(record.id, OperationKind(record.kind), session=session)
        self._runs[run.id] = run
        run.task = asyncio.get_running_loop().create_task(self._run(run, record, work), name=run.id)
        run.task.add_done_callback(lambda _: self._runs.pop(run.id))

    async def _run(self, run: _Run, record: OperationRecord, work: Work) -> None:
        try:
            async with self._lane:
                await self._attempt(run, record, work)
        except StoreFailed as error:  # the ledger cannot be written: the next start takes the operation up again
            log.warning("operation-interrupted", index=self._index.name, id=run.id, why=error)
        except OperationFinished:
            log.info("operation-was-cancelled", index=self._index.name, id=run.id)
        finally:
            if run.session is not None:
                with run.undisturbed():
                    await self._index.run(run.session.discard)

    async def _attempt(self, run: _Run, record: OperationRecord, work: Work) -> None:
        """Run it to its end, and record that. Raises OperationFinished if it was cancelled, StoreFailed."""
        try:
            if record.state is OperationState.RUNNING:
                await self._requeue(record)
            started = await self._record(self._index.store.start_operation, run.id)
            if started.state.finished:
                log.info("operation-needless", index=self._index.name, id=run.id, reason=started.reason)
                return
            log.info("operation-running", index=self._index.name, id=run.id, kind=run.kind)
            await work(run)
            await self._with_space(self._index.settle)
            log.info("operation-succeeded", index=self._index.name, id=run.id)
        except (OperationFinished, StoreFailed):
            raise
        except BuildError as error:
            await self._fail(run, error.reason, str(error))
        except InvalidInput as error:
            if isinstance(error, IdConflict):
                run.conflict = f"{error}: {', '.join(map(repr, error.external_ids))}"
            await self._fail(run, FailureReason.INVALID_REQUEST, str(error))
        except OutOfSpace as error:
            await self._fail(run, FailureReason.INSUFFICIENT_STORAGE, str(error))
        except (EngineError, RequestError, SearcherFailed, SearcherGone) as error:
            await self._fail(run, FailureReason.BUILD_FAILED, str(error))
        except Exception as error:
            log.exception("operation-failed-unexpectedly", index=self._index.name, id=run.id)
            await self._fail(run, FailureReason.BUILD_FAILED, f"{type(error).__name__}: {error}")

    async def _requeue(self, record: OperationRecord) -> None:
        """Count the crash of a former process that ran the operation. Raises BuildError when there were too many."""
        if record.crashes >= MAX_CRASHES:
            raise BuildError(
                FailureReason.RESTART_LIMIT_EXCEEDED,
                f"given up: the sidecar crashed {record.crashes + 1} times while this ran; "
                "look for the cause in the pod's events (memory?)",
            )
        await self._record(self._index.store.requeue_operation, record.id, crashed=True)

    async def _fail(self, run: _Run, reason: FailureReason, message: str) -> None:
        log.warning("operation-failed", index=self._index.name, id=run.id, reason=reason, message=message)
        await self._record(self._index.store.fail_operation, run.id, reason, message)

    async def _record(self, write: Callable[P, OperationRecord], *args: P.args, **kwargs: P.kwargs) -> OperationRecord:
        """Write to the ledger, however long the volume is full: an operation must not end without a record of it."""
        return await self._with_space(lambda: self._index.run(write, *args, **kwargs))

    async def _with_space(self, write: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await write()
            except OutOfSpace as error:
                log.warning("operation-waits-for-space", index=self._index.name, why=error)
                await asyncio.sleep(_SPACE_SECONDS)

    async def _finalize(self, parameters: GraphParameters) -> str:
        await self.refuse_while_busy("finalize")
        identity = f"finalize-{uuid.uuid4()}"
        digest = hashlib.sha256(identity.encode()).hexdigest()
        new = NewOperation(identity, OperationKind.FINALIZE, digest, request=None)
        session = self._index.take_session()
        try:
            await self._accept(new, self._finalize_work(session, parameters), session)
        except BaseException:
            self._index.put_back_session(session)
            raise
        return identity

    def _build_work(self, request: BuildRequest) -> Work:
        if isinstance(request, RebuildRequest):
            return lambda run: _swap(self._index, run).rebuild(request)
        return lambda run: _swap(self._index, run).optimize(request)

    def _work_after(self, identity: str, work: Work) -> Work:
        """The work, which is not done unless the operation before it has succeeded."""

        async def guarded(run: _Run) -> None:
            record = await self._index.run(self._index.store.operation, identity)
            if record is None or record.state is not OperationState.SUCCEEDED:
                raise BuildError(FailureReason.BUILD_FAILED, f"not done, because operation {identity} did not succeed")
            await work(run)

        return guarded

    def _finalize_work(self, session: IngestSession, parameters: GraphParameters) -> Work:
        return lambda run: _swap(self._index, run).finalize(session, parameters)

    def _status(self, record: OperationRecord) -> OperationStatus:
        run = self._runs.get(record.id)
        if run is None or record.state is not OperationState.RUNNING:
            return convert.operation_status(record, self._volume_id)
        remaining = run.pace.remaining(time.monotonic())
        return convert.operation_status(record, self._volume_id, run.progress, remaining)


def _swap(index: Index, run: _Run) -> Swap:
    def progress(percent: int) -> None:
        run.progress = max(run.progress, percent)
        run.pace.note(run.progress, time.monotonic())

    return Swap(index, run.id, progress, run.undisturbed)


async def _session_lost(_: _Run) -> None:
    """What is left to do for a finalize of a former process."""
    message = "the sidecar was restarted, which ended the ingest session; send its items again"
    raise BuildError(FailureReason.BUILD_FAILED, message)


def _unnamed(request: BuildRequest) -> NewOperation:
    """An operation of a client that gave it no name and has no object for it."""
    nobody = ObjectReference(name="", uid="")
    if isinstance(request, RebuildRequest):
        return _new_operation(f"rebuild-{uuid.uuid4()}", RebuildBody(object=nobody, request=request))
    return _new_operation(f"optimize-{uuid.uuid4()}", OptimizeBody(object=nobody, request=request))


def _new_operation(identity: str, body: OperationBody) -> NewOperation:
    # The ledger keeps no IDs of items: a delete is done when it is recorded, so nobody has to read them again.
    request = None if isinstance(body, DeleteBody) else body.request.to_json()
    reference, name = body.object, body.operation_id or ""
    return NewOperation(identity, body.kind, request_digest(body), request, reference.name, reference.uid, name)
