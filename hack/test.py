"""`make test`: prepare what each tier needs, run the checks, then all tests in one pytest.

A tier that cannot run here is left out, and the last lines say which and why; under CI (environment variable CI) that
is a failure. The arguments name tiers, by default all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import check
from devcluster import build, debian, images
from devcluster.errors import DevClusterError

ROOT = Path(__file__).parent.parent


def nothing() -> None:
    """For tiers that need no more than the Python environment."""


def whole_cluster() -> None:
    """What the end-to-end tests need: root, Debian's packages, all programs, the project's image."""
    if os.geteuid() != 0:
        raise DevClusterError("a whole cluster needs root: run `sudo make test`")
    debian.ensure_packages()
    build.cluster()
    images.operator_image()


def faults() -> None:
    """What the crash tests need: root, and strace."""
    if os.geteuid() != 0:
        raise DevClusterError("strace traces the processes of others as root only: run `sudo make test`")
    debian.ensure_packages(debian.FAULTS)


@dataclass(frozen=True)
class Tier:
    """A folder of tests, what they are, and how to make the machine ready for them."""

    name: str
    about: str
    prepare: Callable[[], object]


TIERS = (
    Tier("unit", "decisions, objects, files: in memory and in temporary folders", nothing),
    Tier("sidecar", "the sidecar as a real process, over HTTP", nothing),
    Tier("crash", "the engine killed at its system calls, with errors from them, after power losses", faults),
    Tier("loop", "the reconciler in a simulated world, crashed between any two actions", nothing),
    Tier("apiserver", "a real API server, operator and sidecars as processes", build.control_plane),
    Tier("e2e", "a whole cluster, installed by Helm", whole_cluster),
)


def main(names: list[str]) -> int:
    known = {tier.name for tier in TIERS}
    if unknown := set(names) - known:
        print(f"No such tier: {', '.join(sorted(unknown))}. There are: {', '.join(sorted(known))}.", file=sys.stderr)
        return 2
    started = time.monotonic()
    folders, left_out = [], []
    for tier in TIERS:
        if names and tier.name not in names:
            continue
        try:
            tier.prepare()
        except DevClusterError as error:
            left_out.append(f"{tier.name} ({tier.about}): {error}")
        else:
            folders.append(f"tests/{tier.name}")
    if left_out and os.environ.get("CI"):
        print("Under CI nothing may be left out:", *left_out, sep="\n  ", file=sys.stderr)
        return 1

    checked = 0 if names else check.main()
    code = subprocess.run([sys.executable, "-m", "pytest", *folders], cwd=ROOT, check=False).returncode
    print(f"==> tests took {time.monotonic() - started:.0f} s, checks and set-up included", flush=True)
    if checked:
        print("==> the checks above FAILED", flush=True)
    if left_out:
        print("==> LEFT OUT:", *left_out, sep="\n  ", flush=True)
    return code or checked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
