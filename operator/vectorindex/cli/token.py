"""``vectorindex-operator token``: a token for calling a pod by hand, for whoever may read the operator's Secret."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence

from vectorindex.cli.options import add_operator_namespace
from vectorindex.cluster.client import ApiServer
from vectorindex.cluster.cluster import Cluster
from vectorindex.cluster.errors import ClusterError
from vectorindex.dataplane.tokens import sign
from vectorindex.domain.keyring import CURRENT, SECRET, read_key
from vectorindex.wire.tokens import LIFETIME, audience

COMMAND = "token"


def main(arguments: Sequence[str]) -> int:
    """Print a token; returns the exit code."""
    options = parse_options(arguments)
    namespace, _, index = options.index.partition("/")
    try:
        print(asyncio.run(_token(options.operator_namespace, audience(namespace, index, options.pod))))
    except TokenError as error:
        print(f"vectorindex-operator {COMMAND}: {error}", file=sys.stderr)
        return 1
    return 0


class TokenError(Exception):
    """There is no token; the message says why."""


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"vectorindex-operator {COMMAND}",
        description=f"Print a token with which one pod may be called by hand for {LIFETIME // 60} minutes: "
        'curl --header "Authorization: Bearer $TOKEN" http://POD:8080/v1/indexes/NAME/state',
        epilog="It reads the operator's Secret by the kubeconfig file that KUBECONFIG names, or in the operator's pod: "
        f"kubectl exec deploy/vectorindex-operator -- vectorindex-operator {COMMAND} --index NAMESPACE/NAME --pod POD",
    )
    parser.add_argument("--index", required=True, metavar="NAMESPACE/NAME", help="the VectorIndex")
    parser.add_argument("--pod", required=True, metavar="POD", help="the pod that is to be called")
    add_operator_namespace(parser, os.environ)
    options = parser.parse_args(arguments)
    if options.index.count("/") != 1:
        parser.error("--index is NAMESPACE/NAME")
    return options


async def _token(namespace: str, wanted: str) -> str:
    try:
        server = await ApiServer.connect(None)
    except Exception as error:
        raise TokenError(f"no way to the API server: {error}") from error
    try:
        secret = await Cluster(server, instance="").get("Secret", namespace, SECRET)
    except ClusterError as error:
        raise TokenError(str(error)) from error
    finally:
        await server.close()
    key = read_key(secret, CURRENT)
    if isinstance(key, str):
        raise TokenError(f"Secret {SECRET} in {namespace}: {key}")
    return sign(key, wanted, int(time.time()))
