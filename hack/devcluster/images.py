"""The image of operator and sidecar, built without a registry and without Docker.

Invariant: nothing is built twice. Base, wheels of the dependencies and the image's archive are kept below
`<cache>/images` under the hash of all that goes into each, and appear there only once they are whole.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from devcluster import debian, paths
from devcluster.errors import DevClusterError
from devcluster.progress import say, step

OPERATOR_TAG = "docker.io/library/vectorindex-operator:dev"
"""Full name of the image; a pod may say `vectorindex-operator:dev`, which is the same."""

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (3, 11)
"""Python of the base, and so of the wheels."""

_KEPT_ARCHIVES = 3
_DEPENDENCIES = "localhost/vectorindex-dependencies"
_BASE = (
    "--variant=minbase",
    "--include=python3,python3-venv,libstdc++6",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    # Where this machine gets its packages from is nobody else's business.
    '--customize-hook=rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*',
    '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/hostname "$1"/etc/resolv.conf',
    "bookworm",
)
# hnswlib has no wheel. Left alone it builds for the very CPU that builds it, and links OpenMP without using it. New
# releases of setuptools compile C++ with CXXFLAGS, old ones with CFLAGS; with neither it has no AVX, and takes half as
# long again.
_COMPILER = {
    "HNSWLIB_NO_NATIVE": "1",
    "CFLAGS": "-march=x86-64-v3",
    "CXXFLAGS": "-march=x86-64-v3",
    "LDFLAGS": "-Wl,--as-needed,--strip-all",
}
_BUILDAH = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}


def operator_image() -> Path:
    """Build the image of operator and sidecar from the working tree.

    Returns:
        An OCI archive, for `ctr -n k8s.io images import`; inside it the image is called `OPERATOR_TAG`.

    Raises:
        DevClusterError: a program is missing, or a build failed; the message says which and why.
    """
    archive = _folder() / f"operator-{_digest(_sources(), _BASE, _COMPILER)}.tar"
    if not archive.exists():
        debian.ensure_packages(debian.IMAGES)
        with _lock():
            if not archive.exists():
                _build(archive)
    archive.touch()
    return archive


def _build(archive: Path) -> None:
    if os.geteuid() != 0:
        raise DevClusterError("The image is built by buildah without user namespaces, which needs root: use sudo.")
    base, dependencies = _base(), _dependencies()
    with _temporary() as context:
        wheels = context / "build" / "wheels"
        shutil.copytree(dependencies, wheels / "dependencies", copy_function=os.link)
        with step("building the project's wheel", "30 s"):
            _pip_wheel(["--no-deps", str(ROOT)], wheels / "project")
        with step("building the image", "25 s, 10 s while requirements.lock stands"):
            build: list[str | Path] = [
                "--layers",
                "--pull-never",
                "--build-arg",
                f"BASE={base}",
                "--file",
                ROOT / "Dockerfile",
            ]
            # The stage gets a name, so that it stays when what is unused goes.
            _buildah("bud", *build, "--target", "dependencies", "--tag", _DEPENDENCIES, context)
            _buildah("bud", *build, "--tag", OPERATOR_TAG, context)
            _buildah("rmi", "--prune")
        with step("writing the image's archive", "5 s"):
            written = context / "image.tar"
            _buildah("push", OPERATOR_TAG, f"oci-archive:{written}:{OPERATOR_TAG}")
            written.replace(archive)
    for path in sorted(_folder().glob("operator-*.tar"), key=lambda path: path.stat().st_mtime)[:-_KEPT_ARCHIVES]:
        path.unlink()


def _base() -> str:
    """Name of the base: Debian with Python, made here where no registry can be reached."""
    name = f"localhost/vectorindex-base:{_digest(_BASE)}"
    if _buildah("images", "--quiet", "--filter", f"reference={name}"):
        return name
    with step("building the base of the image with Debian's packages", "30 s, once"), _temporary() as folder:
        tarball = folder / "base.tar"
        _run(["mmdebstrap", *_BASE, tarball])
        container = _buildah("from", "scratch")
        try:
            _buildah("add", container, tarball, "/")
            _buildah("commit", container, name)
        finally:
            _buildah("rm", container)
    return name


def _dependencies() -> Path:
    """Folder of wheels: exactly what requirements.lock names, compiled for any x86-64-v3 machine."""
    lock = ROOT / "requirements.lock"
    wheels = _folder() / f"wheels-{_digest([lock.read_bytes()], PYTHON, _COMPILER)}"
    if not wheels.exists():
        with step("building the wheels of the dependencies", "40 s, once"), _temporary() as folder:
            # pip's own cache may hold an hnswlib that was compiled for this very CPU.
            options = ["--no-cache-dir", "--no-deps", "--require-hashes", "--requirement", str(lock)]
            _pip_wheel(options, folder / "wheels", _COMPILER)
            (folder / "wheels").replace(wheels)
    return wheels


def _pip_wheel(arguments: Sequence[str], target: Path, environment: Mapping[str, str] | None = None) -> None:
    """`pip wheel` by the Python that the base has, in an environment of its own."""
    name = ".".join(map(str, PYTHON))
    python = sys.executable if sys.version_info[:2] == PYTHON else shutil.which(f"python{name}")
    if python is None:
        raise DevClusterError(
            f"The image holds Python {name}, and its wheels are built by the same: put python{name} on PATH "
            f"(`uv python install {name}` does it anywhere)."
        )
    with _temporary() as folder:
        _run([python, "-m", "venv", folder])
        pip: list[str | Path] = [
            folder / "bin" / "python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "wheel",
            "--quiet",
        ]
        _run([*pip, "--wheel-dir", target, *arguments], environment)


def _sources() -> Iterator[bytes]:
    """All of the working tree that goes into the image."""
    files = [ROOT / name for name in ("Dockerfile", "requirements.lock", "pyproject.toml", "README.md", "LICENSE")]
    files.append(ROOT / "native" / "CMakeLists.txt")
    made = {".pyc", ".so"}
    files += sorted(path for path in (ROOT / "operator").rglob("*") if path.is_file() and path.suffix not in made)
    for path in files:
        yield f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode()
        yield path.read_bytes()


def _digest(chunks: Iterable[object], *more: object) -> str:
    digest = hashlib.sha256()
    for chunk in (*chunks, *more):
        digest.update(chunk if isinstance(chunk, bytes) else repr(chunk).encode())
    return digest.hexdigest()[:16]


def _buildah(command: str, *arguments: str | Path) -> str:
    # A store of its own: the machine's is not ours to fill, and removing the cache folder removes all.
    store = ["--root", str(_folder() / "store"), "--runroot", str(_folder() / "run")]
    return _run(["buildah", *store, command, *arguments], _BUILDAH).strip()


def _run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    result = subprocess.run(
        command, env=dict(os.environ) | dict(environment or {}), capture_output=True, text=True, errors="replace"
    )
    if result.returncode != 0:
        said = (result.stdout + result.stderr).strip()[-4000:]
        raise DevClusterError(f"`{' '.join(map(str, command))}` failed with code {result.returncode}:\n{said}")
    return result.stdout


def _folder() -> Path:
    folder = paths.cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _temporary() -> Iterator[Path]:
    """A folder on the same file system as the cache, so that results are moved into it in one step."""
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=_folder()) as name:
        yield Path(name)


@contextmanager
def _lock() -> Iterator[None]:
    """One build at a time; the lock goes with the process that holds it."""
    with (_folder() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build of the image is under way: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
