"""The HTTP application: routes, the limit on bodies, and one shape for every error."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from vectorindex.engine.errors import EngineError, IndexExists, IndexNotFound, InvalidInput, OperationConflict
from vectorindex.sidecar import log, routes_data, routes_operations
from vectorindex.sidecar.catalog import Catalog
from vectorindex.sidecar.errors import RequestError
from vectorindex.sidecar.limits import MAX_BODY_BYTES


def make_app(catalog: Catalog) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors_as_json])
    app[_CATALOG] = catalog
    app.add_routes(routes_data.routes(catalog))
    app.add_routes(routes_operations.routes(catalog))
    return app


_CATALOG = web.AppKey("catalog", Catalog)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestError as error:
        status, detail = error.status, str(error)
    except EngineError as error:
        status, detail = _status_of(error), str(error)
    except web.HTTPRequestEntityTooLarge:
        status, detail = 413, f"the body is larger than {MAX_BODY_BYTES} bytes; send several requests"
    except web.HTTPNotFound:
        status, detail = 404, f"there is nothing at {request.path}"
    except web.HTTPMethodNotAllowed as error:
        status, detail = 405, f"{request.method} is not allowed here, only {', '.join(sorted(error.allowed_methods))}"
    except Exception:
        log.exception("request-failed", method=request.method, path=request.path)
        status, detail = 500, "internal error; the sidecar's log has the details"
    answer = {"detail": detail}
    if request.path.startswith("/v1/"):
        answer["volume_id"] = request.app[_CATALOG].volume_id
    return web.json_response(answer, status=status)


def _status_of(error: EngineError) -> int:
    """Wrong requests by their kind; whatever else keeps the engine from its work may be over later."""
    if isinstance(error, InvalidInput):
        return 400
    if isinstance(error, IndexNotFound):
        return 404
    if isinstance(error, (IndexExists, OperationConflict)):
        return 409
    return 503
