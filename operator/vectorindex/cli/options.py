"""The operator's command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vectorindex.cluster.limits import BURST, RATE
from vectorindex.domain.election import Timing

LEASE = "vectorindex-operator"
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Options:
    """What the command line says. ``namespaces``: those to watch; none: all."""

    namespaces: tuple[str, ...]
    default_image: str
    operator_namespace: str
    lease_name: str
    timing: Timing
    api_rate: float
    api_burst: int
    health_host: str
    health_port: int
    verbose: bool


def parse_options(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Options:
    """Ends the process with a message where an option is wrong or missing."""
    parser = argparse.ArgumentParser(
        prog="vectorindex-operator",
        description="Maintains vector indexes, as VectorIndex objects and their maintenance runs describe.",
        epilog="It talks to the API server by the kubeconfig file that KUBECONFIG names, or by its service account. "
        "Of several operators with the same Lease one works, and the others stand by. `vectorindex-operator token` "
        "prints a token for calling a pod by hand.",
    )
    parser.add_argument(
        "--namespace",
        action="append",
        metavar="NAME",
        help="watch this namespace; may be given several times (default: all namespaces)",
    )
    parser.add_argument(
        "--default-image",
        metavar="IMAGE",
        default=environ.get("VECTORINDEX_IMAGE"),
        help="the sidecar's image where a VectorIndex names none (default: the environment's VECTORINDEX_IMAGE)",
    )
    add_operator_namespace(parser, environ)
    timing = Timing()
    lease = parser.add_argument_group("the Lease")
    lease.add_argument("--lease-name", metavar="NAME", default=LEASE, help="its name (default: %(default)s)")
    lease.add_argument(
        "--lease-duration",
        metavar="SECONDS",
        type=int,
        default=timing.duration,
        help="a standby takes a Lease that was not renewed for so long (default: %(default)s)",
    )
    lease.add_argument(
        "--renew-deadline",
        metavar="SECONDS",
        type=float,
        default=timing.renew_deadline,
        help="a leader that could not renew it for so long ends; shorter than its duration (default: %(default)g)",
    )
    lease.add_argument(
        "--retry-period",
        metavar="SECONDS",
        type=float,
        default=timing.retry,
        help="how often it is renewed, or looked at (default: %(default)g)",
    )
    requests = parser.add_argument_group("the API server")
    requests.add_argument(
        "--api-rate",
        metavar="NUMBER",
        type=_positive(float),
        default=RATE,
        help="requests a second in the long run (default: %(default)g)",
    )
    requests.add_argument(
        "--api-burst",
        metavar="NUMBER",
        type=_positive(int),
        default=BURST,
        help="requests that may begin at once after a quiet time (default: %(default)d)",
    )
    parser.add_argument(
        "--health-host",
        metavar="ADDRESS",
        default="0.0.0.0",  # noqa: S104
        help="address of /healthz and /readyz",
    )
    parser.add_argument("--health-port", metavar="PORT", type=int, default=8080, help="their port")
    parser.add_argument("--verbose", action="store_true", help="log what is done in detail")
    given = parser.parse_args(arguments)
    if not given.default_image:
        parser.error("give the sidecar's image: --default-image, or VECTORINDEX_IMAGE in the environment")
    try:
        timing = Timing(given.lease_duration, given.renew_deadline, given.retry_period)
    except ValueError as error:
        parser.error(str(error))
    return Options(
        namespaces=tuple(given.namespace or ()),
        default_image=given.default_image,
        operator_namespace=given.operator_namespace,
        lease_name=given.lease_name,
        timing=timing,
        api_rate=given.api_rate,
        api_burst=given.api_burst,
        health_host=given.health_host,
        health_port=given.health_port,
        verbose=given.verbose,
    )


def _positive(kind: type[Number]) -> Callable[[str], Number]:
    """Reads a number of an option that has to be above 0."""

    def read(text: str) -> Number:
        number = kind(text)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return number

    read.__name__ = kind.__name__  # for argparse's message about what is no number
    return read


def add_operator_namespace(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """The option --operator-namespace, which may be left out in the operator's pod."""
    found = environ.get("POD_NAMESPACE")
    parser.add_argument(
        "--operator-namespace",
        metavar="NAME",
        default=found,
        required=not found,
        help="namespace of the operator's own objects, its Lease and the Secret of its keys (default: the "
        "environment's POD_NAMESPACE)",
    )
