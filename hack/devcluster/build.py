"""The programs of the cluster, built once and kept.

Invariant: `<cache>/<hash of the modules' files>/bin` holds only whole programs, each moved there after its build
ended well; while the hash stands nothing is built again, and two builds never run at the same time.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import oci, paths
from devcluster.errors import DevClusterError
from devcluster.go import environment, go
from devcluster.progress import say, step

KUBERNETES_VERSION = "v1.37.2"
PAUSE_TAG = "devcluster.local/pause:1"


@dataclass(frozen=True)
class Program:
    """One `go build`."""

    name: str
    module: str
    """Folder of the module, below tools/."""
    package: str = "."
    called: tuple[str, ...] = ()
    """Names by which a multi-call program is called."""
    link: str = ""
    """Further flags of the linker."""
    tags: str = ""
    usually: str = field(default="", repr=False)
    """How long it takes the first time."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that must be there: the program and its symlinks."""
        return (self.name, *self.called)


_VERSION = "k8s.io/component-base/version"
KUBERNETES = Program(
    "kubernetes",
    "kubernetes",
    called=(
        "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
        "helm",
    ),
    link=f"-X {_VERSION}.gitVersion={KUBERNETES_VERSION} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=37",
    usually="once, 6 to 10 minutes on 2 cores",
)  # fmt: skip
_CONTAINERD_TAGS = "no_btrfs no_zfs no_devmapper"
NODE_PROGRAMS = (
    Program("containerd", "containerd", called=("ctr",), tags=_CONTAINERD_TAGS, usually="once, 1 minute"),
    Program("containerd-shim-runc-v2", "containerd", "./shim", tags=_CONTAINERD_TAGS, usually="once, 5 s"),
    Program("coredns", "coredns", usually="once, 1 minute"),
    Program("pause", "pause", usually="once, 2 s"),
)


def control_plane() -> Path:
    """Build what the control plane tier needs: etcd, API server, controller manager, kubectl, helm. No root.

    Returns:
        The folder with the programs.
    """
    return _build([KUBERNETES])


def cluster() -> Path:
    """Build everything.

    Returns:
        The folder with the programs.
    """
    return _build([KUBERNETES, *NODE_PROGRAMS])


def pause_image() -> Path:
    """Make the image of a pod's sandbox, tagged `PAUSE_TAG`.

    Returns:
        An OCI archive.
    """
    folder = cluster()
    archive = folder.parent / "pause.tar"
    if not archive.exists():
        temporary = archive.with_suffix(f".{os.getpid()}.tmp")
        oci.write_archive(temporary, PAUSE_TAG, {"pause": folder / "pause"}, ["/pause"])
        temporary.replace(archive)
    return archive


def folder() -> Path:
    """Where the programs lie, or will lie after a build."""
    digest = hashlib.sha256()
    for path in sorted(paths.TOOLS.rglob("*")):
        if path.suffix in {".go", ".mod", ".sum"}:
            digest.update(f"{path.relative_to(paths.TOOLS)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    digest.update(repr((KUBERNETES, NODE_PROGRAMS)).encode())
    return paths.cache() / digest.hexdigest()[:16] / "bin"


def _build(programs: Sequence[Program]) -> Path:
    target = folder()
    if not _missing(programs, target):
        return target
    with _lock():
        missing = _missing(programs, target)
        if missing:
            target.mkdir(parents=True, exist_ok=True)
            toolchain = go()
            for program in missing:
                with step(f"building {program.name}", program.usually):
                    _go_build(program, toolchain, target)
    return target


def _missing(programs: Sequence[Program], target: Path) -> list[Program]:
    return [program for program in programs if not all((target / name).exists() for name in program.files)]


def _go_build(program: Program, toolchain: Path, target: Path) -> None:
    command: list[str | Path] = [toolchain, "build", "-trimpath", "-buildvcs=false", "-mod=readonly"]
    command += [f"-ldflags=-s -w {program.link}", f"-tags={program.tags}"]
    temporary = Path(tempfile.mkdtemp(prefix=f"{program.name}-", dir=target.parent))
    try:
        command += ["-o", temporary / program.name, program.package]
        result = subprocess.run(
            command,
            cwd=paths.TOOLS / program.module,
            env=environment(toolchain),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if result.returncode != 0:
            raise DevClusterError(f"Building {program.name} failed:\n{result.stdout[-4000:]}")
        # The program itself last: whoever sees it sees its names too.
        for name in program.called:
            (temporary / name).symlink_to(program.name)
            (temporary / name).replace(target / name)
        (temporary / program.name).replace(target / program.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _lock() -> Iterator[None]:
    """One build at a time; the lock goes with the process that holds it."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    with (paths.cache() / "build.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build of the cluster's programs is under way: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
