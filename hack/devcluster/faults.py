"""Faults for tests: processes of pods, found from outside or inside of a cluster, to kill, stop or trace; lost packets.

Invariant: a process id is valid where it was asked for: it is taken from the `/proc` of whoever calls.
"""

from dataclasses import dataclass
from pathlib import Path

from devcluster.api import Object


@dataclass(frozen=True)
class ContainerProcess:
    """One process of a container."""

    pid: int
    """As the caller sees it."""
    pid_inside: int
    """As the container sees it; 1 is its first process."""
    command: tuple[str, ...]


def container_processes(container_id: str) -> list[ContainerProcess]:
    """The processes of a container, the first process first.

    Args:
        container_id: of containerd; the scheme of a pod's status (`containerd://`) may stand before it.
    """
    wanted = container_id.rpartition("/")[2]
    if not wanted:
        return []
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted not in (folder / "cgroup").read_text():
                continue
            status = (folder / "status").read_text().splitlines()
            command = (folder / "cmdline").read_bytes().rstrip(b"\0").decode("utf-8", "replace").split("\0")
        except OSError:  # ended while we looked
            continue
        inside = next(line.split()[-1] for line in status if line.startswith("NSpid:"))
        found.append(ContainerProcess(int(folder.name), int(inside), tuple(command)))
    return sorted(found, key=lambda process: process.pid_inside)


def container_id(pod: Object, container: str | None = None) -> str:
    """The id of a running container of a pod.

    Args:
        pod: as the API server gave it.
        container: its name; the first one by default.

    Raises:
        LookupError: it does not run.
    """
    for status in pod["status"].get("containerStatuses", []):
        if container in {None, status["name"]} and "running" in status.get("state", {}):
            return str(status["containerID"])
    raise LookupError(f"no running container {container or ''} in pod {pod['metadata']['name']}")


def partition_rules(table: str, address: str) -> str:
    """Rules for nft that drop all packets from and to an address, wherever on the node they pass."""
    chains = "".join(
        f"  chain {hook}-chain {{\n"
        f"    type filter hook {hook} priority 0\n"
        f"    ip saddr {address} drop\n"
        f"    ip daddr {address} drop\n"
        f"  }}\n"
        for hook in ("input", "output", "forward")
    )
    return f"table inet {table} {{\n{chains}}}\n"
