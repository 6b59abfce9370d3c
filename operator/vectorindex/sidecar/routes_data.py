"""The maintenance and data API: paths, names and formats of an existing public API, whose clients work unchanged."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from vectorindex.engine.session import SessionMode
from vectorindex.sidecar import requests
from vectorindex.sidecar.access import Access
from vectorindex.sidecar.catalog import Catalog
from vectorindex.sidecar.errors import BadRequest, RequestError, TooLarge, Unavailable
from vectorindex.sidecar.index import ID_BYTES, Index
from vectorindex.sidecar.limits import MAX_ANSWER_LABELS, MAX_BATCH_ROWS, MAX_EF, MAX_K
from vectorindex.wire.operations import (
    FailureReason,
    OperationState,
    OperationStatus,
    OptimizeRequest,
    RebuildRequest,
    distinct,
)

_JSON = {"Content-Type": "application/json"}


def routes(catalog: Catalog, access: Access) -> list[web.RouteDef]:
    api = _DataApi(catalog, access)
    return [
        web.get("/", api.liveness),
        web.get("/healthz", api.liveness),
        web.get("/readyz", api.readiness),
        web.get("/indexes", api.list_indexes),
        web.post("/indexes", api.create_index),
        web.post("/indexes/load", api.load_index),
        web.get("/indexes/{name}/status", api.index_status),
        web.delete("/indexes/{name}", api.close_index),
        web.post("/init", api.open_session),
        web.post("/ingest", api.ingest),
        web.post("/ingest/batch", api.ingest_batch),
        web.post("/finalize", api.finalize),
        web.post("/delete", api.delete),
        *access.for_operator([web.post("/rebuild", api.rebuild), web.post("/optimize", api.optimize)]),
        web.post("/search.bin", api.search),
        web.post("/search/batch.bin", api.search_batch),
    ]


class _DataApi:
    def __init__(self, catalog: Catalog, access: Access) -> None:
        self._catalog = catalog
        self._access = access

    async def liveness(self, _: web.Request) -> web.Response:
        failed = self._catalog.failed()
        if failed is not None:
            raise Unavailable(f"a restart is needed: {failed}")
        return web.json_response({"success": True, "message": f"{len(self._catalog.names())} indexes are loaded"})

    async def readiness(self, _: web.Request) -> web.Response:
        problem = self._catalog.not_ready()
        if problem is not None:
            raise Unavailable(problem)
        return web.json_response({"success": True, "message": "every index serves"})

    async def list_indexes(self, _: web.Request) -> web.Response:
        names = self._catalog.names()
        return web.json_response({"indexes": names, "count": len(names)})

    async def create_index(self, request: web.Request) -> web.Response:
        self._catalog.allow_administration()
        body = await requests.read(request, requests.CreateBody)
        await self._catalog.create(body.index_name, body.dim, body.metric, body.params, body.delta_ratio)
        return _done(body.index_name, "created")

    async def load_index(self, request: web.Request) -> web.Response:
        self._catalog.allow_administration()
        body = await requests.read(request, requests.IndexBody)
        await self._catalog.load(body.index_name)
        return _done(body.index_name, "loaded")

    async def close_index(self, request: web.Request) -> web.Response:
        self._catalog.allow_administration()
        name = request.match_info["name"]
        destroy = requests.boolean(request, "destroy", False)
        await self._catalog.close(name, destroy=destroy)
        return _done(name, "destroyed" if destroy else "closed")

    async def index_status(self, request: web.Request) -> web.Response:
        index = self._catalog.get(request.match_info["name"])
        state = await index.state()
        return web.json_response(
            {
                "index_name": index.name,
                "dim": index.dimensions,
                "has_index": state.counts.live + state.counts.deleted > 0,
                "needs_rebuild": state.needs_rebuild,
                "metric": state.metric,
                "counts": state.counts.to_json(),
                "bytes": state.bytes,
                "parameters": state.parameters.to_json(),
                "reasons": state.reasons,
                "figures": state.figures.to_json() if state.figures else None,
                "estimates": state.estimates.to_json() if state.estimates else None,
            }
        )

    async def open_session(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.InitBody)
        if body.mode is SessionMode.BUILD:
            self._access.require_operator(request)
        index = self._catalog.get(body.index_name)
        if body.mode is SessionMode.BUILD and self._catalog.identity is not None:
            await index.operations.refuse_while_busy("replacing every item")
        await index.open_session(body.mode)
        return _done(index.name, f"a session is open, mode {body.mode}")

    async def ingest(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.IngestBody)
        index = self._catalog.get(body.index_name)
        await index.ingest_one(body.external_id, body.vector)
        return web.json_response({"success": True})

    async def ingest_batch(self, request: web.Request) -> web.Response:
        index = self._catalog.get(requests.required(request, "index_name"))
        content = await request.read()
        count = requests.whole_rows(content, ID_BYTES + 4 * index.dimensions, "a 32 byte ID and a vector")
        await index.ingest_rows(content)
        return web.json_response({"success": True, "count": count})

    async def finalize(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.FinalizeBody)
        index = self._catalog.get(body.index_name)
        if body.optimize:
            first, second = await index.operations.finalize_and_optimize(body.params)
            operations = {"operation_id": first, "optimize_operation_id": second}
        else:
            operations = {"operation_id": await index.operations.finalize(body.params)}
        return await self._answer_operations(request, index, operations, "the session's items are searchable")

    async def rebuild(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.RebuildBody)
        index = self._catalog.get(body.index_name)
        operation_id = await index.operations.build(RebuildRequest(params=body.params))
        return await self._answer_operations(request, index, {"operation_id": operation_id}, "rebuilt")

    async def optimize(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.OptimizeBody)
        index = self._catalog.get(body.index_name)
        operation_id = await index.operations.build(OptimizeRequest())
        return await self._answer_operations(request, index, {"operation_id": operation_id}, "optimized")

    async def _answer_operations(
        self, request: web.Request, index: Index, operations: dict[str, str], done: str
    ) -> web.Response:
        """``operations``: their IDs, by the names of the answer's fields, in the order in which they run."""
        if not requests.boolean(request, "wait", True):
            answer = {"success": True, "message": "started", "index_name": index.name, **operations}
            return web.json_response(answer, status=202)
        for identity in operations.values():
            status = await index.operations.wait(identity)
            if status.state is not OperationState.SUCCEEDED:
                raise _operation_error(status)
        return _done(index.name, done, **operations)

    async def delete(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.DeleteBody)
        index = self._catalog.get(body.index_name)
        if not body.external_ids:
            raise BadRequest("external_ids is empty: name at least one item")
        deletion = await index.delete(body.external_ids)
        missing = None
        if body.return_not_found:
            missing = [name for name, hit in zip(distinct(body.external_ids), deletion.found, strict=True) if not hit]
        return web.json_response({"deleted_count": deletion.deleted, "not_found": missing})

    async def search(self, request: web.Request) -> web.Response:
        index, k, ef = self._search_arguments(request)
        content = await request.read()
        if len(content) != 4 * index.dimensions:
            raise BadRequest(f"the body has {len(content)} bytes, a query has {index.dimensions} x 4")
        answer = await index.search(content, 1, k, ef)
        return web.Response(body=answer[1:-1], headers=_JSON)  # of the one list, what it holds

    async def search_batch(self, request: web.Request) -> web.Response:
        index, k, ef = self._search_arguments(request)
        requests.integer(request, "n_jobs", 1, low=-1, high=2**31)  # ours are the searcher's threads
        content = await request.read()
        rows = requests.whole_rows(content, 4 * index.dimensions, "a query")
        if rows > MAX_BATCH_ROWS:
            raise BadRequest(f"{rows} queries in one request; at most {MAX_BATCH_ROWS}")
        if rows * k > MAX_ANSWER_LABELS:
            raise TooLarge(f"{rows} queries x k={k} asks for more than {MAX_ANSWER_LABELS} results; send fewer queries")
        return web.Response(body=await index.search(content, rows, k, ef), content_type="application/json")

    def _search_arguments(self, request: web.Request) -> tuple[Index, int, int | None]:
        index = self._catalog.get(requests.required(request, "index_name"))
        k = requests.integer(request, "k", 10, low=1, high=MAX_K)
        assert k is not None
        return index, k, requests.integer(request, "efs", None, low=1, high=MAX_EF)


def _done(name: str, message: str, **more: Any) -> web.Response:
    return web.json_response({"success": True, "message": message, "index_name": name, **more})


def _operation_error(status: OperationStatus) -> RequestError:
    """The answer to a client that waited for an operation which did not succeed."""
    if status.reason == FailureReason.INVALID_REQUEST:
        return BadRequest(status.message)
    return Unavailable(f"operation {status.id} is {status.state}: {status.reason} {status.message}")
