"""A namespace with many indexes on a real API server, for measuring the operator: their objects, pods and past runs.

There is no controller manager and no kubelet: pods are made here from the StatefulSets that the operator applied, and a
stand-in answers for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from bench.sidecar import SidecarError
from devcluster import configs
from devcluster.control_plane import ControlPlane, free_ports
from devcluster.processes import Component
from vectorindex.api import KINDS
from vectorindex.api.common import API_VERSION
from vectorindex.api.crd import build_crd
from vectorindex.api.names import INDEX_LABEL, PORT

Object = dict[str, Any]

NAMESPACE = "bench"
USER = "bench-operator"
IMAGE = "vectorindex:bench"
REPLICAS = 3
DIMENSIONS, METRIC = 384, "Cosine"
HOSTS = [f"127.77.0.{1 + ordinal}" for ordinal in range(REPLICAS)]
AT_ONCE = 32
"""Requests of this client at the same time."""
PATIENCE = 1_800.0
SEEDING = ("--api-rate=2000", "--api-burst=2000")
"""Options of the operator while the objects are made, which is not what is measured."""
LEASE = ("--lease-duration=600", "--renew-deadline=500")
"""Nobody waits for the Lease, and on a busy machine no measurement is to end with it."""
PLURALS = {model.definition.kind: model.definition.plural for model in KINDS}


def run_path(kind: str, name: str = "", subresource: str = "") -> str:
    parts = [f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/{PLURALS[kind]}", name, subresource]
    return "/".join(part for part in parts if part)


class Crowd:
    """A context manager: a control plane, a stand-in for sidecars, and an operator that is started and stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._audit = folder / "audit.log"
        policy = folder / "audit.yaml"
        policy.write_text(yaml.safe_dump(configs.audit_policy()))
        flags = [f"--audit-policy-file={policy}", f"--audit-log-path={self._audit}"]
        self._plane = ControlPlane(apiserver_flags=flags, controller_manager=False)
        self._operator: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Crowd:
        await asyncio.to_thread(self._plane.start)
        self._stack.callback(self._plane.stop)
        authority = self._plane.files.authority
        trusting = ssl.create_default_context(cafile=str(authority.pair.certificate))
        admin = authority.issue("admin", "devcluster-admin", ["system:masters"])
        trusting.load_cert_chain(admin.certificate, admin.key)
        connector = aiohttp.TCPConnector(ssl=trusting, limit=AT_ONCE)
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        self._pods = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._kubeconfig = self._plane.kubeconfig_for(USER, ["system:masters"])
        await self._prepare()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        await self._stack.aclose()

    async def request(self, method: str, path: str, body: Object | None = None, **query: str) -> Object:
        """Raises SidecarError where the API server refuses."""
        types = {"PATCH": "application/merge-patch+json"}
        headers = {"Content-Type": types.get(method, "application/json")}
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method, f"{self._plane.server}{path}", data=data, params=query, headers=headers
        ) as response:
            answer: Object = await response.json()
        if response.status >= 400:
            raise SidecarError(f"{method} {path}: {response.status} {answer.get('message')}")
        return answer

    async def each(self, work: Callable[[Any], Awaitable[Any]], of: Iterable[Any]) -> None:
        """Do it for each, many at a time."""
        free = asyncio.Semaphore(AT_ONCE)

        async def one(item: Any) -> None:
            async with free:
                await work(item)

        async with asyncio.TaskGroup() as group:
            for item in of:
                group.create_task(one(item))

    async def create(self, kind: str, name: str, spec: Object) -> Object:
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        return await self.request("POST", run_path(kind), body)

    async def objects(self, path: str) -> list[Object]:
        self.check()
        items: list[Object] = (await self.request("GET", path))["items"]
        return items

    # The operator

    def start(self, options: Sequence[str] = ()) -> None:
        """Start the operator's process."""
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "vectorindex.cli.operator", "--namespace", NAMESPACE, "--default-image", IMAGE]
        with (self._folder / "operator.log").open("ab") as log:
            self._operator = subprocess.Popen(
                [
                    *(*command, "--health-host", "127.0.0.1", "--health-port", str(port)),
                    *("--operator-namespace", NAMESPACE, *LEASE, *options),
                ],
                stdout=log,
                stderr=log,
                env={"KUBECONFIG": str(self._kubeconfig), "PATH": "/usr/bin:/bin"},
            )

    def stop(self) -> None:
        """End it, if it runs."""
        if self._operator is not None:
            self._operator.terminate()
            self._operator.wait(60)
            self._operator = None

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes of the operator's resident memory; ``VmHWM``: its peak."""
        assert self._operator is not None
        for line in Path(f"/proc/{self._operator.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return 1024 * int(value.split()[0])
        raise AssertionError(field)

    def processor_seconds(self) -> float:
        """That the operator has used so far."""
        assert self._operator is not None
        fields = Path(f"/proc/{self._operator.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def requests(self, skip: int = 0) -> tuple[list[tuple[str, str]], int]:
        """Verb and path of what the operator has asked the API server, and where the log ends: for ``skip``."""
        with self._audit.open("rb") as log:
            log.seek(skip)
            lines = log.readlines()
            end = log.tell()
        events = [json.loads(line) for line in lines if USER.encode() in line]
        return [
            (event["verb"], event["requestURI"])
            for event in events
            if event["user"]["username"] == USER and event["stage"] == "ResponseComplete"
        ], end

    # The pods

    def check(self) -> None:
        """Raises SidecarError if the operator has ended."""
        if self._operator is not None and self._operator.poll() is not None:
            lines = (self._folder / "operator.log").read_text().splitlines()[-20:]
            raise SidecarError("\n".join(["the operator ended; its last lines:", *lines]))

    async def asked(self) -> Object:
        """How many calls the pods have got."""
        async with self._pods.get(f"http://{HOSTS[0]}:{PORT}/asked") as response:
            answer: Object = await response.json()
            return answer

    async def forget_asked(self) -> None:
        await self._pods.delete(f"http://{HOSTS[0]}:{PORT}/asked")

    # What is there at the beginning

    async def _prepare(self) -> None:
        base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for model in KINDS:
            await self.request("POST", base, build_crd(model))
        await self.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        await self.request("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}})
        for kind in PLURALS:
            await until(lambda kind=kind: self._is_served(kind), f"{kind} is served")  # type: ignore[misc]

    async def _is_served(self, kind: str) -> bool:
        with contextlib.suppress(SidecarError, aiohttp.ContentTypeError):
            await self.objects(run_path(kind))
            return True
        return False

    async def indexes(self, names: Sequence[str]) -> None:
        """Create these indexes, and let the operator make all of them ready."""
        uids = {}

        async def create(name: str) -> None:
            managed = {"replicas": REPLICAS, "storage": {"size": "1Gi"}}
            made = await self.create(
                "VectorIndex", name, {"dimensions": DIMENSIONS, "metric": METRIC, "managed": managed}
            )
            uids[name] = made["metadata"]["uid"]
            # The operator's Service asks for an address, of which an API server gives out few in a second.
            owner = {"apiVersion": API_VERSION, "kind": "VectorIndex", "name": name, "uid": uids[name]}
            spec = {"clusterIP": "None", "selector": {INDEX_LABEL: name}}
            service = {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": spec}
            await self.request("POST", f"/api/v1/namespaces/{NAMESPACE}/services", service)

        await self.each(create, names)
        told = {"namespace": NAMESPACE, "dimensions": DIMENSIONS, "metric": METRIC, "uids": uids, "hosts": HOSTS}
        (self._folder / "standin.json").write_text(json.dumps(told))
        standin = Component(
            "stand-in",
            [sys.executable, "-m", "bench.standin", self._folder / "standin.json"],
            self._folder / "pods.log",
        )
        standin.start()
        self._stack.callback(standin.stop)
        self.start(SEEDING)
        sets = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"
        await until(lambda: self._count(sets, len(names)), "each index has its StatefulSet")
        self.stop()  # or it would look at an index whenever one of its pods gets a step further
        await self.each(self._run_pods, await self.objects(sets))
        self.start(SEEDING)
        await until(lambda: self._all_ready(len(names)), "all indexes are ready")

    async def _count(self, path: str, wanted: int) -> bool:
        return len(await self.objects(path)) >= wanted

    async def _all_ready(self, wanted: int) -> bool:
        return sum(succeeded(each, "Ready") for each in await self.objects(run_path("VectorIndex"))) == wanted

    async def _run_pods(self, stateful_set: Object) -> None:
        """As its controller and the kubelets would."""
        metadata, spec = stateful_set["metadata"], stateful_set["spec"]
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": metadata["name"], "uid": metadata["uid"]}
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        for ordinal, host in enumerate(HOSTS):
            name = f"{metadata['labels'][INDEX_LABEL]}-{ordinal}"
            template = spec["template"]
            volumes = [{"name": "data", "emptyDir": {}}, *template["spec"].get("volumes", [])]
            body = {
                "metadata": {**template["metadata"], "name": name, "ownerReferences": [owner]},
                "spec": {**template["spec"], "volumes": volumes},
            }
            await self.request("POST", pods, body)
            containers = [
                {"name": each["name"], "image": IMAGE, "imageID": IMAGE, "ready": True, "restartCount": 0}
                | {"state": {"running": {}}}
                for each in template["spec"]["containers"]
            ]
            status = {
                "phase": "Running",
                "podIP": host,
                "podIPs": [{"ip": host}],
                "conditions": [
                    {"type": kind, "status": "True"} for kind in ("PodScheduled", "ContainersReady", "Ready")
                ],
                "containerStatuses": containers,
            }
            await self.request("PATCH", f"{pods}/{name}/status", {"status": status})
        seen = {"observedGeneration": metadata["generation"], "currentRevision": "1", "updateRevision": "1"}
        counts = dict.fromkeys(("replicas", "readyReplicas", "currentReplicas", "updatedReplicas"), REPLICAS)
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{metadata['name']}/status"
        await self.request("PATCH", path, {"status": {**seen, **counts}})


def succeeded(manifest: Object, kind: str = "Succeeded") -> bool:
    """The object's condition of this kind is True."""
    conditions = manifest.get("status", {}).get("conditions", [])
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


async def until(holds: Callable[[], Awaitable[bool]], what: str, pause: float = 0.5) -> float:
    """Wait until it holds; returns the seconds that it took. Raises SidecarError."""
    started = time.monotonic()
    while not await holds():
        if time.monotonic() - started > PATIENCE:
            raise SidecarError(f"not within {PATIENCE:.0f} s: {what}")
        await asyncio.sleep(pause)
    return time.monotonic() - started


@contextlib.asynccontextmanager
async def crowd(folder: Path) -> AsyncIterator[Crowd]:
    async with Crowd(folder) as there:
        yield there
