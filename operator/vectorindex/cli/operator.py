"""``vectorindex-operator``: stands by until it holds the Lease, then watches and reconciles, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import kopf
from aiohttp import web

from vectorindex.cli import token
from vectorindex.cli.health import MAX_LAG, MAX_RESYNC_AGE, Figure, Health, LoopLag
from vectorindex.cli.options import Options, parse_options
from vectorindex.cluster.client import ApiServer
from vectorindex.cluster.cluster import Cluster
from vectorindex.cluster.errors import ClusterError
from vectorindex.cluster.lease import LeaseStore
from vectorindex.cluster.limits import RequestLimit
from vectorindex.cluster.resources import OWN
from vectorindex.dataplane.operations import Sidecars
from vectorindex.dataplane.tokens import Signer
from vectorindex.dataplane.transport import Transport
from vectorindex.domain.election import Candidate
from vectorindex.handlers.watching import build_registry, build_settings, watch_failure
from vectorindex.reconcile.intake import Intake
from vectorindex.reconcile.keykeeping import KeyKeeper
from vectorindex.reconcile.keys import Key
from vectorindex.reconcile.leadership import Leadership, LeadershipLostError
from vectorindex.reconcile.ports import Ports
from vectorindex.reconcile.queue import KeyedQueue
from vectorindex.reconcile.reconciler import Reconciler, is_temporary
from vectorindex.reconcile.resync import Resync
from vectorindex.reconcile.seen import Seen
from vectorindex.reconcile.watchlist import Watchlist
from vectorindex.reconcile.workers import Workers
from vectorindex.wire.endpoint import Endpoint

logger = logging.getLogger("vectorindex")

WATCH_END = 5.0
"""Seconds that kopf gets to end."""
KINDS_RETRY = 2.0
"""Seconds until the kinds are looked for again, at the start."""


def main() -> int:
    """The entry point; returns the exit code."""
    if sys.argv[1:2] == [token.COMMAND]:
        return token.main(sys.argv[2:])
    options = parse_options(sys.argv[1:])
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # kopf reports each event and each handler at INFO; what matters is logged where it is decided.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # This one repeats with a traceback what comes to `_watch` as an error, or by `watch_failure`.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.CRITICAL)
    code = 0
    with asyncio.Runner() as runner:
        try:
            runner.run(run(options))
        except FatalError as error:
            print(f"vectorindex-operator: {error}", file=sys.stderr)
            code = 1
        if any(not task.done() for task in asyncio.all_tasks(runner.get_loop())):
            # Watches of kopf that do not let themselves be cancelled: everything else has been ended in order.
            logging.shutdown()
            sys.stderr.flush()
            os._exit(code)
    return code


class FatalError(Exception):
    """The operator cannot start, or must not go on; the message says why."""


def candidate(environ: Mapping[str, str] = os.environ) -> Candidate:
    """This process, among those that may lead. The processes of one pod run one after the other, by Kubernetes."""
    pod, uid = environ.get("POD_NAME"), environ.get("POD_UID")
    container = f"{pod}_{uid}_" if pod and uid else ""
    return Candidate(f"{container or f'{socket.gethostname()}_'}{uuid.uuid4().hex[:12]}", container)


async def run(options: Options) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        FatalError: there is no way to the API server, the health port is taken, or the Lease is lost.
    """
    stop = asyncio.Event()
    stop_at_signals(stop)
    me = candidate()
    async with contextlib.AsyncExitStack() as stack:
        # The Lease has a connection of its own: renewing it waits for nothing else, and is nothing that a leader does.
        leases = LeaseStore(await _connect(stack, limit=None), options.operator_namespace, options.lease_name)
        leadership = Leadership(leases, me, options.timing, _elapsed, lambda: time.time_ns() // 1_000)
        server = await _connect(stack, RequestLimit(options.api_rate, options.api_burst), leadership.check)
        transport = await stack.enter_async_context(Transport())
        await _operate(options, me, server, transport, leadership, stop)


async def _connect(
    stack: contextlib.AsyncExitStack, limit: RequestLimit | None, check: Callable[[], None] = lambda: None
) -> ApiServer:
    try:
        server = await ApiServer.connect(limit, check)
    except Exception as error:
        raise FatalError(f"no way to the API server: {error}") from error
    stack.push_async_callback(server.close)
    return server


async def _operate(
    options: Options,
    me: Candidate,
    server: ApiServer,
    transport: Transport,
    leadership: Leadership,
    stop: asyncio.Event,
) -> None:
    cluster = Cluster(server, instance=me.name)
    signer = Signer(time.time)
    keys = KeyKeeper(cluster, options.operator_namespace, signer.use, lambda: resync.ask(), now)

    def headers(endpoint: Endpoint) -> Mapping[str, str]:
        return {**leadership.headers(endpoint), **signer.headers(endpoint)}

    ports = Ports(cluster, Sidecars(transport, headers, leadership.outbid), now, keys.public_keys)
    queue = KeyedQueue(time.monotonic, random.Random())  # noqa: S311 - jitter
    watchlist, seen = Watchlist(), Seen()

    async def reconcile(key: Key) -> float | None:
        return await reconciler.reconcile(key)

    workers = Workers(queue, reconcile, is_temporary)
    namespaces: list[str | None] = list(options.namespaces) or [None]
    reconciler = Reconciler(ports, watchlist, seen, options.default_image, workers.enter, namespaces)
    intake = Intake(watchlist, seen, workers.enter, now)
    resync = Resync(cluster, intake, seen, namespaces, time.monotonic)

    async def watch_and_reconcile() -> None:
        await _kinds_served(cluster, namespaces)
        await keys.obtain()
        logger.info("watching %s", ", ".join(options.namespaces) or "all namespaces")
        async with asyncio.TaskGroup() as group:
            group.create_task(resync.run())
            group.create_task(keys.run())
            await resync.tried.wait()  # or each index would be asked for by itself, instead of all by a few lists
            group.create_task(workers.run())
            group.create_task(_watch(intake, me, options.namespaces, stop))

    async def work() -> None:
        await leadership.acquire()
        async with asyncio.TaskGroup() as group:
            group.create_task(leadership.keep())
            group.create_task(watch_and_reconcile())

    lag = LoopLag(time.monotonic)
    health = await _serve_health(options, lag, leadership, resync)
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
        await leadership.release()
        await health.cleanup()
    for result in results:
        if isinstance(result, BaseExceptionGroup) and (lost := result.subgroup(LeadershipLostError)):
            raise FatalError(f"the Lease {options.operator_namespace}/{options.lease_name} is lost: {_first(lost)}")
        if isinstance(result, BaseExceptionGroup) and (fatal := result.subgroup(FatalError)):
            raise _first(fatal)
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of the exceptions of a group of groups."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _serve_health(options: Options, lag: LoopLag, leadership: Leadership, resync: Resync) -> web.AppRunner:
    figures = (
        Figure("loopLagSeconds", lambda: lag.seconds, MAX_LAG),
        Figure("leaseAgeSeconds", lambda: leadership.lease_age, options.timing.duration),
        Figure("resyncAgeSeconds", lambda: resync.age, MAX_RESYNC_AGE),
    )
    health = Health(figures, lambda: leadership.leads, lambda: leadership.heard)
    try:
        return await health.serve(options.health_host, options.health_port)
    except OSError as error:
        raise FatalError(f"cannot listen on port {options.health_port} for /healthz: {error.strerror}") from error


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


async def _watch(intake: Intake, me: Candidate, namespaces: Sequence[str], stop: asyncio.Event) -> None:
    """Watch until cancelled. While it starts, kopf takes the signals for itself: so they are taken back, and until
    then an end of kopf without an error is a signal.

    Raises:
        FatalError: a watch was given up. Not all others may let themselves be ended, and begin anew: the process does.
    """
    started, failed = asyncio.Event(), watch_failure()
    watching = asyncio.create_task(
        kopf.operator(
            registry=build_registry(intake),
            settings=build_settings(),
            standalone=True,
            # kopf would ask for the user's name otherwise, and the user of a container has none.
            identity=cast(Any, me.name),
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
        ends: list[asyncio.Future[Any]] = [watching, failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise FatalError(failed.result())
        await watching
        stop.set()
    finally:
        watching.cancel()
        await asyncio.wait([watching], timeout=WATCH_END)


def stop_at_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` at SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def now() -> datetime:
    """The time as the API keeps it: whole seconds of UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def _elapsed() -> float:
    """Seconds, also those for which the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    sys.exit(main())
