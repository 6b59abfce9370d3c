"""`python -m devcluster`: a developer's cluster by hand.

Progress goes to standard error; what a program may want to read goes to standard output.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from devcluster import build
from devcluster.cluster import DEFAULT_NAME, Cluster, names
from devcluster.control_plane import ControlPlane
from devcluster.errors import DevClusterError
from devcluster.progress import say


def main() -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args()
    try:
        return int(_COMMANDS[arguments.command](arguments))
    except DevClusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"devcluster: {error}. The cluster belongs to root: run this with sudo, or as root.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devcluster", description="A real Kubernetes of one node, without Docker."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
    commands.add_parser("up", parents=[named], help="start a cluster and leave it running")
    commands.add_parser("down", parents=[named], help="end a cluster and remove all of it")
    commands.add_parser("shell", parents=[named], help="a shell inside, with kubectl and helm")
    run = commands.add_parser("run", parents=[named], help="run one command inside: run -- kubectl get pods")
    run.add_argument("argv", nargs="+", metavar="ARGUMENT")
    load = commands.add_parser("load-image", parents=[named], help="import an image into the node")
    load.add_argument("archive", type=Path, help="an OCI or Docker archive")
    commands.add_parser("status", help="the clusters of this machine")
    commands.add_parser("build", help="build all programs, and nothing else")
    commands.add_parser("control-plane", help="etcd, API server and controllers alone, until Ctrl-C; needs no root")
    return parser


def _up(arguments: argparse.Namespace) -> int:
    cluster = Cluster(arguments.name, detached=True)
    if cluster.running:
        say(f"the cluster {cluster.name} runs already")
    else:
        cluster.start()
    option = "" if cluster.name == DEFAULT_NAME else f" --name {cluster.name}"
    this = "python -m devcluster"
    print(f"The cluster {cluster.name} is ready. Go on with:")
    print(f"  {this} shell{option}                      a shell inside, with kubectl and helm")
    print(f"  {this} run{option} -- kubectl get nodes   one command inside")
    print(f"  {this} down{option}                       end it and remove everything")
    print(f"Its logs: {cluster.state / 'logs'}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    cluster = Cluster(arguments.name)
    if not cluster.state.exists():
        say(f"there is no cluster {arguments.name}")
        return 0
    cluster.down()
    say(f"the cluster {arguments.name} is gone")
    return 0


def _shell(arguments: argparse.Namespace) -> int:
    cluster = Cluster.attach(arguments.name)
    print(f"You are inside the cluster {cluster.name}; `exit` leads out. Try: kubectl get nodes")
    sys.stdout.flush()
    shell = os.environ.get("SHELL", "/bin/sh")
    return cluster.run([shell], capture=False, check=False).returncode


def _run(arguments: argparse.Namespace) -> int:
    return Cluster.attach(arguments.name).run(arguments.argv, capture=False, check=False).returncode


def _load_image(arguments: argparse.Namespace) -> int:
    Cluster.attach(arguments.name).load_image(arguments.archive)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    for name in names():
        cluster = Cluster(name)
        print(f"{name}\t{f'running, process {cluster.pid}' if cluster.running else 'dead'}\t{cluster.state}")
    if not names():
        say("there is no cluster")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    print(build.cluster())
    return 0


def _control_plane(arguments: argparse.Namespace) -> int:
    with ControlPlane() as control_plane:
        print(f"export KUBECONFIG={control_plane.kubeconfig}")
        print(f"export PATH={control_plane.bin}:$PATH")
        sys.stdout.flush()
        say("the control plane is ready; Ctrl-C ends it")
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


_COMMANDS = {
    "up": _up,
    "down": _down,
    "shell": _shell,
    "run": _run,
    "load-image": _load_image,
    "status": _status,
    "build": _build,
    "control-plane": _control_plane,
}

if __name__ == "__main__":
    sys.exit(main())
