"""The operator's calls of a sidecar: state, configuration, operations. Every one may be repeated."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from vectorindex.dataplane.errors import UnreachableError
from vectorindex.dataplane.transport import WRITE_TIMEOUT, Transport
from vectorindex.wire.base import WireModel
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.operations import DeletePreview, DeleteRequest, OperationBody, OperationList, OperationStatus
from vectorindex.wire.state import Configuration, IndexState

Model = TypeVar("Model", bound=WireModel)


class Sidecars:
    """The sidecars of all pods. All methods raise SidecarError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def state(self, endpoint: Endpoint) -> IndexState:
        """What the pod says of its index."""
        return _read(IndexState, await self._transport.call("GET", _url(endpoint, "state")))

    async def configure(self, endpoint: Endpoint, configuration: Configuration) -> None:
        """Set what is set in ``configuration``; it is kept on the volume."""
        url = _url(endpoint, "configuration")
        await self._transport.call("PUT", url, body=configuration.to_json())

    async def start(self, endpoint: Endpoint, operation: str, body: OperationBody) -> OperationStatus:
        """Start the operation, or return how far it is: the same call any number of times is one operation.

        Raises:
            OtherRequestError: the operation exists, with another request.
        """
        url = _url(endpoint, "operations", operation)
        return _read(
            OperationStatus, await self._transport.call("PUT", url, body=body.to_json(), timeout=WRITE_TIMEOUT)
        )

    async def operation(self, endpoint: Endpoint, operation: str) -> OperationStatus:
        """How far an operation is.

        Raises:
            NotFoundError: it was not accepted so far; a start under way may still arrive.
        """
        url = _url(endpoint, "operations", operation)
        return _read(OperationStatus, await self._transport.call("GET", url))

    async def cancel(self, endpoint: Endpoint, operation: str) -> OperationStatus:
        """Cancel an operation; one that has finished stays as it is, an unknown one can never start."""
        url = _url(endpoint, "operations", operation)
        return _read(OperationStatus, await self._transport.call("DELETE", url))

    async def preview_delete(self, endpoint: Endpoint, request: DeleteRequest) -> DeletePreview:
        """What a delete would do now."""
        url = _url(endpoint, "delete-preview")
        body = request.to_json()
        return _read(DeletePreview, await self._transport.call("POST", url, body=body, timeout=WRITE_TIMEOUT))

    async def operations(self, endpoint: Endpoint) -> OperationList:
        """All operations that the volume remembers."""
        return _read(OperationList, await self._transport.call("GET", _url(endpoint, "operations")))


def _url(endpoint: Endpoint, *path: str) -> str:
    parts = "/".join(quote(part, safe="") for part in (endpoint.index, *path))
    return f"{endpoint.url}/v1/indexes/{parts}"


def _read(model: type[Model], answer: object) -> Model:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise UnreachableError(
            f"the answer is not a {model.__name__}: another program or version answers "
            f"({error.error_count()} fields differ)"
        ) from error
