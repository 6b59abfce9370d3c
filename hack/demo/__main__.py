"""Make the machine and a cluster ready, then tell the story inside it. KEEP=1 leaves the cluster for you."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from devcluster import build, debian, images
from devcluster.cluster import Cluster
from devcluster.errors import DevClusterError

ROOT = Path(__file__).parents[2]
NAME = "demo"


def main() -> int:
    started = time.monotonic()
    keep = os.environ.get("KEEP", "") not in {"", "0"}
    print(
        "The demo needs a real Kubernetes. The first time it builds one from source, in about 15 minutes;", flush=True
    )
    print("later it starts within seconds. Nothing outside of the cache folder and of Debian's packages is changed.\n")
    try:
        if os.geteuid() != 0:
            raise DevClusterError("a whole cluster needs root: run `sudo make demo`")
        debian.ensure_packages(debian.CLUSTER)
        build.cluster()
        image = images.operator_image()
        cluster = Cluster(NAME, detached=keep)
        if cluster.running:
            raise DevClusterError(f"a kept demo runs already; end it first: {devcluster('down')}")
        cluster.start()
        try:
            cluster.load_image(image)
            prepared = time.monotonic() - started
            print(f"\nThe cluster is ready after {prepared:.0f} s. Now the story.", flush=True)
            told = cluster.run([sys.executable, "-m", "demo.story"], check=False, capture=False, cwd=ROOT)
        finally:
            if not keep:
                cluster.down()
    except DevClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if keep:
        print(
            "\nThe cluster goes on running, and its pods serve. A shell inside, where kubectl and helm work:\n\n"
            f"    {devcluster('shell')}\n    kubectl config set-context --current --namespace demo\n"
            "    kubectl get vectorindex-io,pods\n    kubectl describe vi nouns\n    kubectl explain vireb.spec\n\n"
            f"Away with it:\n\n    {devcluster('down')}"
        )
    print(f"\nThe whole demo took {time.monotonic() - started:.0f} s.")
    return told.returncode


def devcluster(command: str) -> str:
    return f"PYTHONPATH=hack .venv/bin/python -m devcluster {command} --name {NAME}"


if __name__ == "__main__":
    sys.exit(main())
