"""A world whose operator reaches everything through proxies, and how its end is compared with that of a run without
faults."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from devcluster.api import Api
from tests.apiserver.faults.proxy import Gate, Network, When, through
from tests.apiserver.operator.processes import Operator
from tests.apiserver.operator.world import Object, Sidecar, World, conditions, eventually
from vectorindex.api import names
from vectorindex.api.names import PORT

API_SERVER = "API server"


class Stage(World):
    """A world with a proxy in front of the API server and of each sidecar, of which the operator alone knows."""

    def __init__(self, api: Api, kubeconfig: Path, operator: Operator, folder: Path) -> None:
        self.gate = Gate()
        self.network = Network(self.gate)
        self._direct, self._port = operator.kubeconfig, _free_port()
        operator.kubeconfig = folder / "through-the-proxy.kubeconfig"
        super().__init__(api, kubeconfig, operator, folder)

    def __enter__(self) -> Stage:
        self.network.__enter__()
        server, authority = through(self._direct, self._port, self.operator.kubeconfig)
        self.network.connect(API_SERVER, "127.0.0.1", self._port, server, authority)
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            self.network.__exit__()

    def _bring_up(self, pod: Object) -> str | None:
        host = super()._bring_up(pod)
        if host is None:
            return None
        network, _, number = host.rpartition(".")
        front = f"{network}.{int(number) + 100}"
        self.network.connect(pod["metadata"]["name"], front, PORT, f"http://{host}:{PORT}")
        return front

    def play(
        self,
        act: Callable[[], object],
        over: Callable[[], bool],
        counted: str,
        killed: tuple[int, When] | None = None,
    ) -> list[str]:
        """Do something and wait until it is over. ``killed``: at which of the operator's calls that are ``counted`` it
        is ended by SIGKILL, and started again. Returns these calls."""
        self.gate.count(counted)
        if killed is not None:
            self.gate.arm(*killed, lambda: self.operator.send(signal.SIGKILL))
        act()
        eventually(
            lambda: self.gate.hit or over(), "it is over, or the operator ended", lambda: self.operator.log[-3000:]
        )
        if self.gate.hit:
            self.operator.kill()
            self.operator.start()
        eventually(over, "it is over", lambda: self.operator.log[-3000:])
        return self.gate.calls

    def pause(self, pod: str) -> list[int]:
        """Stop all processes of a sidecar; returns them for :func:`resume`."""
        pids = self.sidecar(pod).pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return pids

    def pods(self, index: str) -> list[Object]:
        """The Pods of an index."""
        query = {"labelSelector": names.selector_text(index)}
        found: list[Object] = self.api.get(f"/api/v1/namespaces/{self.namespace}/pods", query=query)["items"]
        return found

    def _of(self, index: str) -> list[Sidecar]:
        return [each for each in super()._of(index) if each.running]

    def volumes(self, index: str) -> list[Object]:
        """What is on the pods of an index, as far as it is the same in every run."""
        return [
            {
                "live": state.counts.live,
                "deleted": state.counts.deleted,
                "parameters": state.parameters,
                "read only": state.read_only,
                "running": [each.id for each in state.operations if not each.state.finished],
            }
            for state in self.states(index)
        ]

    def is_settled(self, index: str) -> bool:
        """Is it Ready, with nothing under way?"""
        stated = conditions(self.get("VectorIndex", index)["status"])
        wanted = {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
        return {kind: stated[kind]["status"] for kind in wanted if kind in stated} == wanted

    def ended(self, kind: str, name: str) -> Object:
        """How a run ended: what it reports, what its operations are on each pod, and what was told about it. Times,
        sizes, recall and names of volumes are left out, since they differ from one run to the next."""
        manifest = self.get(kind, name)
        status, uid = manifest["status"], manifest["metadata"]["uid"]
        told = Counter(event["reason"] for event in self.events() if event["regarding"]["uid"] == uid)
        stated = conditions(status)
        return {
            "conditions": {each: (stated[each]["status"], stated[each]["reason"]) for each in stated},
            "figures": {field: status.get(field) for field in COUNTS},
            "pods": [{field: pod.get(field) for field in POD_COUNTS} for pod in status.get("pods", ())],
            "operations": self.operations_of(manifest["spec"]["indexRef"]["name"], uid),
            "told at the end": told[stated["Succeeded"]["reason"]],
        }

    def operations_of(self, index: str, uid: str) -> dict[str, dict[str, str]]:
        """By pod, the operations that an object has there, without its UID."""
        pods = [each.endpoint.pod for each in self._of(index)]
        return {
            pod: {
                name.removeprefix(uid): each.state.value
                for name, each in self.operations(pod).items()
                if name.startswith(uid)
            }
            for pod in pods
        }


COUNTS = ("deletedCount", "notFoundCount", "notFound", "vectorsBefore", "vectorsAfter", "parameters", "progressPercent")
POD_COUNTS = ("name", "state", "attempt", "deletedCount", "notFoundCount", "vectorsBefore", "vectorsAfter")


def resume(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
