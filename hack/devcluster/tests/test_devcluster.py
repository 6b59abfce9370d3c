"""The development cluster tested by itself (20 s): `python -m pytest hack/devcluster/tests`.

Programs that are not built yet are built first.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from devcluster import oci
from devcluster.api import ApiError, Object
from devcluster.build import PAUSE_TAG
from devcluster.cluster import Cluster
from devcluster.control_plane import ControlPlane
from devcluster.fake_node import FakeNode

HACK = Path(__file__).resolve().parents[2]
SETS = "/apis/apps/v1/namespaces/default/statefulsets"


def stateful_set(image: str, pod: Object | None = None) -> Object:
    container = {
        "name": "c",
        "image": image,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "s"},
        "spec": {
            "replicas": 2,
            "serviceName": "s",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "s"}},
            "template": {
                "metadata": {"labels": {"app": "s"}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1} | (pod or {}),
            },
            "volumeClaimTemplates": [claim],
        },
    }


def eventually(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


def test_fake_node_calls_back_once_per_pod_in_order(control_plane: ControlPlane) -> None:
    addresses = (f"127.0.1.{number}" for number in itertools.count(2))
    calls: list[tuple[str, str]] = []

    def bound(pod: Object) -> str:
        calls.append(("bound", pod["metadata"]["uid"]))
        return next(addresses)

    def deleted(pod: Object) -> None:
        calls.append(("deleted", pod["metadata"]["uid"]))

    api = control_plane.api()
    with FakeNode(control_plane.kubeconfig, bound, deleted) as node:
        api.create(SETS, stateful_set("any"))
        node.set_ready("default", "s-0")
        node.set_ready("default", "s-1")
        eventually(lambda: api.get(f"{SETS}/s")["status"].get("readyReplicas") == 2)
        api.delete("/api/v1/namespaces/default/pods/s-0")
        eventually(lambda: len(calls) == 4)
        node.set_ready("default", "s-0", restarts=3)
        force = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
        api.delete("/api/v1/namespaces/default/pods/s-1", force)
        eventually(lambda: len(calls) == 6)
        api.delete(f"{SETS}/s")
        eventually(lambda: not api.get("/api/v1/namespaces/default/pods")["items"])
    uids = {uid for _, uid in calls}
    assert len(uids) == 4
    assert all([kind for kind, each in calls if each == uid] == ["bound", "deleted"] for uid in uids)


@pytest.mark.parametrize("user", ["jane", "system:serviceaccount:default:default"])
def test_users_have_no_rights_of_their_own(control_plane: ControlPlane, user: str) -> None:
    api = type(control_plane.api())(control_plane.kubeconfig_for(user))
    with pytest.raises(ApiError, match="cannot list resource") as refused:
        api.get("/api/v1/pods")
    assert refused.value.status == 403


def test_nothing_outlives_a_killed_owner() -> None:
    code = "from devcluster.processes import Component; from pathlib import Path; import sys, threading, time\n"
    code += "c = Component('sleep', ['sleep', '1000'], Path('/dev/null'))\n"
    code += "t = threading.Thread(target=c.start); t.start(); t.join()\n"
    code += "time.sleep(0.2); print(c.pid, flush=True); time.sleep(1000)"
    environment = dict(os.environ) | {"PYTHONPATH": str(HACK)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        stat = Path(f"/proc/{pid}/stat")
        assert "sleep" in stat.read_text()
        owner.send_signal(signal.SIGKILL)
    eventually(lambda: not stat.exists() or ") Z " in stat.read_text())


def test_archives_are_reproducible(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"x" * 1000)
    for name in ("a", "b"):
        oci.write_archive(tmp_path / name, "local/x:1", {"program": tmp_path / "program"}, ["/program"])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="the whole cluster needs root")
def test_restricted_pods_with_volumes_on_the_whole_cluster() -> None:
    security = {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    with Cluster() as cluster:
        cluster.kubectl("label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted")
        cluster.kubectl(
            "apply", "-f", "-", input=yaml.safe_dump(stateful_set(PAUSE_TAG, {"securityContext": security}))
        )
        cluster.kubectl("rollout", "status", "statefulset/s", "--timeout=60s")
        first = cluster.processes("default", "s-0")[0]
        assert (first.pid_inside, first.command) == (1, ("/pause",))
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: cluster.pod("default", "s-0")["status"]["containerStatuses"][0]["restartCount"] == 1)
        names = cluster.run(["getent", "hosts", "kubernetes.default.svc"]).stdout
        assert names.startswith("10.96.0.1 ")
        assert "kubectl" in cluster.audit_log.read_text()
        state = cluster.state
    assert not state.exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/devcluster-{cluster.name}"))
