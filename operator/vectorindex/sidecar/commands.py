"""``vectorindex-sidecar import | export | snapshot | restore``: what is done to a data folder by hand.

A command holds the folder like a sidecar does, so that never two programs have an index open. Only a snapshot can be
had of an index that serves: its sidecar makes it, asked by ``--url``. Steps are logged to stderr, one closing line goes
to stdout. Exit codes: 0 done; 1 refused or failed, nothing has changed and stderr says why; 2 a wrong command line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import aiohttp

from vectorindex.engine import plain, snapshot
from vectorindex.engine.catalog import index_folder
from vectorindex.engine.folders import remove_unfinished
from vectorindex.engine.params import Metric
from vectorindex.engine.store import Store
from vectorindex.sidecar import log
from vectorindex.sidecar.errors import CommandFailed
from vectorindex.sidecar.volume import Volume
from vectorindex.wire.snapshots import SnapshotRequest, SnapshotStatus

COMMANDS = ("import", "export", "snapshot", "restore")

_SNAPSHOT_SECONDS = 3600.0  # of silence, while a sidecar copies and verifies

_IMPORT_HELP = """\
Make a new index of a plain hnswlib file (any M, 2 to 512) and the list of its IDs.

Line i of the list, counted from 0, is the ID of label i: one ID a line, in UTF-8, 1 to 512 bytes, no control
characters. Labels may have gaps; a line whose label is not in the file is ignored, and counted in the closing line.
Refused are a label without a line, and one ID for two items. Items that are marked as deleted are left out and need no
line. With --metric Cosine the file must be of hnswlib's space "cosine", whose vectors have length 1.

M and ef_construction are taken from the file. It is verified before hnswlib loads it; neither file is changed.
"""


def run(arguments: list[str]) -> str:
    """Do what the command line says; returns the closing line. Raises EngineError, StartRefused, CommandFailed,
    OSError, SystemExit (a wrong command line)."""
    given = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], str] = given.run
    return command(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vectorindex-sidecar")
    commands = parser.add_subparsers(required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], str], text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, description=text, parents=parents, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        made.set_defaults(run=run)
        return made

    data_dir = argparse.ArgumentParser(add_help=False)
    _add_data_dir(data_dir, required=True)

    importing = command("import", _import, _IMPORT_HELP, data_dir)
    importing.add_argument("--index", required=True, metavar="NAME", help="the index to make; it must not exist")
    importing.add_argument("--hnsw", type=Path, required=True, metavar="FILE", help="what save_index wrote")
    importing.add_argument("--ids", type=Path, required=True, metavar="FILE", help="the list of IDs")
    importing.add_argument("--dimensions", type=int, required=True, metavar="N")
    importing.add_argument("--metric", required=True, choices=[metric.value for metric in Metric])

    exporting = command(
        "export", _export, "Write an index as plain hnswlib files with their IDs into a new folder.", data_dir
    )
    exporting.add_argument("--index", required=True, metavar="NAME")
    exporting.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="it must not exist")

    taking = command("snapshot", _snapshot, "Make a consistent copy of an index, also while a sidecar serves it.")
    where = taking.add_mutually_exclusive_group(required=True)
    _add_data_dir(where, required=False)
    where.add_argument("--url", help="the sidecar that serves the index, for example http://127.0.0.1:8080")
    taking.add_argument("--token", help="with --url, for a pod: what `vectorindex-operator token` prints")
    taking.add_argument("--index", required=True, metavar="NAME")
    placed = "it must not exist; with --url a name below the volume's snapshots/NAME/"
    taking.add_argument("--to", required=True, metavar="FOLDER", help=placed)

    restoring = command("restore", _restore, "Make a new index of a snapshot, which is left as it is.", data_dir)
    restoring.add_argument("--from", dest="source", type=Path, required=True, metavar="FOLDER")
    restoring.add_argument("--index", metavar="NAME", help="a name other than the snapshot's; it must not exist")
    return parser


def _add_data_dir(parser: argparse._ActionsContainer, required: bool) -> None:
    help_ = "the data folder; no sidecar may be running on it"
    parser.add_argument("--data-dir", type=Path, metavar="DIR", required=required, help=help_)


def _import(given: argparse.Namespace) -> str:
    with _volume(given.data_dir) as indexes:
        made = plain.import_hnsw(
            indexes, given.index, given.hnsw, given.ids, given.dimensions, Metric(given.metric), _report
        )
    parameters = made.spec.parameters
    notes = [f"M {parameters.m}, ef_construction {parameters.ef_construction}", f"unreachable: {made.unreachable:,}"]
    if made.deleted:
        notes.append(f"deleted and left out: {made.deleted:,}")
    if made.unused_lines:
        notes.append(f"unused lines of {given.ids.name}: {made.unused_lines:,}")
    return f"imported {made.live:,} items into index {given.index}: {'; '.join(notes)}"


def _export(given: argparse.Namespace) -> str:
    with _store(given.data_dir, given.index) as store:
        made = plain.export_hnsw(store, given.to, _report)
    return (
        f"exported {made.live:,} items of index {given.index} to {given.to}: {', '.join(made.graphs)};"
        f" deleted ones, which are marked: {made.deleted:,}"
    )


def _snapshot(given: argparse.Namespace) -> str:
    if given.url is not None:
        taken = asyncio.run(_ask_for_snapshot(given.url, given.token, given.index, given.to))
        return (
            f"snapshot of index {given.index} at {taken.sequence:,}: {taken.counts.live:,} items,"
            f" {taken.bytes:,} bytes, in {taken.path} of the volume {taken.volume_id}"
        )
    folder = Path(given.to)
    with _store(given.data_dir, given.index) as store:
        _report(f"copying to {folder}")
        made = snapshot.take(folder, lambda draft: snapshot.seal(store, draft))
    return (
        f"snapshot of index {given.index} at {made.sequence:,}: {made.counts.live:,} items, {made.size:,} bytes,"
        f" in {folder}"
    )


def _restore(given: argparse.Namespace) -> str:
    described = snapshot.read_snapshot(given.source)  # before a data folder is made for it
    with _volume(given.data_dir) as indexes:
        _report(f"copying and verifying {given.source}")
        made = snapshot.restore(given.source, indexes, given.index)
    return f"restored index {made.spec.name} at {made.sequence:,}: {made.counts.live:,} items, {described.size:,} bytes"


async def _ask_for_snapshot(url: str, token: str | None, index: str, name: str) -> SnapshotStatus:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SNAPSHOT_SECONDS)
    body = SnapshotRequest.model_construct(name=name).to_json()  # the sidecar judges it
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.post(f"{url.rstrip('/')}/v1/indexes/{index}/snapshots", json=body) as response,
        ):
            content = await response.read()
            if response.status == 200:
                return SnapshotStatus.model_validate_json(content)
            raise CommandFailed(f"{url} answered {response.status}: {json.loads(content)['detail']}")
    except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError) as error:
        raise CommandFailed(f"{url} did not answer as a sidecar: {error or type(error).__name__}") from error


@contextmanager
def _volume(data_dir: Path) -> Iterator[Path]:
    """The folder of the indexes, which nobody else uses meanwhile. Raises StartRefused."""
    with closing(Volume(data_dir)) as volume:
        remove_unfinished(volume.indexes)
        yield volume.indexes


@contextmanager
def _store(data_dir: Path, name: str) -> Iterator[Store]:
    """An index that nobody serves. Raises IndexNotFound before it makes a data folder, StartRefused, CorruptFile."""
    index_folder(data_dir / "indexes", name)
    with _volume(data_dir) as indexes, closing(Store.open(indexes / name)) as store:
        yield store


def _report(step: str) -> None:
    log.info("step", doing=step)
