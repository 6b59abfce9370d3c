"""``vectorindex-operator``: watches, reconciles, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from vectorindex.cli.health import Health, LoopLag
from vectorindex.cluster.client import ApiServer
from vectorindex.cluster.cluster import Cluster
from vectorindex.cluster.errors import ClusterError
from vectorindex.cluster.resources import OWN
from vectorindex.dataplane.operations import Sidecars
from vectorindex.dataplane.transport import Transport
from vectorindex.handlers.watching import build_registry, build_settings
from vectorindex.reconcile.intake import Intake
from vectorindex.reconcile.keys import Key
from vectorindex.reconcile.ports import Ports
from vectorindex.reconcile.queue import KeyedQueue
from vectorindex.reconcile.reconciler import Reconciler, is_temporary
from vectorindex.reconcile.resync import Resync
from vectorindex.reconcile.watchlist import Watchlist
from vectorindex.reconcile.workers import Workers

logger = logging.getLogger("vectorindex")

INSTANCE = f"{socket.gethostname()}-{os.getpid()}"[:128]
"""This process, in the Events that it writes."""

KINDS_RETRY = 2.0
"""Seconds until the kinds are looked for again, at the start."""


def main() -> int:
    """The entry point; returns the exit code."""
    options = parse_options(sys.argv[1:])
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # kopf reports each event and each handler at INFO; what matters is logged where it is decided.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        asyncio.run(run(options))
    except Startup as error:
        print(f"vectorindex-operator: {error}", file=sys.stderr)
        return 1
    return 0


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vectorindex-operator",
        description="Maintains vector indexes, as VectorIndex objects and their maintenance runs describe.",
        epilog="It talks to the API server by the kubeconfig file that KUBECONFIG names, or by its service account.",
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
        default=os.environ.get("VECTORINDEX_IMAGE"),
        help="the sidecar's image where a VectorIndex names none (default: the environment's VECTORINDEX_IMAGE)",
    )
    parser.add_argument("--health-host", metavar="ADDRESS", default="0.0.0.0", help="address of /healthz")  # noqa: S104
    parser.add_argument("--health-port", metavar="PORT", type=int, default=8080, help="port of /healthz")
    parser.add_argument("--verbose", action="store_true", help="log what is done in detail")
    options = parser.parse_args(arguments)
    if not options.default_image:
        parser.error("give the sidecar's image: --default-image, or VECTORINDEX_IMAGE in the environment")
    return options


class Startup(Exception):
    """The operator cannot start; the message says why."""


async def run(options: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        Startup: there is no way to the API server, or the health port is taken.
    """
    stop = asyncio.Event()
    stop_at_signals(stop)
    try:
        server = await ApiServer.connect()
    except Exception as error:
        raise Startup(f"no way to the API server: {error}") from error
    try:
        async with Transport() as transport:
            await _operate(options, server, transport, stop)
    finally:
        await server.close()


async def _operate(options: argparse.Namespace, server: ApiServer, transport: Transport, stop: asyncio.Event) -> None:
    cluster = Cluster(server, instance=INSTANCE)
    ports = Ports(cluster, Sidecars(transport), now)
    queue = KeyedQueue(time.monotonic, random.Random())  # noqa: S311 - jitter
    watchlist = Watchlist()

    async def reconcile(key: Key) -> float | None:
        return await reconciler.reconcile(key)

    workers = Workers(queue, reconcile, is_temporary)
    reconciler = Reconciler(ports, watchlist, options.default_image, workers.enter)
    intake = Intake(watchlist, workers.enter, now)
    namespaces: list[str | None] = list(options.namespace or []) or [None]
    resync = Resync(cluster, intake, namespaces, time.monotonic)
    lag = LoopLag(time.monotonic)
    try:
        health = await Health(lag, lambda: resync.age).serve(options.health_host, options.health_port)
    except OSError as error:
        raise Startup(f"cannot listen on port {options.health_port} for /healthz: {error.strerror}") from error

    async def work() -> None:
        await _kinds_served(cluster, namespaces)
        logger.info("watching %s", ", ".join(options.namespace or []) or "all namespaces")
        async with asyncio.TaskGroup() as group:
            group.create_task(workers.run())
            group.create_task(resync.run())
            group.create_task(_watch(intake, options.namespace or [], stop))

    tasks = [asyncio.create_task(lag.run()), asyncio.create_task(work())]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            logger.info("stopping")
    finally:
        for task in (*tasks, stopped):
            task.cancel()
        results = await asyncio.gather(*tasks, stopped, return_exceptions=True)
        await health.cleanup()
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _kinds_served(cluster: Cluster, namespaces: Sequence[str | None]) -> None:
    """Wait until the API server serves our kinds: kopf looks for them once."""
    said = False
    while True:
        try:
            missing = [
                resource.plural
                for resource in OWN
                for namespace in namespaces
                if not await cluster.serves(resource, namespace)
            ]
        except ClusterError as error:
            logger.warning("%s; it will be tried again", error)
        else:
            if not missing:
                return
            if not said:
                logger.warning(
                    "waiting for the CustomResourceDefinitions of %s: install them", ", ".join(dict.fromkeys(missing))
                )
                said = True
        await asyncio.sleep(KINDS_RETRY)


async def _watch(intake: Intake, namespaces: Sequence[str], stop: asyncio.Event) -> None:
    """Watch until cancelled. While it starts, kopf takes the signals for itself: so they are taken back, and until
    then an end of kopf without an error is a signal."""
    started = asyncio.Event()
    watching = asyncio.create_task(
        kopf.operator(
            registry=build_registry(intake),
            settings=build_settings(),
            standalone=True,
            # kopf would ask for the user's name otherwise, and the user of a container has none.
            identity=cast(Any, INSTANCE),
            clusterwide=not namespaces,
            namespaces=namespaces,
            ready_flag=started,
        )
    )
    try:
        ready = asyncio.create_task(started.wait())
        await asyncio.wait([watching, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        stop_at_signals(stop)
        await watching
        stop.set()
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def stop_at_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` at SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def now() -> datetime:
    """The time as the API keeps it: whole seconds of UTC."""
    return datetime.now(UTC).replace(microsecond=0)


if __name__ == "__main__":
    sys.exit(main())
