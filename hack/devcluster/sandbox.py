"""The cluster's own surroundings: mounts, network and cgroup folders.

Invariant: `enter` runs inside new mount and network namespaces and changes nothing outside of them, except for the
cgroup folders, which `remove_cgroups` takes away, and empty folders, which `remove_fixed` takes away.
"""

import contextlib
import subprocess
import time
from pathlib import Path

from devcluster.configs import GATEWAY, NODE_ADDRESS, NODE_NETWORK, NodeFiles
from devcluster.errors import DevClusterError

FIXED = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))
"""Folders whose paths are compiled into containerd's CNI library and the kubelet's device manager."""

SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What the kubelet wants to see, and would otherwise set for the whole machine."""


def enter(files: NodeFiles) -> None:
    """Set up everything; the process is the first in its new namespaces."""
    _mounts(files)
    _network()
    _make_cgroups(files.cgroup)


def _mounts(files: NodeFiles) -> None:
    _run("mount", "--make-rprivate", "/")
    # Sockets, network namespaces and runc's state; a tmpfs of our own goes away with us.
    resolv = Path("/etc/resolv.conf").resolve()
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "devcluster", "/run")
    for name in ("netns", "lock", "containerd"):
        (Path("/run") / name).mkdir()
    logs = files.state / "var-log"
    logs.mkdir(exist_ok=True)
    _run("mount", "--bind", str(logs), "/var/log")
    for folder in FIXED:
        folder.mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "devcluster", str(folder))
    if resolv.is_relative_to("/run"):
        resolv.parent.mkdir(parents=True, exist_ok=True)
        resolv.touch()
    if resolv.exists():
        _run("mount", "--bind", str(files.config("resolv.conf")), str(resolv))
    for name, value in SYSCTLS.items():
        copy = files.state / "sysctl" / name.replace("/", ".")
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(f"{value}\n")
        _run("mount", "--bind", str(copy), f"/proc/sys/{name}")


def _network() -> None:
    _run("ip", "link", "set", "lo", "up")
    # A bridge without ports stands for the node's network card: every kernel that runs containers has bridges.
    _run("ip", "link", "add", "node0", "type", "bridge")
    _run("ip", "address", "add", f"{NODE_ADDRESS}/{NODE_NETWORK}", "dev", "node0")
    _run("ip", "link", "set", "node0", "up")
    _run("ip", "route", "add", "default", "via", GATEWAY, "dev", "node0")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise DevClusterError(f"`{' '.join(command)}`: {result.stderr.strip()}")


def _hierarchies() -> list[tuple[str, Path]]:
    """Type and mount point of every cgroup hierarchy."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [(kind, Path(path)) for _, path, kind, *_ in mounts if kind in {"cgroup", "cgroup2"}]


def _make_cgroups(name: str) -> None:
    for kind, mount in _hierarchies():
        folder = mount / name
        if kind == "cgroup2":
            # A hybrid system has a second version without controllers; nothing is to be done there.
            with contextlib.suppress(OSError):
                available = (mount / "cgroup.controllers").read_text().split()
                (mount / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in available))
        folder.mkdir(exist_ok=True)
        if (folder / "cpuset.cpus").exists() and kind == "cgroup":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((mount / file).read_text())
            (folder / "cgroup.clone_children").write_text("1")


def remove_cgroups(name: str, timeout: float = 10.0) -> None:
    """Remove the cluster's cgroup folders; its processes are gone or about to go."""
    deadline = time.monotonic() + timeout
    for _, mount in _hierarchies():
        while (mount / name).exists():
            # A cgroup's folders go with rmdir, children first; its files cannot be removed and need not be.
            folders = sorted((path for path in (mount / name).rglob("*") if path.is_dir()), reverse=True)
            for folder in [*folders, mount / name]:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if time.monotonic() > deadline:
                raise DevClusterError(f"{mount / name} cannot be removed: processes are left in it.")
            if (mount / name).exists():
                time.sleep(0.05)


def remove_fixed() -> None:
    """Remove the empty folders, when no cluster runs any more."""
    for folder in FIXED:
        with contextlib.suppress(OSError):
            folder.rmdir()
