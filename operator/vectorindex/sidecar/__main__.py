"""``vectorindex-sidecar``: one process that serves the indexes of one data folder over HTTP; with a command as its
first argument it does that (:mod:`vectorindex.sidecar.commands`) and ends.

It listens before it has loaded anything, so that probes are answered from the start, and on SIGTERM it stops listening,
answers what it has, closes the stores and ends. An unfinished rebuild goes on at the next start.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from vectorindex.engine.errors import EngineError
from vectorindex.sidecar import commands, log, memory
from vectorindex.sidecar.access import Access
from vectorindex.sidecar.app import make_app
from vectorindex.sidecar.catalog import Catalog
from vectorindex.sidecar.container import container_limits
from vectorindex.sidecar.errors import CommandFailed, StartRefused
from vectorindex.sidecar.fence import Fence
from vectorindex.sidecar.identity import OwnIdentity
from vectorindex.sidecar.volume import Volume
from vectorindex.wire import environment

_SHUTDOWN_SECONDS = 5.0
_SWITCH_SECONDS = 0.0005
"""So long at most, instead of 5 ms, the event loop waits for a thread that computes: a search needs it twice."""


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    data_dir: Path
    host: str
    port: int
    identity: OwnIdentity | None


def main() -> None:
    log.configure()
    arguments = sys.argv[1:]
    if arguments and arguments[0] in commands.COMMANDS:
        _run_command(arguments)
        return
    try:
        settings = _settings(arguments)
        asyncio.run(_serve(settings))
    except StartRefused as error:
        log.warning("start-refused", why=error)
        sys.exit(f"vectorindex-sidecar: {error}")


def _run_command(arguments: list[str]) -> None:
    try:
        sys.stdout.write(f"{commands.run(arguments)}\n")
    except (EngineError, StartRefused, CommandFailed, OSError) as error:
        sys.exit(f"vectorindex-sidecar {arguments[0]}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"vectorindex-sidecar {arguments[0]}: interrupted; nothing has changed")


def _settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(
        prog="vectorindex-sidecar",
        description="Serve the vector indexes of one data folder over HTTP.",
        epilog=f"Commands, instead of serving: {', '.join(commands.COMMANDS)}; each has its own --help.",
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the indexes; made when it is missing")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--identity", type=Path, help="the operator's identity.json: serve that one index")
    parser.add_argument("--insecure", action="store_true", help="allow an address that others can reach")
    given = parser.parse_args(arguments)
    if given.identity is None and not given.insecure and not _is_loopback(given.host):
        raise StartRefused(
            f"--host {given.host} can be reached by others, and nothing checks who they are: "
            "listen on 127.0.0.1, or say --insecure if that is meant"
        )
    pod = os.environ.get(environment.POD_NAME, "")
    identity = OwnIdentity(given.identity, pod) if given.identity is not None else None
    return Settings(given.data_dir, given.host, given.port, identity)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _serve(settings: Settings) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
    allowed = memory.allowance()
    log.info("limits", cpus=container_limits().cpus, memory="unknown" if allowed is None else allowed.limit)
    volume = Volume(settings.data_dir)
    try:
        catalog = Catalog(volume, settings.identity)
        fence = Fence(volume.epoch, required=settings.identity is not None)
        catalog.prepare()
        await _serve_until_told(settings, catalog, fence)
    finally:
        volume.close()


async def _serve_until_told(settings: Settings, catalog: Catalog, fence: Fence) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    access = Access(settings.identity)
    application = make_app(catalog, access, fence)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    background: list[asyncio.Task[None]] = []
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await _listen(site, settings)
        port = runner.addresses[0][1]
        log.info("listening", host=settings.host, port=port, volume=catalog.volume_id, boot=catalog.boot_id)
        sys.stdout.write(f"vectorindex-sidecar listens on http://{_in_url(settings.host)}:{port}\n")
        sys.stdout.flush()
        if settings.identity is not None:
            background.append(asyncio.create_task(settings.identity.follow()))
        loading = asyncio.create_task(catalog.start())
        background.append(loading)
        stopping = asyncio.create_task(told.wait())
        await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            log.info("loaded", indexes=len(catalog.names()))
            await stopping
        stopping.cancel()
        log.info("stopping")
        await site.stop()
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await catalog.stop_operations()
        await runner.cleanup()
        await catalog.stop()
        log.info("stopped")


async def _listen(site: web.TCPSite, settings: Settings) -> None:
    try:
        await site.start()
    except OSError as error:
        raise StartRefused(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}") from error


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    main()
