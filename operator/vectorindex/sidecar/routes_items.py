"""Items without a session: write, read, count and list them, and search with distances.

What is answered 200 is durable, and every later request sees it. Many items at once are what ingest sessions are for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Container, Sequence

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from vectorindex.engine.digest import as_text
from vectorindex.sidecar import requests
from vectorindex.sidecar.catalog import Catalog
from vectorindex.sidecar.errors import TooLarge
from vectorindex.sidecar.index import ID_BYTES, Index, parse_rows
from vectorindex.sidecar.limits import (
    MAX_ANSWER_LABELS,
    MAX_FETCHED_FLOATS,
    MAX_JSON_BYTES,
    MAX_PAGE,
    MAX_UPSERT_ROWS,
)

_INLINE_NUMBERS = 4_000


def routes(catalog: Catalog) -> list[web.RouteDef]:
    api = _ItemsApi(catalog)
    return [
        web.post("/upsert", api.upsert),
        web.post("/upsert.bin", api.upsert_binary),
        web.post("/fetch", api.fetch),
        web.post("/exists", api.exists),
        web.post("/search", api.search),
        web.get("/indexes/{name}/count", api.count),
        web.get("/indexes/{name}/ids", api.page),
    ]


class _ItemsApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def upsert(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.UpsertBody, MAX_JSON_BYTES)
        index = self._catalog.get(body.index_name)
        vectors = requests.matrix([item.vector for item in body.items], index.dimensions)
        return await _upserted(index, [item.external_id for item in body.items], vectors)

    async def upsert_binary(self, request: web.Request) -> web.Response:
        index = self._catalog.get(requests.required(request, "index_name"))
        content = await request.read()
        _bounded(requests.whole_rows(content, ID_BYTES + 4 * index.dimensions, "a 32 byte ID and a vector"))
        return await _upserted(index, *parse_rows(content, index.dimensions))

    async def fetch(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.ItemsBody)
        index = self._catalog.get(body.index_name)
        if len(body.external_ids) * index.dimensions > MAX_FETCHED_FLOATS:
            most = max(1, MAX_FETCHED_FLOATS // index.dimensions)
            raise TooLarge(f"{len(body.external_ids)} vectors in one answer; at most {most} of {index.dimensions}")
        found = await index.fetch(body.external_ids)

        def answer() -> dict[str, object]:
            items = [{"external_id": name, "vector": vector.tolist()} for name, vector in found.items()]
            return {"items": items, "not_found": _missing(body.external_ids, found)}

        return await _json(answer, len(found) * index.dimensions)

    async def exists(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.ItemsBody)
        index = self._catalog.get(body.index_name)
        found = await index.run(index.store.labels_of, body.external_ids)
        return web.json_response({"found": list(found), "not_found": _missing(body.external_ids, found)})

    async def count(self, request: web.Request) -> web.Response:
        index = self._catalog.get(request.match_info["name"])
        status = await index.run(index.store.status)
        return web.json_response(
            {
                "index_name": index.name,
                "count": status.counts.live,
                "sequence": status.sequence,
                "digest": as_text(status.digest),
            }
        )

    async def page(self, request: web.Request) -> web.Response:
        index = self._catalog.get(request.match_info["name"])
        limit = requests.integer(request, "limit", 1_000, low=1, high=MAX_PAGE)
        assert limit is not None
        external_ids = await index.run(index.store.page, request.query.get("after"), limit)
        more = external_ids[-1] if len(external_ids) == limit else None
        return web.json_response({"external_ids": external_ids, "next": more})

    async def search(self, request: web.Request) -> web.Response:
        body = await requests.read(request, requests.SearchBody, MAX_JSON_BYTES)
        index = self._catalog.get(body.index_name)
        queries = requests.matrix(body.vectors, index.dimensions)
        if len(queries) * body.k > MAX_ANSWER_LABELS:
            raise TooLarge(f"{len(queries)} queries x k={body.k} asks for more than {MAX_ANSWER_LABELS} results")
        answer = await index.find(queries.tobytes(), len(queries), body.k, body.ef, exact=body.exact)

        def results() -> dict[str, object]:
            rows = answer.with_distances()
            return {"results": [[{"external_id": name, "distance": away} for name, away in row] for row in rows]}

        return await _json(results, answer.labels.size)


async def _upserted(index: Index, external_ids: Sequence[str], vectors: NDArray[np.float32]) -> web.Response:
    _bounded(len(external_ids))
    outcome = await index.upsert(external_ids, vectors)
    return web.json_response(
        {
            "success": True,
            "index_name": index.name,
            "upserted_count": len(outcome.rows),
            "replaced_count": len(outcome.labels),
            "sequence": outcome.lsn,
        }
    )


def _bounded(rows: int) -> None:
    """Raises TooLarge."""
    if rows > MAX_UPSERT_ROWS:
        raise TooLarge(f"{rows:,} items in one request; at most {MAX_UPSERT_ROWS:,}, or an ingest session")


async def _json(make: Callable[[], object], numbers: int) -> web.Response:
    """What ``make`` gives, with so many numbers in it; many are put into words by a thread."""
    if numbers <= _INLINE_NUMBERS:
        return web.json_response(make())
    return web.Response(text=await asyncio.to_thread(lambda: json.dumps(make())), content_type="application/json")


def _missing(asked: Sequence[str], found: Container[str]) -> list[str]:
    return [name for name in dict.fromkeys(asked) if name not in found]
