"""What nodes and networks do to a rebuild in its middle, on a whole cluster."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from demo import data
from devcluster.cluster import Cluster
from devcluster.errors import DevClusterError
from tests.apiserver.faults.tally import REPEAT, tried
from tests.e2e.support import INDEX, LARGE_GRAPH, Namespace, Object, condition, create_namespace, wait_for

ITEMS = 3_000
MANY = 6_000
IDS = sorted(data.load().ids[:ITEMS])
POD = f"{INDEX}-1"
NOT_READY_SECONDS = 60
"""A node whose kubelet is silent is NotReady after 40 s."""
EAT_MEMORY = """
import os, pathlib, signal, time

counters = map(pathlib.Path, ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events"))
counter = next(path for path in counters if path.exists())

def killed():
    return [line for line in counter.read_text().splitlines() if line.startswith("oom_kill ")]

before, eaters = killed(), []
assert before
while killed() == before:
    if not (eater := os.fork()):
        block = b"x" * 2**23
        time.sleep(60)
        os._exit(0)
    eaters.append(eater)
    time.sleep(0.02)
for eater in eaters:
    os.kill(eater, signal.SIGKILL)
print("killed")
"""
"""Takes memory in parts so small that the kernel, once the container has no more, ends something else."""


@pytest.fixture(scope="module")
def index(namespace: Namespace) -> Namespace:
    """A loaded index of two pods."""
    namespace.create_index(replicas=2)
    namespace.load(ITEMS)
    return namespace


@pytest.fixture(params=range(REPEAT))
def name(request: pytest.FixtureRequest) -> str:
    return f"{request.function.__name__.removeprefix('test_').replace('_', '-')[:40].strip('-')}-{request.param}"


def rebuild(index: Namespace, name: str, fault: Callable[[], object]) -> Object:
    """Run a rebuild, and cause the fault when the second pod is at work on it; returns how it ended."""
    index.kubectl("wait", "--for=condition=Ready", f"vi/{INDEX}", "--timeout=120s")
    index.apply("IndexRebuild", name, {"indexRef": {"name": INDEX}, "params": LARGE_GRAPH})
    index.wait_until("at work on the second pod", "vireb", name, at_work)
    fault()
    return index.finished("vireb", name)


def at_work(status: Object) -> bool:
    pods = status.get("pods", [])
    return len(pods) == 2 and pods[1].get("progressPercent", 0) in range(1, 91)


def completed(index: Namespace, status: Object) -> None:
    """It ended well at the first attempt, and every item is found on every pod."""
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert [(pod["state"], pod["attempt"]) for pod in status["pods"]] == [("Succeeded", 1)] * 2
    all_found(index)


def all_found(index: Namespace) -> None:
    for address in index.addresses().values():
        assert sorted(json.loads(index.inside("found", str(ITEMS), address))) == IDS


def searchable(index: Namespace) -> bool:
    """Whether every pod can be searched: what the kernel has ended is started again."""
    try:
        for address in index.addresses().values():
            index.inside("found", "1", address)
    except DevClusterError:
        return False
    return True


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def test_a_pod_that_is_cut_off_goes_on_and_is_waited_for(index: Namespace, name: str) -> None:
    def cut_off() -> None:
        with index.cluster.partition(index.name, POD):
            index.wait_until(
                "waiting for the pod",
                "vireb",
                name,
                lambda status: condition(status, "Succeeded") == ("Unknown", "PodsUnreachable"),
            )

    status = rebuild(index, name, cut_off)
    completed(index, status)
    assert [pod["restarts"] for pod in status["pods"]] == [0, 0]
    tried["cluster: a pod's network cut off in mid-rebuild"] += 1


def test_a_pod_that_is_evicted_comes_back_and_finishes(index: Namespace, name: str) -> None:
    def evict() -> None:
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": POD, "namespace": index.name},
            "deleteOptions": {"gracePeriodSeconds": 1},
        }
        path = f"/api/v1/namespaces/{index.name}/pods/{POD}/eviction"
        index.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))

    completed(index, rebuild(index, name, evict))
    tried["cluster: a pod evicted in mid-rebuild"] += 1


@pytest.fixture
def silent_kubelet(cluster: Cluster) -> Iterator[Callable[[], None]]:
    pid = cluster.component_pid("kubelet")
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


def test_a_node_whose_kubelet_is_silent_goes_on(
    index: Namespace, name: str, silent_kubelet: Callable[[], None]
) -> None:
    def silence() -> None:
        silent_kubelet()
        deadline = time.monotonic() + NOT_READY_SECONDS
        while condition(index.status("vi", INDEX), "Ready")[0] == "True":
            assert time.monotonic() < deadline, "the node's pods do not become not ready"
            time.sleep(0.5)
        os.kill(index.cluster.component_pid("kubelet"), signal.SIGCONT)

    status = rebuild(index, name, silence)
    completed(index, status)
    assert [pod["restarts"] for pod in status["pods"]] == [0, 0]
    tried["cluster: kubelet stopped in mid-rebuild until its node was NotReady"] += 1


def test_a_container_that_has_no_memory_left_loses_what_the_kernel_ends_and_nothing_else(
    index: Namespace, name: str
) -> None:
    def eat() -> None:
        processes = index.cluster.processes(index.name, POD)
        builders = [process.pid for process in processes if "vectorindex.sidecar.builder" in process.command]
        signal_all(builders, signal.SIGSTOP)  # so that it is in its middle, however long this takes
        eaten = index.cluster.run(
            ["kubectl", "--namespace", index.name, "exec", POD, "--", "python3", "-c", EAT_MEMORY], check=False
        )
        signal_all(builders, signal.SIGCONT)
        assert "killed" in eaten.stdout or eaten.returncode == 137, eaten  # the container, and all that is in it

    status = rebuild(index, name, eat)
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert [pod["state"] for pod in status["pods"]] == ["Succeeded"] * 2
    wait_for("both pods answer", lambda: searchable(index))
    all_found(index)
    tried["cluster: out of memory in mid-rebuild"] += 1


def test_a_rebuild_that_meets_the_memory_limit_says_so_and_the_pod_goes_on(
    index: Namespace, cluster: Cluster, name: str
) -> None:
    other = create_namespace(cluster, f"{index.name}-small-{name[-1]}")
    managed = {
        "replicas": 1,
        "storage": {"size": "1Gi"},
        "resources": {"limits": {"memory": "150Mi"}},
    }
    other.apply("VectorIndex", INDEX, {"dimensions": 384, "metric": "Cosine", "managed": managed})
    other.kubectl("wait", "--for=condition=Ready", f"vi/{INDEX}", "--timeout=120s")
    other.load(MANY)
    spec = {"indexRef": {"name": INDEX}, "params": {"m": 512, "efConstruction": 1_000}, "backoffLimit": 0}
    other.apply("IndexRebuild", name, spec)
    status = other.finished("vireb", name)
    succeeded = next(each for each in status["conditions"] if each["type"] == "Succeeded")
    assert (succeeded["status"], succeeded["reason"]) == ("False", "InsufficientMemory")
    assert "MiB" in succeeded["message"] or "MB" in succeeded["message"]
    [address] = other.addresses().values()
    assert len(json.loads(other.inside("found", str(MANY), address))) == MANY
    pod = other.get("pod", f"{INDEX}-0")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    tried["cluster: memory limit met by a rebuild"] += 1
    cluster.kubectl("delete", "namespace", other.name, "--wait=false")
