"""Snapshots over HTTP, beside the operations of the index that they are of."""

from __future__ import annotations

import re

from aiohttp import web

from vectorindex.sidecar import requests
from vectorindex.sidecar.catalog import Catalog
from vectorindex.sidecar.errors import BadRequest
from vectorindex.wire.snapshots import SNAPSHOT_NAME, SnapshotRequest

_NAME = re.compile(SNAPSHOT_NAME)


def routes(catalog: Catalog) -> list[web.RouteDef]:
    api = _SnapshotsApi(catalog)
    snapshots = "/v1/indexes/{name}/snapshots"
    return [
        web.get(snapshots, api.list_snapshots),
        web.post(snapshots, api.take),
        web.delete(f"{snapshots}/{{snapshot}}", api.remove),
    ]


class _SnapshotsApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def list_snapshots(self, request: web.Request) -> web.Response:
        index = requests.index_name(request)
        return web.json_response((await self._catalog.snapshots.all(index)).to_json())

    async def take(self, request: web.Request) -> web.Response:
        index = self._catalog.get(request.match_info["name"])
        body = await requests.read(request, SnapshotRequest)
        return web.json_response((await self._catalog.snapshots.take(index, body.name)).to_json())

    async def remove(self, request: web.Request) -> web.Response:
        index, name = requests.index_name(request), request.match_info["snapshot"]
        if not _NAME.fullmatch(name):
            raise BadRequest(f"snapshot {name!r}: letters, digits, '_', '-' and, not first, '.'; 1 to 128 characters")
        await self._catalog.snapshots.remove(index, name)
        return web.json_response((await self._catalog.snapshots.all(index)).to_json())
