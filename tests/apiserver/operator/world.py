"""A namespace in which the operator runs as a process, and its pods as sidecar processes on loopback addresses."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from devcluster.api import Api, ApiError
from devcluster.fake_node import FakeNode
from tests.apiserver.operator.processes import Operator, http_status
from vectorindex.api import KINDS
from vectorindex.api.common import API_VERSION
from vectorindex.api.names import CONTAINER
from vectorindex.dataplane.items import Replicas, SidecarIndex
from vectorindex.dataplane.operations import Sidecars
from vectorindex.dataplane.tokens import Signer
from vectorindex.dataplane.transport import Transport
from vectorindex.domain.keyring import CURRENT, SECRET, read_key
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.operations import OperationStatus
from vectorindex.wire.state import IndexState

BUILDER = "vectorindex.sidecar.builder"
DEADLINE = 60.0
DIMENSIONS = 16

Object = dict[str, Any]
Result = TypeVar("Result")


class Sidecar:
    """One pod's process; it keeps its address and its volume over restarts."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._folder, self._pod = folder, endpoint.pod
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, identity: str) -> None:
        """Start it, and return when it has loaded what is on its volume."""
        self.mount(identity)
        self.restart()

    def mount(self, identity: str) -> None:
        """The identity file holds this from now on, all at once, as when the kubelet brings a ConfigMap up to date."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / "identity.new"
        draft.write_text(identity)
        draft.rename(self._folder / "identity.json")

    def restart(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vectorindex.sidecar", "--data-dir", self._folder / "data"),
                    *("--host", self.endpoint.host, "--port", str(self.endpoint.port)),
                    *("--identity", self._folder / "identity.json"),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "POD_NAME": self._pod},
            )
        eventually(self._has_loaded, f"{self._pod} has loaded", lambda: (self._folder / "log").read_text()[-2000:])

    def kill(self) -> None:
        """SIGKILL, as if the node lost power over it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pids(self) -> list[int]:
        """Its processes, the front first."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [self._process.pid, *map(int, children.split())]

    def freeze_builder(self) -> int:
        """Wait until it builds, and stop the builder there: so the build is in its middle for as long as is wanted.
        Returns the builder's PID, for :func:`thaw`."""
        held: int | None = None

        def builds() -> bool:
            nonlocal held
            held = self.stop_builder()
            return held is not None

        eventually(builds, f"{self._pod} builds")
        assert held is not None
        return held

    def stop_builder(self) -> int | None:
        """Stop the builder where it is, if one is at work; returns its PID."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        for pid in map(int, children.split()):
            if BUILDER in command_line(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    return pid
        return None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def remove_volume(self) -> None:
        """Of one that does not run: the next start finds an empty one."""
        shutil.rmtree(self._folder / "data")

    @property
    def readiness(self) -> int | None:
        """What a probe is answered, None if nobody answers."""
        return http_status(f"{self.endpoint.url}/readyz")

    def _has_loaded(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._pod} ended with {self._process.returncode}"
        return http_status(f"{self.endpoint.url}/indexes/{self.endpoint.index}/count") == 200


_worlds = itertools.count()
"""Each gets loopback addresses of its own: several are there at a time."""


class World:
    """A context manager: everything that it started is ended at its end."""

    def __init__(self, api: Api, kubeconfig: Path, operator: Operator, folder: Path) -> None:
        self.api, self.namespace = api, operator.namespace
        self.operator = operator
        self._folder = folder
        self._sidecars: dict[str, Sidecar] = {}
        self._hosts: dict[str, str] = {}
        self.broken_images: set[str] = set()
        """Images whose containers do not start."""
        self._lock = threading.Lock()
        self._network = f"127.{os.getpid() % 200 + 20}.{next(_worlds) % 250}"
        self.node = FakeNode(kubeconfig, self._bring_up, self._tear_down, namespace=self.namespace)
        self._ready: dict[str, bool] = {}
        self._ending = threading.Event()
        self._probes = threading.Thread(target=self._probe, daemon=True)

    def __enter__(self) -> World:
        self.node.start()
        self._probes.start()
        self.operator.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.node.stop)
            self._ending.set()
            self._probes.join()
            if self.operator.running:
                code = self.operator.stop()
                assert error is not None or code == 0, self.operator.log
        if error is None:
            self.node.check()
            assert "Traceback" not in self.operator.log, self.operator.log

    # Kubernetes

    def path(self, plural: str, name: str = "") -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def create(self, kind: str, name: str, spec: Object) -> Object:
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        return self.api.create(self.path(PLURALS[kind]), body)

    def get(self, kind: str, name: str) -> Object:
        return self.api.get(self.path(PLURALS[kind], name))

    def exists(self, path: str) -> bool:
        """Is there an object at this path?"""
        try:
            self.api.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    def delete(self, kind: str, name: str) -> None:
        self.api.delete(self.path(PLURALS[kind], name))

    def patch(self, kind: str, name: str, spec: Object) -> None:
        self.api.patch(self.path(PLURALS[kind], name), {"spec": spec})

    def config_map(self, name: str, data: dict[str, str]) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
        self.api.apply(f"/api/v1/namespaces/{self.namespace}/configmaps/{name}", body)

    def events(self) -> list[Object]:
        items: list[Object] = self.api.get(f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")["items"]
        return [event for event in items if event.get("reportingController") == "vectorindex.io/operator"]

    def wait(
        self, kind: str, name: str, holds: Callable[[Object], bool], what: str, seconds: float = DEADLINE
    ) -> Object:
        """The object's status, as soon as it is as wanted; within ``seconds``."""
        status: Object = {}

        def look() -> bool:
            nonlocal status
            status = self.get(kind, name)["status"]
            return holds(status)

        eventually(look, f"{kind} {name}: {what}", lambda: f"{status}\n{self.operator.log[-3000:]}", seconds)
        return status

    def finished(self, kind: str, name: str) -> Object:
        return self.wait(kind, name, lambda status: "completionTime" in status, "the run has ended")

    def reason(
        self, kind: str, name: str, reason: str, condition: str = "Succeeded", seconds: float = DEADLINE
    ) -> Object:
        """Wait until a condition has a reason; returns the condition."""
        status = self.wait(
            kind,
            name,
            lambda now: conditions(now).get(condition, {}).get("reason") == reason,
            f"{condition}: {reason}",
            seconds,
        )
        return conditions(status)[condition]

    # Pods

    def index(self, name: str, replicas: int = 3, **spec: Any) -> None:
        """Create an index, and wait until it is Ready."""
        managed = {"replicas": replicas, "storage": {"size": "1Gi"}}
        self.create("VectorIndex", name, {"dimensions": DIMENSIONS, "metric": "L2", "managed": managed, **spec})
        self.reason("VectorIndex", name, "AllPodsReady", "Ready")

    def sidecar(self, pod: str) -> Sidecar:
        return self._sidecars[pod]

    def take_down(self, pod: str) -> None:
        """The pod's process is killed, and the kubelet notices."""
        self._sidecars[pod].kill()
        self._set_ready(pod, False)

    def bring_back(self, pod: str) -> None:
        """The kubelet starts the container again."""
        self._sidecars[pod].restart()
        self._set_ready(pod, self._sidecars[pod].readiness == 200, restarts=1)

    def identity(self, index: str) -> str:
        """The identity file of an index, as its ConfigMap has it."""
        config_map = self.api.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{index}-identity")
        content: str = config_map["data"]["identity.json"]
        return content

    def remount(self, index: str) -> None:
        """The kubelet brings the identity files of the index's pods up to date."""
        for sidecar in self._of(index):
            sidecar.mount(self.identity(index))

    def load(self, index: str, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Write the items to every pod."""

        async def write(transport: Transport) -> None:
            await Replicas(self._replicas(transport, index)).load(ids, vectors)

        self._call(write)

    def load_into(self, pod: str, index: str, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Write the items to one pod only."""
        url = self._sidecars[pod].endpoint.url
        self._call(lambda transport: SidecarIndex(transport, url, index).load(ids, vectors))

    def search(self, index: str, query: NDArray[np.float32], k: int = 10) -> list[list[str]]:
        """What each pod finds for one query."""

        async def ask(transport: Transport) -> list[list[str]]:
            return [(await each.search(query[None, :], k))[0] for each in self._replicas(transport, index)]

        return self._call(ask)

    def states(self, index: str) -> list[IndexState]:
        async def ask(transport: Transport) -> list[IndexState]:
            sidecars = Sidecars(transport, self.headers)
            return [await sidecars.state(each.endpoint) for each in self._of(index)]

        return self._call(ask)

    def operations(self, pod: str) -> dict[str, OperationStatus]:
        async def ask(transport: Transport) -> dict[str, OperationStatus]:
            listed = await Sidecars(transport, self.headers).operations(self._sidecars[pod].endpoint)
            return {operation.id: operation for operation in listed.operations}

        return self._call(ask)

    @property
    def secret(self) -> str:
        """The path of the operator's Secret."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/{SECRET}"

    def headers(self, endpoint: Endpoint) -> Mapping[str, str]:
        """What a call of this sidecar carries in the operator's name."""
        key = read_key(self.api.get(self.secret), CURRENT)
        assert not isinstance(key, str), key
        signer = Signer(time.time)
        signer.use(key)
        return signer.headers(endpoint)

    def _of(self, index: str) -> list[Sidecar]:
        return [self._sidecars[pod] for pod in sorted(self._sidecars) if self._sidecars[pod].endpoint.index == index]

    def _replicas(self, transport: Transport, index: str) -> list[SidecarIndex]:
        return [SidecarIndex(transport, each.endpoint.url, index) for each in self._of(index)]

    def _call(self, work: Callable[[Transport], Awaitable[Result]]) -> Result:
        async def run() -> Result:
            async with Transport() as transport:
                return await work(transport)

        return asyncio.run(run())

    def _bring_up(self, pod: Object) -> str | None:
        """As a kubelet does: wait for the ConfigMap, start what the containers are. A pod without a sidecar gets an
        address, on which nobody listens."""
        name = pod["metadata"]["name"]
        if pod["spec"]["containers"][0]["image"] in self.broken_images:
            return None
        container = next((each for each in pod["spec"]["containers"] if each["name"] == CONTAINER), None)
        with self._lock:
            host = self._hosts.setdefault(name, f"{self._network}.{len(self._hosts) + 1}")
        if container is not None:
            mounted = next(volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume)
            path = f"/api/v1/namespaces/{self.namespace}/configmaps/{mounted}"
            eventually(lambda: self.exists(path) or self._is_leaving(pod), f"there is a ConfigMap {mounted}")
            if self._is_leaving(pod):
                return None  # its index is being deleted, and the ConfigMap with it
            identity = self.api.get(path)["data"]["identity.json"]
            port = container["ports"][0]["containerPort"]
            endpoint = Endpoint(self.namespace, json.loads(identity)["index"], name, host, port)
            with self._lock:
                sidecar = self._sidecars.setdefault(name, Sidecar(self._folder / name, endpoint))
            sidecar.start(identity)
        with self._lock:
            self._ready[name] = False
        return host

    def _is_leaving(self, pod: Object) -> bool:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
        if not self.exists(path):
            return True
        metadata = self.api.get(path)["metadata"]
        return metadata["uid"] != pod["metadata"]["uid"] or "deletionTimestamp" in metadata

    def _tear_down(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        with self._lock:
            self._ready.pop(name, None)
        if (sidecar := self._sidecars.get(name)) is not None:
            sidecar.stop()

    def _probe(self) -> None:
        """The kubelet's readiness probes. A pod without a sidecar has none, and is ready. One that does not answer
        stays as it is, until a test says otherwise."""
        while not self._ending.wait(0.1):
            with self._lock:
                known = dict(self._ready)
            for pod, ready in known.items():
                sidecar = self._sidecars.get(pod)
                answered = 200 if sidecar is None else sidecar.readiness
                if answered is not None and (answered == 200) is not ready:
                    with contextlib.suppress(TimeoutError):  # not Running yet, or gone: others are to be probed, too
                        self._set_ready(pod, answered == 200, timeout=0.0)

    def _set_ready(self, pod: str, ready: bool, restarts: int | None = None, timeout: float = 30.0) -> None:
        self.node.set_ready(self.namespace, pod, ready, restarts=restarts, timeout=timeout)
        with self._lock:
            if pod in self._ready:
                self._ready[pod] = ready


PLURALS = {model.definition.kind: model.definition.plural for model in KINDS}


def conditions(status: Object) -> dict[str, Object]:
    """The conditions by type."""
    return {condition["type"]: condition for condition in status.get("conditions", [])}


def thaw(pid: int) -> None:
    """Let a frozen process go on, if it was not killed meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def command_line(pid: int) -> str:
    """Of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def random_items(count: int, seed: int = 0) -> tuple[list[str], NDArray[np.float32]]:
    """IDs ``item-0`` … and their vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    return [f"item-{number}" for number in range(count)], vectors


def eventually(
    holds: Callable[[], bool], what: str, context: Callable[[], str] = str, seconds: float = DEADLINE
) -> None:
    """Wait until it holds, or fail and say what was there instead."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}\n{context()}"
        time.sleep(0.05)


@contextlib.contextmanager
def new_namespace(api: Api, name: str) -> Iterator[str]:
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        with contextlib.suppress(ApiError):
            api.delete(f"/api/v1/namespaces/{name}")
