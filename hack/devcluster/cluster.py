"""The whole cluster, seen from outside: start it, run commands inside, take it away again.

Invariant: everything that runs inside descends from one process in namespaces of its own; killing that process ends
all of it, and `down` leaves neither files nor cgroup folders behind.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from devcluster import build, debian, faults, paths, sandbox
from devcluster.configs import NodeFiles
from devcluster.errors import DevClusterError
from devcluster.processes import Component, tail
from devcluster.progress import step

DEFAULT_NAME = "dev"
TEMPORARY = "test-"
START_SECONDS = 180.0


def clusters_folder() -> Path:
    """One folder per cluster."""
    return paths.cache() / "clusters"


class Cluster:
    """One cluster; a context manager (`start`, `down`), or a handle of one that runs already (`attach`)."""

    def __init__(self, name: str | None = None, *, detached: bool = False) -> None:
        """Nothing runs before `start`.

        Args:
            name: clusters of different names run side by side; by default a new name.
            detached: whether it goes on when this process ends; otherwise it dies with it.
        """
        self.name = name or f"{TEMPORARY}{secrets.token_hex(3)}"
        if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name) is None:
            raise DevClusterError(f"{self.name!r}: a cluster's name has lower case letters, digits and hyphens.")
        self._detached = detached
        self._files = NodeFiles.of(self.name, clusters_folder() / self.name, build.folder())
        self._component: Component | None = None

    @classmethod
    def attach(cls, name: str = DEFAULT_NAME) -> Self:
        """A handle of a cluster that runs.

        Raises:
            DevClusterError: it does not run.
        """
        cluster = cls(name, detached=True)
        if not cluster.running:
            raise DevClusterError(f"The cluster {name} does not run. Type: python -m devcluster up --name {name}")
        return cluster

    def start(self) -> Self:
        """Install and build what is missing, start everything, return when the node is Ready (10 s when warm).

        Raises:
            DevClusterError: no root, something cannot be installed, or a program does not come up.
        """
        if sys.platform != "linux" or os.geteuid() != 0:
            raise DevClusterError("The whole cluster needs Linux and root: run this with sudo, or as root.")
        if self.running:
            raise DevClusterError(f"The cluster {self.name} runs already.")
        debian.ensure_packages(debian.CLUSTER)
        build.cluster()
        pause = build.pause_image()
        remove_dead_test_clusters()
        self.down()
        self.state.mkdir(parents=True, mode=0o700)
        try:
            with step(f"starting the cluster {self.name}", "about 10 s"):
                self._start(pause)
        except BaseException:
            self._kill()
            self._clean(keep_logs=True)
            raise
        return self

    def down(self) -> None:
        """End everything and remove it; nothing happens when there is nothing."""
        self._kill()
        self._clean()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()

    @property
    def state(self) -> Path:
        """The state directory; logs are in its folder `logs`."""
        return self._files.state

    @property
    def bin(self) -> Path:
        """The folder with kubectl, helm, ctr and the others."""
        return self._files.bin

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig file; its server is reachable only from inside."""
        return self._files.admin_kubeconfig

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: a JSON line per request of anything but the cluster's own parts."""
        return self._files.audit_log

    @property
    def running(self) -> bool:
        """Whether the cluster's first process lives."""
        return self._pid() is not None

    @property
    def pid(self) -> int:
        """The cluster's first process, as seen from outside: where `nsenter` goes in."""
        pid = self._pid()
        if pid is None:
            raise DevClusterError(f"The cluster {self.name} does not run. The end of its log:\n{tail(self._log)}")
        return pid

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands inside: the programs on PATH, and KUBECONFIG."""
        path = f"{self.bin}:{os.environ.get('PATH', os.defpath)}"
        return dict(os.environ) | {"PATH": path, "KUBECONFIG": str(self.kubeconfig), "DEVCLUSTER": self.name}

    def argv(self, command: Sequence[str | Path], cwd: Path | None = None) -> list[str]:
        """The command line, outside, that runs a command inside; it needs `environment`."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--"]
        # nsenter forks and passes no signal on: whoever ends it ends the command, too.
        tied = ["setpriv", "--pdeathsig", "TERM", "--"]
        # The working directory of the old mounts would be a hole to the outside.
        change = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(cwd or Path.cwd())]
        return [*enter, *tied, *change, *map(str, command)]

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        check: bool = True,
        capture: bool = True,
        input: str | None = None,  # noqa: A002 -- the name of subprocess.run
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside and wait for it, as `subprocess.run` does.

        Args:
            argv: the command; kubectl, helm and ctr are on PATH, KUBECONFIG is set.
            check: raise DevClusterError, with what it printed, when it fails.
            capture: keep its output in the result instead of printing it.
            input: its standard input.
            timeout: in seconds.
            env: variables beside those of this process.
            cwd: working directory.
        """
        result = subprocess.run(
            self.argv(argv, cwd),
            env=self.environment | dict(env or {}),
            input=input,
            stdin=subprocess.DEVNULL if input is None and capture else None,
            capture_output=capture,
            text=True,
            timeout=timeout,
        )
        if check and result.returncode != 0:
            output = f"\n{result.stdout}{result.stderr}" if capture else ""
            raise DevClusterError(f"`{' '.join(map(str, argv))}` ended with {result.returncode}.{output}")
        return result

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> "subprocess.Popen[str]":
        """Start a command inside; ending the process that is returned ends the command."""
        environment = self.environment | dict(env or {})
        return subprocess.Popen(
            self.argv(argv, cwd), env=environment, stdin=stdin, stdout=stdout, stderr=stderr, text=True
        )

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        """Run kubectl inside; returns what it prints."""
        return self.run(["kubectl", *arguments], input=input).stdout

    def load_image(self, archive: Path) -> None:
        """Import an image (OCI or Docker archive) into the node; pods find it by its name, without pulling."""
        with step(f"importing {archive.name}", "up to 10 s"):
            self.run(["ctr", "--namespace=k8s.io", "images", "import", archive.resolve()])

    def pod(self, namespace: str, name: str) -> dict[str, Any]:
        """A pod, as the API server has it."""
        pod: dict[str, Any] = json.loads(self.kubectl("get", "pod", name, "-n", namespace, "-o", "json"))
        return pod

    def processes(self, namespace: str, pod: str, container: str | None = None) -> list[faults.ContainerProcess]:
        """The processes of a pod's container with their ids outside, its first process first.

        Args:
            namespace: of the pod.
            pod: its name.
            container: its name; the first one by default.
        """
        return faults.container_processes(faults.container_id(self.pod(namespace, pod), container))

    @contextmanager
    def partition(self, namespace: str, pod: str) -> Iterator[None]:
        """Drop all packets from and to a pod for a while; its containers go on, and so do their connections after."""
        address = self.pod(namespace, pod)["status"]["podIP"]
        table = f"partition-{address.replace('.', '-')}"
        self.run(["nft", "-f", "-"], input=faults.partition_rules(table, address))
        try:
            yield
        finally:
            self.run(["nft", "delete", "table", "inet", table])

    def component_pid(self, name: str) -> int:
        """The id, outside, of one of the cluster's own programs (kubelet, containerd, …).

        SIGSTOP takes it out of service; after SIGKILL it is started again within a second or two.
        """
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
            except (OSError, UnicodeDecodeError):
                continue
            if command == str(self.bin / name) and _parent(int(folder.name)) == self.pid:
                return int(folder.name)
        raise LookupError(f"{name} does not run in the cluster {self.name}")

    @property
    def _log(self) -> Path:
        return self._files.log("node")

    def _start(self, pause: Path) -> None:
        node = [sys.executable, "-m", "devcluster.node", self.name, *map(str, (self.state, self.bin, pause))]
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *node]
        environment = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        self._component = Component("the cluster", unshare, self._log, environment, detached=self._detached)
        self._component.start()
        assert self._component.pid is not None
        outer = self._component.pid
        self._component.wait_until(lambda: _child(outer) is not None)
        inner = _child(outer)
        assert inner is not None
        (self.state / "pid").write_text(json.dumps({"pid": inner, "started": _started(inner)}))
        self._component.wait_until(self._files.ready.exists, START_SECONDS)

    def _pid(self) -> int | None:
        try:
            known = json.loads((self.state / "pid").read_text())
        except (OSError, ValueError):
            return None
        pid = int(known["pid"])
        # The number may belong to somebody else by now; number and start time together do not.
        return pid if _started(pid) == known["started"] else None

    def _kill(self) -> None:
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        if self._component is not None:
            if pid is None:
                self._component.kill()
            self._component.stop()
        while self.running:
            time.sleep(0.05)

    def _clean(self, keep_logs: bool = False) -> None:
        if not self.state.exists():
            return
        sandbox.remove_cgroups(self._files.cgroup)
        for path in self.state.iterdir():
            if keep_logs and path.name == "logs":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not keep_logs:
            self.state.rmdir()
        if not any(Cluster(name).running for name in names()):
            sandbox.remove_fixed()


def names() -> list[str]:
    """The names of all clusters that have a state directory, running or not."""
    folder = clusters_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def remove_dead_test_clusters() -> None:
    """Remove what is left of clusters that died with the test run that owned them."""
    for name in names():
        cluster = Cluster(name)
        if name.startswith(TEMPORARY) and (cluster.state / "pid").exists() and not cluster.running:
            # Another test run may be doing the same.
            with suppress(OSError, DevClusterError):
                cluster.down()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command, from the state on; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in {"Z", "X"} else None


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _child(pid: int) -> int | None:
    for folder in Path("/proc").glob("[0-9]*"):
        if _parent(int(folder.name)) == pid:
            return int(folder.name)
    return None
