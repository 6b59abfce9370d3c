"""The first process inside a cluster: it sets everything up, keeps the programs running, and collects orphans.

Invariant: it is process 1 of the cluster's PID namespace, so its end is the end of everything inside; and a program
that dies is started again, as a machine's service manager would do.

Run by `devcluster.cluster` as `python -m devcluster.node NAME STATE BIN PAUSE-IMAGE`.
"""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster import components, configs, objects, sandbox
from devcluster.api import Api, ApiError
from devcluster.components import ControlPlaneFiles
from devcluster.configs import DOMAIN, NODE, NODE_ADDRESS, NodeFiles
from devcluster.errors import DevClusterError
from devcluster.processes import Component
from devcluster.progress import say
from devcluster.volumes import Volumes

RESTART_SECONDS = 1.0
READY_SECONDS = 90.0


class Node:
    """All programs of one cluster."""

    def __init__(self, files: NodeFiles, pause_archive: Path) -> None:
        self._files = files
        self._pause_archive = pause_archive
        self._running: list[Component] = []

    def start(self) -> None:
        """Start everything; returns when the node is Ready."""
        files = self._files
        kubelet = files.authority.issue("kubelet", f"system:node:{NODE}", ["system:nodes"], [NODE, NODE_ADDRESS])
        configs.write(files, kubelet)
        sandbox.enter(files)
        self._launch("etcd", components.etcd(files))
        apiserver = self._launch("kube-apiserver", _apiserver(files))
        containerd = self._launch("containerd", [files.bin / "containerd", "-c", files.config("containerd.toml")])
        containerd.wait_until(configs.CONTAINERD_SOCKET.exists)
        self._import_pause_image()
        api = Api(files.write_admin_kubeconfig())
        apiserver.wait_until(api.ready)
        say("the API server is ready")

        self._launch("kube-controller-manager", components.controller_manager(files, []))
        self._launch("kubelet", _kubelet(files))
        self._launch("kube-scheduler", _scheduler(files))
        self._launch("kube-proxy", _proxy(files))
        for path, body in [*objects.coredns(), objects.storage_class()]:
            api.apply(path, body)
        files.client("coredns", objects.COREDNS_USER)
        self._launch("coredns", [files.bin / "coredns", "-conf", files.config("Corefile")])
        Volumes(api, files.volumes).start()
        self._component("kubelet").wait_until(lambda: _node_is_ready(api), READY_SECONDS)
        self._component("coredns").wait_until(_names_are_ready)
        say("the node is Ready")

    def keep(self) -> None:
        """Collect orphans and start again what died; never returns."""
        while True:
            # Look first, so that a component's exit code is left for the object that owns it.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            if ended is None:
                continue
            mine = next((each for each in self._running if each.last_pid == ended.si_pid), None)
            if mine is None:
                os.waitpid(ended.si_pid, 0)
            else:
                say(f"{mine.name} ended with {mine.exit_code}; starting it again")
                time.sleep(RESTART_SECONDS)
                mine.start()

    def _launch(self, name: str, argv: Sequence[str | Path]) -> Component:
        path = f"{self._files.bin}:{os.environ.get('PATH', os.defpath)}"
        component = Component(name, argv, self._files.log(name), {"PATH": path})
        component.start()
        self._running.append(component)
        return component

    def _component(self, name: str) -> Component:
        return next(each for each in self._running if each.name == name)

    def _import_pause_image(self) -> None:
        ctr: list[str | Path] = [self._files.bin / "ctr", "--namespace=k8s.io"]
        command = [*ctr, "images", "import", self._pause_archive]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise DevClusterError(f"The pause image cannot be imported: {result.stderr}")


def _apiserver(files: NodeFiles) -> list[str | Path]:
    services = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    hosts = [NODE_ADDRESS, components.API_SERVICE_ADDRESS, *services]
    server = files.authority.issue("apiserver", "kube-apiserver", hosts=hosts)
    client = files.authority.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", ["system:masters"])
    flags = [
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={client.certificate}",
        f"--kubelet-client-key={client.key}",
        f"--kubelet-certificate-authority={files.authority.pair.certificate}",
        f"--audit-policy-file={files.config('audit.yaml')}",
        f"--audit-log-path={files.audit_log}",
    ]
    return components.apiserver(files, server, flags)


def _kubelet(files: NodeFiles) -> list[str | Path]:
    kubeconfig = files.client("kubelet-client", f"system:node:{NODE}", ["system:nodes"])
    return [
        files.bin / "kubelet",
        f"--config={files.config('kubelet.yaml')}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={files.state / 'kubelet'}",
        f"--cert-dir={files.state / 'certificates'}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    ]


def _scheduler(files: ControlPlaneFiles) -> list[str | Path]:
    kubeconfig = files.client("scheduler", "system:kube-scheduler")
    return [
        files.bin / "kube-scheduler",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
    ]


def _proxy(files: ControlPlaneFiles) -> list[str | Path]:
    return [
        files.bin / "kube-proxy",
        f"--kubeconfig={files.client('proxy', 'system:kube-proxy')}",
        f"--hostname-override={NODE}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={configs.POD_RANGE}",
        "--conntrack-max-per-core=0",
        "--oom-score-adj=0",
    ]


def _node_is_ready(api: Api) -> bool:
    try:
        node = api.get(f"/api/v1/nodes/{NODE}")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", [])}
    # Until this taint is gone, nothing is scheduled.
    taints = {taint["key"] for taint in node["spec"].get("taints", [])}
    return conditions.get("Ready") == "True" and "node.kubernetes.io/not-ready" not in taints


def _names_are_ready() -> bool:
    connection = http.client.HTTPConnection(NODE_ADDRESS, 8181, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main() -> None:
    """Entry point inside the namespaces."""
    name, state, bin_folder, pause_archive = sys.argv[1:]
    files = NodeFiles.of(name, Path(state), Path(bin_folder))
    node = Node(files, Path(pause_archive))
    try:
        node.start()
    except DevClusterError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)
    files.ready.touch()
    node.keep()


if __name__ == "__main__":
    main()
