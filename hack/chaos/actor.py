"""One index in use, and the dictionary of what must be in it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from chaos.history import History, Violation
from chaos.sidecar import DEADLINE, Sidecar
from vectorindex.dataplane.errors import RefusedError, SidecarError, UnreachableError
from vectorindex.dataplane.items import SidecarIndex, batches
from vectorindex.dataplane.operations import Sidecars
from vectorindex.dataplane.transport import Transport
from vectorindex.wire.identity import GraphParameters, Metric
from vectorindex.wire.operations import (
    BuildBody,
    DeleteBody,
    DeleteRequest,
    DeleteResult,
    FailureReason,
    ObjectReference,
    OperationKind,
    OperationState,
    OperationStatus,
    OptimizeBody,
    OptimizeRequest,
    RebuildBody,
    RebuildRequest,
    Verification,
    unpack_bitmap,
)

DIMENSIONS = 24
IDS = 1_500
EXCUSED_BY_A_KILL = (FailureReason.BUILD_FAILED, FailureReason.RESTART_LIMIT_EXCEEDED)
_OBJECT = ObjectReference(name="chaos", uid="chaos")
_VERIFY = Verification(samples=20)

Vector = NDArray[np.float32]
T = TypeVar("T")


class Actor:
    """Uses one index, and knows what must be in it: ``items``."""

    def __init__(self, transport: Transport, sidecar: Sidecar, history: History, metric: Metric, seed: int) -> None:
        self.name = metric.value.lower()
        self.items: dict[str, Vector] = {}
        self._metric = metric
        self._transport = transport
        self._sidecar = sidecar
        self._history = history
        self._endpoint = sidecar.endpoint(self.name)
        self._url = self._endpoint.url
        self._index = SidecarIndex(transport, self._url, self.name)
        self._sidecars = Sidecars(transport)
        self._random = random.Random(f"{seed} {metric}")
        self._vectors = np.random.default_rng(self._random.randrange(2**32))
        self._last_operation = 0

    async def create(self) -> None:
        await self._until_answered(lambda: self._index.create(DIMENSIONS, self._metric))
        while not self.items:
            await self._session("build")

    async def act(self) -> None:
        """One round of whatever it may be."""
        if len(self.items) < IDS // 3:
            await self._session("upsert")
        match self._random.choices(["session", "upsert", "delete", "rebuild", "optimize"], [3, 6, 2, 2, 2])[0]:
            case "session":
                await self._session(self._random.choice(["build", "insert", "upsert", "upsert"]))
            case "upsert":
                await self._upsert(set())
            case "delete":
                await self._delete(self._pick(self._random.choice([1, 5, 60])))
            case "rebuild":
                await self._rebuild()
            case "optimize":
                await self._build("optimize", OptimizeBody(object=_OBJECT, request=OptimizeRequest(verify=_VERIFY)))
        await self.check()

    async def check(self) -> None:
        """An exact search, by asking for more than there is, gives all items, nearest first; the counts agree."""
        live = len(self.items)
        state = await self._until_answered(lambda: self._sidecars.state(self._endpoint))
        self._require(state.counts.live == live, f"{state.counts.live} items are counted, {live} are there")
        queries = self._new_vectors(4)
        for query, found in zip(queries, await self._search(queries, live + 10), strict=True):
            wrong = set(found).symmetric_difference(self.items)
            self._require(not wrong and len(found) == live, f"{len(wrong)} items differ, such as {sorted(wrong)[:5]}")
            away = self._distances(query, found)
            self._require(bool((np.diff(away) >= -1e-3).all()), "an exact search is not in order of distance")
        for found in await self._search(queries, 10):
            self._require(set(found) <= set(self.items), "a search finds what is not there")
            self._require(len(set(found)) == min(10, live), f"a search for 10 of {live} items finds {len(found)}")

    def _distances(self, query: Vector, found: Sequence[str]) -> NDArray[np.float64]:
        stored = np.array([self.items[name] for name in found], np.float64).reshape(-1, DIMENSIONS)
        if self._metric is Metric.L2:
            return np.asarray(((stored - query) ** 2).sum(axis=1))
        if self._metric is Metric.COSINE:
            stored /= np.linalg.norm(stored, axis=1, keepdims=True)
        return np.asarray(-(stored @ query.astype(np.float64)))

    # Sessions

    async def _session(self, mode: str) -> None:
        existing = self._pick(self._random.randrange(60))
        new = [name for name in self._random.sample(self._names(), self._random.randint(50, 900))
               if name not in self.items]  # fmt: skip
        refused = mode == "insert" and bool(existing) and self._random.random() < 0.3
        rows = new if mode == "insert" else new + existing + existing[:3]  # the last row of an ID wins
        rows += existing[:1] if refused else []
        vectors = self._new_vectors(len(rows))
        self._note(f"session {mode}, {len(rows)} rows{', to be refused' if refused else ''}")
        try:
            await self._call("/init", {"index_name": self.name, "mode": mode})
            for _, content in batches(rows, vectors, size=150):
                await self._transport.call(
                    "POST", f"{self._url}/ingest/batch", data=content, query={"index_name": self.name}
                )
        except SidecarError as error:  # a restart ends a session; nothing has changed
            self._require("restart ends it" in str(error) or isinstance(error, UnreachableError), str(error))
            return
        replaced = set(self.items) if mode == "build" else set()  # whether they are found depends on who commits first
        status = await self._finalize(refused, replaced.union(rows), mode == "build")
        if status is not None and status.state is OperationState.SUCCEEDED:
            self._require(not refused, "mode insert took an ID that existed")
            if mode == "build":
                self.items = {}
            self.items.update(zip(rows, vectors, strict=True))

    async def _finalize(self, refused: bool, untouchable: set[str], replacing: bool) -> OperationStatus | None:
        """The operation that ended the session; None if it never began."""
        before = {operation.id for operation in await self._operations()}
        params = {"M": self._random.choice([4, 16]), "ef_construction": self._random.choice([50, 400, 1500])}
        body = {"index_name": self.name, "params": params}
        kills = self._history.kills.total()
        try:
            await self._call("/finalize", body, {"wait": self._random.choice(["true", "false"])})
        except UnreachableError:
            pass  # its record says what became of it
        except RefusedError as error:
            self._require(refused or "restart ends it" in str(error), f"finalize was refused: {error}")
        begun = [operation for operation in await self._operations() if operation.id not in before]
        self._require(len(begun) <= 1, f"one finalize, {len(begun)} operations")
        if not begun:
            return None
        return await self._end_of(begun[0].id, kills, untouchable, expected=refused, replacing=replacing)

    # Single writes

    async def _upsert(self, untouchable: set[str]) -> None:
        """New items and new vectors of others; repeated until it is answered, which must change nothing more."""
        names = self._random.sample(self._names(), self._random.choice([1, 3, 40, 500]))
        names = [name for name in names if name not in untouchable]
        if not names:
            return
        vectors = self._new_vectors(len(names))
        self._note(f"upsert of {len(names)} items")
        await self._until_answered(lambda: self._index.upsert(names, vectors))
        self._history.operations["Upsert", "Answered"] += 1
        self.items.update(zip(names, vectors, strict=True))
        chosen = self._random.sample(range(len(names)), min(4, len(names)))
        fetched = await self._until_answered(lambda: self._index.fetch([names[row] for row in chosen]))
        for row in chosen:
            read = fetched.get(names[row])
            same = read is not None and np.allclose(read, vectors[row], rtol=1e-5, atol=1e-6)
            self._require(same, f"{names[row]} was written as {vectors[row]} and is read as {read}")

    # Operations

    async def _delete(self, names: Sequence[str]) -> None:
        names = [*names, "never-there"]
        operation = self._operation("delete")
        body = DeleteBody(object=_OBJECT, request=DeleteRequest(external_ids=tuple(names)))
        cancelled = self._random.random() < 0.1
        self._note(f"{operation} of {len(names)} items{', cancelled before' if cancelled else ''}")
        if cancelled:
            await self._until_answered(lambda: self._sidecars.cancel(self._endpoint, operation))
        status = await self._until_answered(lambda: self._sidecars.start(self._endpoint, operation, body))
        self._history.operations["Delete", status.state] += 1
        if cancelled:
            self._require(status.state is OperationState.CANCELLED, f"a cancelled delete is {status}")
            return
        self._require(isinstance(status.result, DeleteResult), f"a delete ended with {status}")
        assert isinstance(status.result, DeleteResult)
        found = [name in self.items for name in names]
        told = unpack_bitmap(status.result.bitmap, len(names))
        self._require(told == found and status.result.deleted == sum(found), f"a delete says {status.result}")
        queries = np.array([self.items.pop(name) for name in names[:-1]])
        if len(queries):
            for answer in await self._search(queries, 3):
                self._require(not set(answer) & set(names), f"found after its delete: {set(answer) & set(names)}")

    async def _rebuild(self) -> None:
        params = GraphParameters.model_validate(
            {"M": self._random.choice([4, 16, 32]), "ef_construction": self._random.choice([50, 600, 1500])}
        )
        status = await self._build(
            "rebuild", RebuildBody(object=_OBJECT, request=RebuildRequest(params=params, verify=_VERIFY))
        )
        if status.state is OperationState.SUCCEEDED:
            state = await self._until_answered(lambda: self._sidecars.state(self._endpoint))
            self._require(state.parameters.m == params.m, f"{state.parameters} are in force after {params}")

    async def _build(self, kind: str, body: BuildBody) -> OperationStatus:
        operation = self._operation(kind)
        self._note(f"{operation} {body.request.model_dump(exclude_defaults=True)}")
        kills = self._history.kills.total()
        await self._until_answered(lambda: self._sidecars.start(self._endpoint, operation, body))
        return await self._end_of(operation, kills, set())

    async def _end_of(
        self,
        operation: str,
        kills: int,
        untouchable: set[str],
        *,
        expected: bool = False,
        replacing: bool = False,
    ) -> OperationStatus:
        """Delete, write, search and cancel until it has ended. It may fail if something was killed, or as
        ``expected``. While it is ``replacing`` everything, single writes are refused."""
        cancelling = self._random.random() < 0.15
        cancelled = False
        deadline = time.monotonic() + DEADLINE
        while True:
            status = await self._until_answered(lambda: self._sidecars.operation(self._endpoint, operation))
            if status.state.finished:
                break
            self._require(time.monotonic() < deadline, f"it never ends: {status}")
            await asyncio.sleep(self._random.random() * 0.2)
            if self._random.random() < 0.4:
                await self._delete([name for name in self._pick(3) if name not in untouchable])
            elif not replacing and self._random.random() < 0.5:
                await self._upsert(untouchable)
            elif cancelling and self._random.random() < 0.5:
                self._note(f"cancel of {operation} at {status.progress} %")
                await self._until_answered(lambda: self._sidecars.cancel(self._endpoint, operation))
                cancelled = True
        self._note(f"{operation} is {status.state} {status.reason} after {status.restarts} restarts")
        assert status.kind is not None
        self._history.operations[status.kind, f"{status.state} {status.reason}".strip()] += 1
        if status.state is OperationState.CANCELLED:
            self._require(cancelled, f"nobody cancelled {operation}")
        elif status.state is OperationState.FAILED and not expected:
            excused = status.reason in EXCUSED_BY_A_KILL and self._history.kills.total() > kills
            self._require(excused, f"it failed for no reason: {status}")
        return status

    async def _operations(self) -> list[OperationStatus]:
        listed = await self._until_answered(lambda: self._sidecars.operations(self._endpoint))
        return [operation for operation in listed.operations if operation.kind is OperationKind.FINALIZE]

    # Calls

    async def _search(self, queries: Vector, k: int) -> list[list[str]]:
        return await self._until_answered(lambda: self._index.search(queries, k))

    async def _call(self, path: str, body: Mapping[str, object], query: dict[str, str] | None = None) -> object:
        return await self._transport.call("POST", self._url + path, body=body, query=query, timeout=DEADLINE)

    async def _until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """What may be repeated, until there is an answer of use. Any refusal is a violation: of none of these calls can
        it be right."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return await call()
            except UnreachableError as error:
                self._sidecar.check_alive()
                self._require(time.monotonic() < deadline, f"no answer for {DEADLINE:.0f} s: {error}")
                await asyncio.sleep(0.05)
            except SidecarError as error:
                self._require(False, f"refused: {error}")

    # Choices

    def _pick(self, count: int) -> list[str]:
        return self._random.sample(sorted(self.items), min(count, len(self.items)))

    def _names(self) -> list[str]:
        return [f"item-{number}" for number in range(IDS)]

    def _new_vectors(self, count: int) -> Vector:
        lengths = self._vectors.lognormal(0, 0.5, (count, 1))
        return (self._vectors.standard_normal((count, DIMENSIONS)) * lengths).astype(np.float32)

    def _operation(self, kind: str) -> str:
        self._last_operation += 1
        return f"{kind}-{self._last_operation}"

    def _note(self, action: str) -> None:
        self._history.note(f"{self.name}: {action}")

    def _require(self, condition: bool, why: str) -> None:
        if not condition:
            raise Violation(f"index {self.name}: {why}")
