"""What the end-to-end tests do with a cluster: apply, look, wait on conditions, and reach into pods."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster

ROOT = Path(__file__).parents[2]
SYSTEM = "vectorindex-system"
INDEX = "nouns"
WAIT_SECONDS = 120
CHART = ROOT / "charts" / "vectorindex-operator"
LARGE_GRAPH = {"m": 64, "efConstruction": 1_000}
"""Parameters whose build takes seconds even with the few items of a test."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Namespace:
    """A namespace of the cluster, under restricted Pod Security."""

    cluster: Cluster
    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("--namespace", self.name, *arguments, input=stdin)

    def apply(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        manifest = {
            "apiVersion": "vectorindex.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))

    def get(self, *arguments: str) -> Object:
        return dict(json.loads(self.kubectl("get", *arguments, "--output", "json")))

    def status(self, kind: str, name: str) -> Object:
        return dict(self.get(kind, name)["status"])

    def create_index(self, replicas: int = 3) -> None:
        """An index of the demo's nouns, Ready when this returns."""
        managed = {
            "replicas": replicas,
            "storage": {"size": "1Gi"},
            "resources": {"limits": {"memory": "1Gi"}},
        }
        self.apply("VectorIndex", INDEX, {"dimensions": 384, "metric": "Cosine", "managed": managed})
        self.kubectl("wait", "--for=condition=Ready", f"vi/{INDEX}", f"--timeout={WAIT_SECONDS}s")

    def addresses(self) -> dict[str, str]:
        """The pods of the index and their IP addresses."""
        pods = self.get("pods", "--selector", f"vectorindex.io/index={INDEX}")["items"]
        return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}

    def inside(self, *arguments: str) -> str:
        """Run `tests.e2e.inside` where the pods can be reached."""
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'hack'}"}
        command = [sys.executable, "-m", "tests.e2e.inside", *arguments]
        return self.cluster.run(command, env=environment, cwd=ROOT).stdout

    def load(self, rows: int) -> None:
        self.inside("load", str(rows), *self.addresses().values())

    def wait_until(
        self, what: str, kind: str, name: str, holds: Callable[[Object], bool], within: float = WAIT_SECONDS
    ) -> Object:
        """Look at an object's status until it is as wanted, and return it."""
        status: Object = {}

        def look() -> bool:
            nonlocal status
            status = self.status(kind, name)
            return holds(status)

        wait_for(f"{kind}/{name}: {what}", look, within, lambda: f", but {status}")
        return status

    def finished(self, kind: str, name: str, within: float = WAIT_SECONDS) -> Object:
        return self.wait_until("finished", kind, name, lambda status: "completionTime" in status, within)


def wait_for(
    what: str, holds: Callable[[], bool], within: float = WAIT_SECONDS, context: Callable[[], str] = lambda: ""
) -> None:
    """Look until it holds, at most ``within`` seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}{context()}"
        time.sleep(0.2)


def condition(status: Object, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = next(each for each in status["conditions"] if each["type"] == kind)
    return found["status"], found["reason"]


def create_namespace(cluster: Cluster, name: str) -> Namespace:
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    cluster.kubectl("apply", "--filename", "-", input=json.dumps(manifest))
    return Namespace(cluster, name)


def install_by_helm(cluster: Cluster) -> None:
    """Install the chart as the README says, with the image that was built here."""
    create_namespace(cluster, SYSTEM)
    image = ["--set", "image.repository=vectorindex-operator", "--set", "image.tag=dev"]
    cluster.run(
        ["helm", "install", "vectorindex-operator", CHART, "--namespace", SYSTEM, "--wait", "--timeout=2m", *image]
    )
