"""The configuration files of a cluster's node, as functions from its files to text.

Everything that a program would write outside of the cluster's state directory is directed into it here; the few
paths that no option moves are covered by mounts (`devcluster.sandbox`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from devcluster.build import PAUSE_TAG
from devcluster.certificates import Pair
from devcluster.components import ControlPlaneFiles

NODE = "devcluster"
NODE_ADDRESS = "10.99.0.2"
NODE_NETWORK = 24
GATEWAY = "10.99.0.1"
POD_RANGE = "10.244.0.0/24"
DNS_ADDRESS = "10.96.0.10"
DOMAIN = "cluster.local"

CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
CNI_PROGRAMS = Path("/usr/lib/cni")


@dataclass(frozen=True)
class NodeFiles(ControlPlaneFiles):
    """Files and addresses of a whole cluster; inside its own network the ports are the usual ones."""

    name: str = ""
    """The cluster's name."""

    @classmethod
    def of(cls, name: str, state: Path, bin_folder: Path) -> "NodeFiles":
        """The files of the cluster `name`."""
        return cls(bin_folder, state, NODE_ADDRESS, 2379, 2380, 6443, name)

    @property
    def cgroup(self) -> str:
        """Name of the cluster's folder in each cgroup hierarchy."""
        return f"devcluster-{self.name}"

    @property
    def volumes(self) -> Path:
        """The local volumes lie here, one folder each."""
        return self.state / "volumes"

    @property
    def audit_log(self) -> Path:
        """One JSON line per request of anything but the cluster's own parts."""
        return self.state / "logs" / "audit.log"

    @property
    def ready(self) -> Path:
        """This file is there as soon as the node is Ready."""
        return self.state / "ready"

    def config(self, name: str) -> Path:
        """A configuration file."""
        return self.state / "config" / name


def write(files: NodeFiles, kubelet: Pair) -> None:
    """Write all configuration files.

    Args:
        files: of the cluster.
        kubelet: serving certificate of the kubelet.
    """
    texts = {
        "containerd.toml": containerd(files),
        "cni/10-devcluster.conflist": json.dumps(cni(files), indent=2),
        "kubelet.yaml": yaml.safe_dump(kubelet_configuration(files, kubelet), sort_keys=False),
        "audit.yaml": yaml.safe_dump(audit_policy(), sort_keys=False),
        "Corefile": corefile(files),
        "resolv.conf": f"nameserver {DNS_ADDRESS}\nsearch svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n",
    }
    for name, text in texts.items():
        path = files.config(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def containerd(files: NodeFiles) -> str:
    """Configuration of containerd, version 3."""
    # Strings of JSON are strings of TOML, too.
    quoted = {
        "root": json.dumps(str(files.state / "containerd")),
        "socket": json.dumps(str(CONTAINERD_SOCKET)),
        "pause": json.dumps(PAUSE_TAG),
        "cni_programs": json.dumps(str(CNI_PROGRAMS)),
        "cni": json.dumps(str(files.config("cni"))),
        "opt": json.dumps(str(files.state / "opt")),
    }
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc could not lower the score, and fails with
    # "can't get final child's PID from pipe".
    return """version = 3
root = {root}
state = "/run/containerd"
disabled_plugins = ["io.containerd.image-verifier.v1.bindir"]

[grpc]
address = {socket}

[plugins.'io.containerd.internal.v1.opt']
path = {opt}

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = {pause}

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{cni_programs}]
conf_dir = {cni}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
""".format(**quoted)


def cni(files: NodeFiles) -> dict[str, object]:
    """The pods' network: a pair of devices and a route per pod.

    Unlike behind a bridge, every packet between two pods passes the node's own routing, so Services work without the
    kernel module br_netfilter, and an nftables rule of a test can drop it.
    """
    addresses = {"type": "host-local", "ranges": [[{"subnet": POD_RANGE}]], "dataDir": str(files.state / "addresses")}
    plugin = {"type": "ptp", "mtu": 1500, "ipMasq": False, "ipam": addresses | {"routes": [{"dst": "0.0.0.0/0"}]}}
    return {"cniVersion": "1.0.0", "name": "devcluster", "plugins": [plugin]}


def kubelet_configuration(files: NodeFiles, server: Pair) -> dict[str, object]:
    """Configuration of the kubelet."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(files.authority.pair.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(server.certificate),
        "tlsPrivateKeyFile": str(server.key),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": "",
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{files.cgroup}",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(files.state / "logs" / "pods"),
        "volumePluginDir": str(files.state / "flex-volumes"),
        "serializeImagePulls": False,
    }


def audit_policy() -> dict[str, object]:
    """Log who asked for what; leave out the cluster's own parts, which would bury the rest."""
    users = ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "users": [*users, "system:coredns"]},
            {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
            {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
            {"level": "Metadata"},
        ],
    }


def corefile(files: NodeFiles) -> str:
    """Configuration of CoreDNS: the cluster's names, and no others."""
    return f""".:53 {{
    bind {NODE_ADDRESS}
    health {NODE_ADDRESS}:8080
    ready {NODE_ADDRESS}:8181
    errors
    cache 1
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {files.state / "coredns.kubeconfig"}
        ttl 1
    }}
}}
"""
