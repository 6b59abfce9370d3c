"""Test support for the control plane tier: a node whose pods are whatever the test makes of them.

Invariant: for each pod (UID) that is bound here `on_pod_bound` is called once, and `on_pod_deleted` once after it, in
this order, whichever way the pod goes; calls for different pods run at the same time. A pod is Running as soon as
`on_pod_bound` returned its address (Pending for ever if it returned None), and Ready only when the test says so.
"""

import http.client
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from devcluster.api import STRATEGIC_PATCH, Api, ApiError, Object, Watch

log = logging.getLogger(__name__)

WORKERS = 64
RETRY_SECONDS = 0.2


@dataclass
class _Pod:
    """What the node knows of one pod."""

    pod: Object
    bound: "Future[None]"
    address: str | None = None
    started: str = ""
    deleted: "Future[None] | None" = None


class FakeNode:
    """A node that takes every pod nobody has bound yet; a context manager, or `start` and `stop`.

    Args:
        kubeconfig: of an administrator.
        on_pod_bound: called in a thread with a new pod; starts what stands for its containers and returns the
            pod's address, usually of 127.0.0.0/8 (and 127.0.0.1 only where ports do not collide); None: they do not
            start.
        on_pod_deleted: called in a thread with a pod that shall end or is gone already; ends what stands for it.
        name: the node's name.
        namespace: take only pods of this namespace.
        ready: whether pods are Ready from the start on.
    """

    def __init__(
        self,
        kubeconfig: Path,
        on_pod_bound: Callable[[Object], str | None],
        on_pod_deleted: Callable[[Object], None] = lambda pod: None,
        *,
        name: str = "fake-node",
        namespace: str | None = None,
        ready: bool = False,
    ) -> None:
        self.name = name
        self.errors: list[BaseException] = []
        """What went wrong in callbacks; `check` raises the first."""
        self._api = Api(kubeconfig)
        self._on_bound, self._on_deleted = on_pod_bound, on_pod_deleted
        self._collection = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._ready = ready
        self._pods: dict[str, _Pod] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix=name)
        self._thread = threading.Thread(target=self._run, name=f"{name}-watch", daemon=True)

    def start(self) -> Self:
        """Make the Node object and take pods from now on."""
        self._create_node()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Take no more pods and call `on_pod_deleted` for those that are left; the API's objects stay."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.close()
        if self._thread.is_alive():
            self._thread.join()
        with self._changed:
            left = [uid for uid, known in self._pods.items() if known.deleted is None]
        for uid in left:
            self._end(uid, finish=False)
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise the first error of a callback, if there was one."""
        if self.errors:
            raise self.errors[0]

    def set_ready(
        self, namespace: str, name: str, ready: bool = True, *, restarts: int | None = None, timeout: float = 30.0
    ) -> None:
        """Set the readiness of a pod that is or will be bound, as a kubelet does after a probe.

        Args:
            namespace: of the pod.
            name: of the pod.
            ready: for all of its containers.
            restarts: the containers' restart count, when it changes (a kubelet counts it up after a crash).
            timeout: seconds to wait at most until the pod is Running.

        Raises:
            TimeoutError: it is not, or is gone.
        """
        known = self.wait_running(namespace, name, timeout)
        self._write_status(known, ready, restarts)

    def wait_running(self, namespace: str, name: str, timeout: float = 30.0) -> _Pod:
        """Wait until the pod's newest incarnation is Running here; the result is for `set_ready`."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for known in reversed(self._pods.values()):
                    meta = known.pod["metadata"]
                    same = (meta["namespace"], meta["name"]) == (namespace, name)
                    if same and known.deleted is None and known.address is not None and known.started:
                        return known
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"pod {namespace}/{name} was not Running after {timeout:.0f} s")
                self._changed.wait(left)

    def address(self, namespace: str, name: str) -> str:
        """The address of a pod; waits until it is Running."""
        address = self.wait_running(namespace, name).address
        assert address is not None
        return address

    def _create_node(self) -> None:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
        }
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "capacity": {"cpu": "64", "memory": "256Gi", "pods": "1000"},
            "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "1000"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "FakeNode", "message": "always"}],
        }
        try:
            self._api.create("/api/v1/nodes", node)
        except ApiError as error:
            if error.status != 409:
                raise
        self._api.patch(f"/api/v1/nodes/{self.name}/status", {"status": status})
        # The API server taints every new node; its lifecycle controller, which would take the taint off, is not here.
        self._api.patch(f"/api/v1/nodes/{self.name}", {"spec": {"taints": None}})

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._list_and_watch()
            except (ApiError, OSError, http.client.HTTPException, ValueError) as error:
                # A test may well stop the API server; the node goes on when it is back.
                log.info("watching pods: %s", error)
                self._stopping.wait(RETRY_SECONDS)

    def _list_and_watch(self) -> None:
        listed = self._api.get(self._collection)
        uids = set()
        for pod in listed["items"]:
            uids.add(pod["metadata"]["uid"])
            self._see(pod)
        with self._changed:
            gone = [uid for uid in self._pods if uid not in uids]
        for uid in gone:
            self._end(uid, finish=False)
        self._watch = self._api.watch(self._collection, listed["metadata"]["resourceVersion"])
        if self._stopping.is_set():  # stop() may have looked for the watch a moment before
            self._watch.close()
        for event in self._watch:
            kind, pod = event["type"], event["object"]
            if kind == "ERROR":
                return  # mostly "too old resource version": list again
            if kind == "DELETED":
                self._end(pod["metadata"]["uid"], finish=False)
            elif kind in {"ADDED", "MODIFIED"}:
                self._see(pod)

    def _see(self, pod: Object) -> None:
        meta = pod["metadata"]
        uid, node = meta["uid"], pod["spec"].get("nodeName")
        if meta.get("deletionTimestamp") is not None:
            if uid in self._pods:
                self._end(uid, finish=True)
            elif node == self.name:  # bound by an earlier FakeNode of this name
                self._submit(self._finish, pod)
        elif uid not in self._pods and node in {None, "", self.name}:
            if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
                return
            with self._changed:
                known = _Pod(pod, Future())
                self._pods[uid] = known
                self._submit(self._bring_up, known)

    def _end(self, uid: str, *, finish: bool) -> None:
        with self._changed:
            known = self._pods.get(uid)
            if known is None or known.deleted is not None:
                return
            known.deleted = Future()
            self._submit(self._tear_down, known, finish)

    def _bring_up(self, known: _Pod) -> None:
        try:
            meta = known.pod["metadata"]
            if not known.pod["spec"].get("nodeName"):
                binding = {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": meta["name"], "uid": meta["uid"]},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": self.name},
                }
                if self._tolerating(409, 404)(lambda: self._api.create(f"{_path(known.pod)}/binding", binding)) is None:
                    return  # deleted meanwhile: its end is already on its way
            known.address = self._on_bound(known.pod)
            if known.address is not None:
                self._write_status(known, self._ready, 0)
        finally:
            known.bound.set_result(None)
            with self._changed:
                self._changed.notify_all()

    def _tear_down(self, known: _Pod, finish: bool) -> None:
        known.bound.result()
        try:
            self._on_deleted(known.pod)
        finally:
            if finish:
                self._finish(known.pod)
            assert known.deleted is not None
            known.deleted.set_result(None)
            with self._changed:
                self._pods.pop(known.pod["metadata"]["uid"], None)
                self._changed.notify_all()

    def _finish(self, pod: Object) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod["metadata"]["uid"]},
        }
        self._tolerating(404, 409)(lambda: self._api.delete(_path(pod), body))

    def _write_status(self, known: _Pod, ready: bool, restarts: int | None) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        started = known.started or now
        flag = "True" if ready else "False"
        states = {"Initialized": "True", "PodScheduled": "True", "ContainersReady": flag, "Ready": flag}
        containers = [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": container["image"],
                "containerID": f"fake://{known.pod['metadata']['uid']}/{container['name']}",
                "ready": ready,
                "started": True,
                "state": {"running": {"startedAt": started}},
            }
            | ({} if restarts is None else {"restartCount": restarts})
            for container in known.pod["spec"]["containers"]
        ]
        status = {
            "phase": "Running",
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "podIP": known.address,
            "podIPs": [{"ip": known.address}],
            "startTime": started,
            "conditions": [
                {"type": kind, "status": state, "lastTransitionTime": now} for kind, state in states.items()
            ],
            "containerStatuses": containers,
        }
        body = {"metadata": {"uid": known.pod["metadata"]["uid"]}, "status": status}
        path = f"{_path(known.pod)}/status"
        self._tolerating(404, 409)(lambda: self._api.patch(path, body, STRATEGIC_PATCH))
        with self._changed:
            known.started = started
            self._changed.notify_all()

    def _tolerating(self, *statuses: int) -> Callable[[Callable[[], Object]], Object | None]:
        """Run a request that may come too late; until the server is there again, if it has to be."""

        def run(request: Callable[[], Object]) -> Object | None:
            while True:
                try:
                    return request()
                except ApiError as error:
                    if error.status in statuses:
                        return None
                    if error.status < 500 and error.status != 429:
                        raise
                except (OSError, http.client.HTTPException):
                    pass
                if self._stopping.wait(RETRY_SECONDS):
                    return None

        return run

    def _submit(self, function: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            try:
                function(*arguments)
            except BaseException as error:
                log.exception("fake node")
                self.errors.append(error)

        self._executor.submit(run)


def _path(pod: Object) -> str:
    meta = pod["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
