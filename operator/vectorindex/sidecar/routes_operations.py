"""The operations API, which the operator speaks: operations named by the caller, state, configuration."""

from __future__ import annotations

import re
from typing import Annotated

from aiohttp import web
from pydantic import Field, RootModel

from vectorindex.sidecar import requests
from vectorindex.sidecar.catalog import Catalog
from vectorindex.sidecar.errors import BadRequest
from vectorindex.sidecar.fence import Fence
from vectorindex.sidecar.index import Index
from vectorindex.wire.base import WireModel
from vectorindex.wire.operations import DeletePreview, DeleteRequest, OperationBody, OperationList, pack_bitmap
from vectorindex.wire.state import Configuration

_ID = re.compile(r"[A-Za-z0-9_.-]{1,253}", re.ASCII)


class _Body(RootModel[Annotated[OperationBody, Field(discriminator="kind")]]):
    """The body of a PUT: its ``kind`` says which kind it is."""


def routes(catalog: Catalog, fence: Fence) -> list[web.RouteDef]:
    api = _OperationsApi(catalog)
    guards = fence.guards
    index = "/v1/indexes/{name}"
    return [
        web.get(f"{index}/state", guards(api.state)),
        web.put(f"{index}/configuration", guards(api.configure, changes=True)),
        web.get(f"{index}/operations", guards(api.list_operations)),
        web.put(f"{index}/operations/{{id}}", guards(api.put, changes=True)),
        web.get(f"{index}/operations/{{id}}", guards(api.get)),
        web.delete(f"{index}/operations/{{id}}", guards(api.cancel, changes=True)),
        web.post(f"{index}/delete-preview", guards(api.preview_delete)),
    ]


class _OperationsApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def state(self, request: web.Request) -> web.Response:
        return _answer(await self._index(request).state())

    async def configure(self, request: web.Request) -> web.Response:
        index = self._index(request)
        await index.configure(await requests.read(request, Configuration))
        return _answer(await index.state())

    async def list_operations(self, request: web.Request) -> web.Response:
        operations = await self._index(request).operations.all()
        return _answer(OperationList(volume_id=self._catalog.volume_id, operations=operations))

    async def put(self, request: web.Request) -> web.Response:
        index, identity = self._index(request), _identity(request)
        body = await requests.read(request, _Body)
        return _answer(await index.operations.put(identity, body.root))

    async def get(self, request: web.Request) -> web.Response:
        return _answer(await self._index(request).operations.get(_identity(request)))

    async def cancel(self, request: web.Request) -> web.Response:
        return _answer(await self._index(request).operations.cancel(_identity(request)))

    async def preview_delete(self, request: web.Request) -> web.Response:
        index = self._index(request)
        body = await requests.read(request, DeleteRequest)
        preview = await index.preview_delete(body.external_ids)
        found = preview.found.tolist()
        return _answer(
            DeletePreview(
                volume_id=self._catalog.volume_id, live=preview.live, deleted=sum(found), bitmap=pack_bitmap(found)
            )
        )

    def _index(self, request: web.Request) -> Index:
        return self._catalog.get(request.match_info["name"])


def _identity(request: web.Request) -> str:
    identity = request.match_info["id"]
    if not _ID.fullmatch(identity):
        raise BadRequest(f"operation ID {identity!r}: letters, digits, '_', '-' and '.', 1 to 253 characters")
    return identity


def _answer(model: WireModel) -> web.Response:
    return web.json_response(model.to_json())
