"""A simulated world: an API server, sidecars and a clock in memory, and the real operator loop between them.

The loop's own parts (queue, intake, watchlist, reconciler) are the real ones; only its ports are simulated. Every call
of a port is counted, so that a fault can be put at each of them: a crash after it, or an answer that is lost although
the call had its effect.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, TypeVar

from tests.loop.leases import SimulatedLease
from tests.loop.sidecars import INDEX, NAMESPACE, START, Clock, Failing, Sidecar
from vectorindex.api import KINDS, names
from vectorindex.api.common import API_VERSION
from vectorindex.cluster.errors import ConflictError, NotFoundError, OutdatedError, UnavailableError
from vectorindex.dataplane import errors as dataplane
from vectorindex.domain.election import Candidate, Timing
from vectorindex.reconcile.intake import Intake
from vectorindex.reconcile.keys import Key
from vectorindex.reconcile.leadership import Leadership, LeadershipLostError
from vectorindex.reconcile.ports import Manifest, Ports
from vectorindex.reconcile.queue import Done, Failed, KeyedQueue, Outcome
from vectorindex.reconcile.reconciler import Reconciler, is_temporary
from vectorindex.reconcile.resync import Resync
from vectorindex.reconcile.seen import Seen
from vectorindex.reconcile.watchlist import Watchlist
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.epoch import HEADER
from vectorindex.wire.operations import DeletePreview, DeleteRequest, OperationBody, OperationStatus
from vectorindex.wire.state import Configuration, IndexState

Result = TypeVar("Result")

OURS = {model.definition.kind for model in KINDS}
ROLL_SECONDS = 5.0
TIMING = Timing(duration=2, renew_deadline=1.5, retry=1.0)
LIMIT = timedelta(hours=1)
"""Simulated time after which a run must have ended."""
LONGEST_STEP = 0.5
"""Seconds by which the clock moves at most."""


class Mode(Enum):
    CRASH = "crash"
    """The operator ends right after the call: nothing is done between two calls, so this is every place to end at."""
    LOST = "answer lost"
    """The call has its effect, but the operator gets no answer."""
    PAUSE = "paused"
    """The operator stands still just before the call has its effect, is replaced by another one, and goes on."""


@dataclass(frozen=True)
class Fault:
    """What happens at the ``call``-th call of a port, counted from 0 over the whole run. ``others``: so many calls are
    made by the one that replaces a paused operator, before that one goes on; None: all that there are to make."""

    call: int
    mode: Mode
    others: int | None = None


class Crash(BaseException):
    """The operator's process ends here."""


@dataclass
class Server:
    """The API server's objects, and the events since they were last taken."""

    clock: Clock
    objects: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    events: list[tuple[Manifest, bool]] = field(default_factory=list)
    recorded: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    status_writes: int = 0
    never_ready: frozenset[str] = frozenset()
    """Images that do not work."""
    _rolled_at: dict[str, float] = field(default_factory=dict)
    _version: int = 0

    def create(self, kind: str, name: str, spec: Manifest | None = None, **fields: Any) -> Manifest:
        self._version += 1
        created = self.clock.now().isoformat().replace("+00:00", "Z")
        manifest: Manifest = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-{self._version}-{name}",
                "generation": 1,
                "resourceVersion": str(self._version),
                "creationTimestamp": created,
            },
            **({} if spec is None else {"spec": spec}),
            **fields,
        }
        if "status" not in manifest and spec is not None:
            manifest["status"] = {"observedGeneration": -1}
        self.objects[kind, name] = manifest
        self.events.append((copied(manifest), False))
        return manifest

    def change(self, kind: str, name: str, spec: Manifest) -> None:
        manifest = self.objects[kind, name]
        manifest["spec"] = {**manifest["spec"], **spec}
        manifest["metadata"]["generation"] += 1
        self._changed(manifest)

    def delete_own(self, manifest: Manifest) -> None:
        """By the operator, with the UID as its precondition."""
        self._live(manifest)
        self.delete(manifest["kind"], manifest["metadata"]["name"])

    def delete(self, kind: str, name: str) -> None:
        self._changed(self.objects.pop((kind, name)), deleted=True)

    def _changed(self, manifest: Manifest, *, deleted: bool = False) -> None:
        self._version += 1
        manifest["metadata"]["resourceVersion"] = str(self._version)
        self.events.append((copied(manifest), deleted))

    def list(self, kind: str, labels: str, fields: str) -> list[Manifest]:
        """The objects of a kind with these labels and fields."""
        wanted = dict(part.partition("=")[::2] for part in labels.split(",") if part)
        paths = dict(part.split("=") for part in fields.split(",") if part)
        return [
            each
            for (of, _), each in self.objects.items()
            if of == kind
            and all(_has_label(each, *label) for label in wanted.items())
            and all(_field(each, path) == value for path, value in paths.items())
        ]

    def see_pods(self, sidecars: Iterable[Sidecar]) -> None:
        """What became of the pods since the last time."""
        for sidecar in sidecars:
            manifest, key = _pod(sidecar), ("Pod", sidecar.pod)
            before = self.objects.get(key)
            if not sidecar.exists:
                if before is not None:
                    self.delete(*key)
            elif before is None or before["status"] != manifest["status"]:
                self.objects[key] = manifest
                self._changed(manifest)

    def status(self, kind: str, name: str) -> Manifest:
        status: Manifest = self.objects[kind, name]["status"]
        return status

    def apply(self, manifest: Manifest) -> Manifest:
        key = (manifest["kind"], manifest["metadata"]["name"])
        before = self.objects.get(key)
        if before is not None and (manifest["kind"] != "StatefulSet" or before["spec"] == manifest["spec"]):
            return before
        self._version += 1
        version = str(self._version)
        applied: Manifest = copied(manifest)
        applied["metadata"] |= {"uid": f"uid-{version}", "resourceVersion": version, "generation": 1}
        applied["metadata"]["managedFields"] = [{**self._ours(), "fieldsV1": {}}]
        if manifest["kind"] == "StatefulSet":
            current = version if before is None else before["status"]["currentRevision"]
            revisions = {"currentRevision": current, "updateRevision": version}
            applied["status"] = {"observedGeneration": 1, "replicas": manifest["spec"]["replicas"], **revisions}
            self._rolled_at[manifest["metadata"]["name"]] = self.clock.seconds + ROLL_SECONDS
        self.objects[key] = applied
        self.events.append((copied(applied), False))
        return applied

    def rolling(self) -> set[str]:
        """The StatefulSets of which not every pod has the newest template."""
        status = {name: found["status"] for (kind, name), found in self.objects.items() if kind == "StatefulSet"}
        return {name for name, said in status.items() if said.get("currentRevision") != said.get("updateRevision")}

    def roll(self) -> None:
        """Pods are replaced meanwhile, and get ready unless their image is one of those that never do."""
        for name in self.rolling():
            stateful_set = self.objects["StatefulSet", name]
            image = stateful_set["spec"]["template"]["spec"]["containers"][0]["image"]
            if self.clock.seconds >= self._rolled_at[name] and image not in self.never_ready:
                status = stateful_set["status"]
                status["currentRevision"] = status["updateRevision"]
                self._changed(stateful_set)

    def _live(self, manifest: Manifest) -> Manifest:
        live = self.objects.get((manifest["kind"], manifest["metadata"]["name"]))
        if live is None:
            raise NotFoundError("gone", 404)
        if live["metadata"]["uid"] != manifest["metadata"]["uid"]:
            raise ConflictError("another UID", 409)
        return live

    def _ours(self) -> Manifest:
        """That the operator applied something now, as an entry of the managed fields."""
        time = self.clock.now().isoformat().replace("+00:00", "Z")
        return {"manager": names.FIELD_MANAGER, "operation": "Apply", "time": time}

    def apply_status(self, manifest: Manifest, status: Manifest) -> Manifest:
        live = self._live(manifest)
        if live["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise OutdatedError("it has changed", 409)
        ended = "completionTime" in live.get("status", {})
        assert not ended or "completionTime" in status, "a run that had ended goes on"
        self.status_writes += 1
        live["status"] = copied(status)
        live["metadata"]["managedFields"] = [{**self._ours(), "subresource": "status"}]
        self._changed(live)
        written: Manifest = copied(live)
        return written


@dataclass
class Life:
    """One operator's process, the latest of its pod. ``left``: calls that it makes before it crashes, None: it does
    not."""

    leadership: Leadership
    pod: int = 0
    left: int | None = None
    replaced: bool = False


class World:
    """Indexes with the same pods, by default one, ``vi``, and an operator that is started again whenever it crashes."""

    def __init__(
        self,
        items: list[set[str]],
        down: dict[int, Callable[[float], bool]] | None = None,
        failing: dict[int, Failing] | None = None,
        indexes: tuple[str, ...] = (INDEX,),
        **spec: Any,
    ) -> None:
        self.image = "image"
        self.clock = Clock()
        self.server = Server(self.clock)
        self.lease = SimulatedLease()
        self.faults: dict[int, Fault] = {}
        self.calls: list[str] = []
        self._losing: list[str] = []
        self.crashes = 0
        self.replaced: list[str] = []
        """The calls at which an operator was paused until another one had replaced it."""
        self._finished: Callable[[Server], bool] = bool
        self.sidecars = {
            name: Sidecar(
                name,
                self.clock,
                held,
                (down or {}).get(ordinal, lambda _seconds: False),
                (failing or {}).get(ordinal),
            )
            for index in indexes
            for ordinal, held in enumerate(items)
            for name in [names.pod(index, ordinal)]
        }
        managed = {"replicas": len(items), "storage": {"size": "1Gi"}}
        for index in indexes:
            self.server.create("VectorIndex", index, {"dimensions": 8, "metric": "L2", "managed": managed, **spec})

    def run(self, finished: Callable[[Server], bool], faults: tuple[Fault, ...] = ()) -> None:
        """Let the operator work until ``finished``, with these faults."""
        self.faults = {fault.call: fault for fault in faults}
        self._finished = finished
        asyncio.run(self._run())

    def lose(self, title: str) -> None:
        """The answer of the next call of this title is lost."""
        self._losing.append(title)

    async def _run(self) -> None:
        while not await self._live(self.life()):
            self.crashes += 1
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            self.clock.seconds += 1.0

    def life(self, pod: int = 0, left: int | None = None) -> Life:
        """A new process of a pod, which wants to lead."""
        me = Candidate(f"pod{pod}_{self.lease.writes}", container=f"pod{pod}_")
        wall = lambda: int(1e6 * self.clock.seconds)  # noqa: E731
        return Life(Leadership(self.lease, me, TIMING, self.clock.monotonic, wall), pod, left)

    def _replace(self, life: Life, others: int | None) -> None:
        """While a process stands still, and so its event loop, the one of another pod waits for the Lease and works."""
        other = self.life(life.pod + 1, others)
        replacing = threading.Thread(target=lambda: asyncio.run(self._live(other)))
        replacing.start()
        replacing.join()
        life.replaced = True

    async def _live(self, life: Life) -> bool:
        """One life of an operator; False when it ended before all was finished."""
        finished, leadership = self._finished, life.leadership
        await leadership.attempt()
        while not leadership.leads:
            await self._pass_time(self.clock.seconds + TIMING.retry, leadership)
        ports = Ports(SimulatedCluster(self, life), SimulatedSidecars(self, life), self.clock.now, lambda: ())
        queue = KeyedQueue(self.clock.monotonic, random.Random(0))
        watchlist, seen = Watchlist(), Seen()
        reconciler = Reconciler(ports, watchlist, seen, self.image, queue.enter)
        intake = Intake(watchlist, seen, queue.enter, self.clock.now)
        self.server.see_pods(self.sidecars.values())
        self.server.events.clear()  # what happened before is in the list
        try:
            await Resync(ports.cluster, intake, seen, [None], self.clock.monotonic).once()
            while not finished(self.server):
                self.server.roll()
                self._deliver(intake)
                key = queue.take()
                if key is None:
                    due = queue.next_due()
                    assert due is not None, "nothing is scheduled any more"
                    # By short steps, so that what becomes of a pod is seen when it happens.
                    await self._pass_time(min(due, self.clock.seconds + LONGEST_STEP), leadership)
                    assert self.clock.now() < START + LIMIT, f"not finished: {self.server.objects}"
                else:
                    queue.finish(key, await self._reconcile(reconciler, key))
        except (Crash, LeadershipLostError):
            return False
        except UnavailableError:
            return False  # a resync that failed is done again, as after a crash
        return True

    async def _pass_time(self, until: float, leadership: Leadership) -> None:
        while self.clock.seconds < until:
            self.clock.seconds = min(until, self.clock.seconds + TIMING.retry)
            await leadership.attempt()

    async def _reconcile(self, reconciler: Reconciler, key: Key) -> Outcome:
        try:
            return Done(await reconciler.reconcile(key))
        except Exception as error:
            if not is_temporary(error):
                raise
            return Failed(error)

    def _deliver(self, intake: Intake) -> None:
        self.server.see_pods(self.sidecars.values())
        events, self.server.events = self.server.events, []
        for manifest, deleted in events:
            if manifest["kind"] in OURS:
                intake.own(manifest, deleted=deleted)
            else:
                intake.child(manifest, deleted=deleted)

    def call(self, life: Life, title: str, act: Callable[[], Result], lost: Exception) -> Result:
        """One call of a port: counted, and hit by the fault that is meant for it."""
        assert not life.replaced, f"{title} by an operator that was replaced"
        if life.left is not None:
            life.left -= 1
            if life.left < 0:
                raise Crash
        fault = self.faults.get(len(self.calls))
        mode = None if fault is None else fault.mode
        if title in self._losing:
            self._losing.remove(title)
            mode = Mode.LOST
        self.calls.append(title)
        if fault is not None and mode is Mode.PAUSE:
            self.replaced.append(title)
            self._replace(life, fault.others)
        try:
            result: Result = copied(act())
            return result
        finally:
            if mode is Mode.CRASH:
                raise Crash
            if mode is Mode.LOST:
                raise lost


def copied(value: Any) -> Any:
    """What nobody else can change: JSON is copied, models are immutable. The tests' time is spent here."""
    if type(value) is dict:
        return {key: copied(inner) if type(inner) in (dict, list) else inner for key, inner in value.items()}
    if type(value) is list:
        return [copied(inner) for inner in value]
    return value


class SimulatedCluster:
    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        return self._call(f"GET {kind} {name}", lambda: self._world.server.objects.get((kind, name)))

    async def objects(
        self, kind: str, namespace: str | None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[Manifest]:
        self._world.server.see_pods(self._world.sidecars.values())
        for manifest in self._call(f"LIST {kind}", lambda: self._world.server.list(kind, labels, fields)):
            yield manifest

    async def pods(self, namespace: str, labels: str) -> list[Manifest]:
        return [pod async for pod in self.objects("Pod", namespace, labels)]

    async def apply(self, manifest: Manifest) -> Manifest:
        return self._call(f"APPLY {manifest['kind']}", lambda: self._world.server.apply(manifest))

    async def apply_status(self, manifest: Manifest, status: Manifest) -> Manifest:
        title = f"STATUS {manifest['kind']} {manifest['metadata']['name']}"
        return self._call(title, lambda: self._world.server.apply_status(manifest, status))

    async def delete(self, manifest: Manifest) -> None:
        self._call(f"DELETE {manifest['kind']}", lambda: self._world.server.delete_own(manifest))

    async def record(self, manifest: Manifest, reason: str, note: str, *, warning: bool, transition: str) -> None:
        identity = (manifest["metadata"]["uid"], reason, transition)
        self._call(f"EVENT {reason}", lambda: self._world.server.recorded.update([identity]))

    def _call(self, title: str, act: Callable[[], Result]) -> Result:
        self._life.leadership.check()
        return self._world.call(self._life, title, act, UnavailableError("no answer"))


class SimulatedSidecars:
    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    async def state(self, endpoint: Endpoint) -> IndexState:
        uid = self._world.server.objects["VectorIndex", endpoint.index]["metadata"]["uid"]
        return self._call(f"state {endpoint.host}", endpoint, lambda sidecar: sidecar.state(uid))

    async def configure(self, endpoint: Endpoint, configuration: Configuration) -> None:
        self._call(f"configure {endpoint.host}", endpoint, lambda sidecar: sidecar.configure(configuration))

    async def start(self, endpoint: Endpoint, operation: str, body: OperationBody) -> OperationStatus:
        return self._call(f"start {endpoint.host}", endpoint, lambda sidecar: sidecar.start(operation, body))

    async def operation(self, endpoint: Endpoint, operation: str) -> OperationStatus:
        return self._call(f"operation {endpoint.host}", endpoint, lambda sidecar: sidecar.look(operation))

    async def preview_delete(self, endpoint: Endpoint, request: DeleteRequest) -> DeletePreview:
        return self._call(f"preview {endpoint.host}", endpoint, lambda sidecar: sidecar.preview(request))

    async def cancel(self, endpoint: Endpoint, operation: str) -> OperationStatus:
        return self._call(f"cancel {endpoint.host}", endpoint, lambda sidecar: sidecar.cancel(operation))

    def _call(self, title: str, endpoint: Endpoint, act: Callable[[Sidecar], Result]) -> Result:
        sidecar = self._world.sidecars[endpoint.host]
        epoch = int(self._life.leadership.headers(endpoint)[HEADER])

        def guarded() -> Result:
            if not sidecar.up:
                raise dataplane.UnreachableError("connection refused")
            sidecar.admit(epoch)
            if sidecar.keyless:
                raise dataplane.UnauthorizedError("the token is not accepted")
            return act(sidecar)

        return self._world.call(self._life, title, guarded, dataplane.UnreachableError("no answer"))


def _has_label(manifest: Manifest, name: str, value: str) -> bool:
    """``value``: empty for any."""
    labels = manifest["metadata"].get("labels", {})
    return name in labels and value in ("", labels[name])


def _field(manifest: Manifest, path: str) -> str:
    """As a field selector sees it: what is not there is empty."""
    value: Any = manifest
    for part in path.split("."):
        value = value.get(part, {})
    return value or ""


def _pod(sidecar: Sidecar) -> Manifest:
    """The Pod; its address is its name."""
    ready = "True" if sidecar.up and sidecar.configuration.serve else "False"
    status: Manifest = {"phase": "Pending"}
    if sidecar.scheduled:
        status = {"phase": "Running", "podIP": sidecar.pod, "conditions": [{"type": "Ready", "status": ready}]}
    metadata = {
        "name": sidecar.pod,
        "namespace": NAMESPACE,
        "uid": sidecar.pod,
        "labels": {**names.labels(sidecar.index), "app": "shop"},
    }
    return {"kind": "Pod", "metadata": metadata, "status": status}
