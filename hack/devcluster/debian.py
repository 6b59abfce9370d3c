"""What the whole cluster needs of Debian: which packages are missing, and their installation.

Nothing is installed that is there already, and nothing at all without root.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable

from devcluster.errors import DevClusterError
from devcluster.progress import step

CLUSTER = ("runc", "containernetworking-plugins", "nftables", "iproute2", "util-linux", "mount")
"""For a running cluster."""
IMAGES = ("buildah", "mmdebstrap", "gcc", "g++", "libc6-dev")
"""For building the project's images."""
FAULTS = ("strace",)
"""For the tests that inject faults."""
ALL = (*CLUSTER, *IMAGES, *FAULTS)


def missing(packages: Iterable[str] = ALL) -> list[str]:
    """Those of the packages that are not installed.

    Raises:
        DevClusterError: this is no Debian.
    """
    wanted = list(packages)
    if shutil.which("dpkg-query") is None:
        raise DevClusterError(
            "The whole cluster needs Debian or Ubuntu (no dpkg-query here); on another system install these by hand: "
            + " ".join(wanted)
        )
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted]
    shown = subprocess.run(query, capture_output=True, text=True).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def ensure_packages(packages: Iterable[str] = ALL) -> None:
    """Install the packages that are missing.

    Raises:
        DevClusterError: something is missing and cannot be installed; one line says what to type.
    """
    absent = missing(packages)
    if not absent:
        return
    by_hand = f"apt-get install --no-install-recommends {' '.join(absent)}"
    if os.geteuid() != 0:
        raise DevClusterError(f"Debian packages are missing. Type: sudo {by_hand}")
    with step(f"installing Debian packages: {' '.join(absent)}", "once, about 1 minute"):
        environment = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *absent]):
            result = subprocess.run(command, capture_output=True, text=True, env=environment)
            if result.returncode != 0:
                reason = (result.stderr or result.stdout).strip()[-2000:]
                raise DevClusterError(f"`{' '.join(command)}` failed; mend it, then type: {by_hand}\n{reason}")
