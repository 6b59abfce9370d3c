"""The HTTP application: routes, the limit on bodies, and one shape for every error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from vectorindex.engine.errors import (
    EngineError,
    IndexExists,
    IndexNotFound,
    InvalidInput,
    OperationConflict,
    TargetExists,
)
from vectorindex.sidecar import log, routes_data, routes_items, routes_operations, routes_snapshots
from vectorindex.sidecar.access import Access
from vectorindex.sidecar.catalog import Catalog
from vectorindex.sidecar.errors import RequestError, TooManyRequests
from vectorindex.sidecar.fence import Fence
from vectorindex.sidecar.limits import MAX_BODIES_BYTES, MAX_BODY_BYTES


def make_app(catalog: Catalog, access: Access, fence: Fence) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_guarded()])
    app[_CATALOG] = catalog
    app.add_routes(routes_data.routes(catalog, access))
    app.add_routes(routes_items.routes(catalog))
    # Who calls is asked before the fence, on which a token that is not accepted must leave no mark.
    app.add_routes(access.for_operator(routes_operations.routes(catalog, fence)))
    app.add_routes(access.for_operator(routes_snapshots.routes(catalog)))
    return app


_CATALOG = web.AppKey("catalog", Catalog)

_NO_ROOM = "the bodies of other requests take all the room; send fewer at a time"


def _guarded() -> Middleware:
    """Puts every error into one shape, and refuses what would make the bodies in memory more than we have room for,
    however many clients there are. One middleware, because each costs every search."""
    held = 0

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal held
        announced = request.content_length
        if announced is None:  # it comes in chunks, and nobody knows how many
            announced = MAX_BODY_BYTES if request.can_read_body else 0
        size = min(announced, MAX_BODY_BYTES)  # a larger one is refused before more of it is read
        if held + size > MAX_BODIES_BYTES:
            return _refused(request, TooManyRequests(_NO_ROOM))
        held += size
        try:
            return await handler(request)
        except Exception as error:
            return _refused(request, error)
        finally:
            held -= size

    return guarded


def _refused(request: web.Request, error: Exception) -> web.Response:
    """Call it where the exception is handled: one that nobody expected is logged."""
    if isinstance(error, RequestError):
        status, detail = error.status, str(error)
    elif isinstance(error, EngineError):
        status, detail = _status_of(error), str(error)
    elif isinstance(error, web.HTTPRequestEntityTooLarge):
        status, detail = 413, f"the body is larger than {MAX_BODY_BYTES} bytes; send several requests"
    elif isinstance(error, web.HTTPNotFound):
        status, detail = 404, f"there is nothing at {request.path}"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        status, detail = 405, f"{request.method} is not allowed here, only {', '.join(sorted(error.allowed_methods))}"
    elif isinstance(error, ConnectionResetError):  # whoever asked went away, and reads no answer
        status, detail = 400, "the body did not arrive whole"
    else:
        log.exception("request-failed", method=request.method, path=request.path)
        status, detail = 500, "internal error; the sidecar's log has the details"
    answer: dict[str, Any] = {"detail": detail}
    headers: Mapping[str, str] = {}
    if isinstance(error, RequestError):
        answer |= error.fields
        headers = error.headers
    if request.path.startswith("/v1/"):
        answer["volume_id"] = request.app[_CATALOG].volume_id
    return web.json_response(answer, status=status, headers=headers)


def _status_of(error: EngineError) -> int:
    """Wrong requests by their kind; whatever else keeps the engine from its work may be over later."""
    if isinstance(error, InvalidInput):
        return 400
    if isinstance(error, IndexNotFound):
        return 404
    if isinstance(error, (IndexExists, OperationConflict, TargetExists)):
        return 409
    return 503
