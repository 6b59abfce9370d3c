"""The operator's calls of a sidecar: state, configuration, operations. Every one may be repeated."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from vectorindex.dataplane.errors import UnreachableError
from vectorindex.dataplane.transport import WRITE_TIMEOUT, Transport, base_url
from vectorindex.wire.base import WireModel
from vectorindex.wire.operations import DeletePreview, DeleteRequest, OperationBody, OperationList, OperationStatus
from vectorindex.wire.state import Configuration, IndexState

PORT = 8080
"""The sidecar's port in every pod."""

Model = TypeVar("Model", bound=WireModel)


class Sidecars:
    """The sidecars of all pods, each called by its pod's IP address. All methods raise SidecarError."""

    def __init__(self, transport: Transport, port: int = PORT) -> None:
        self._transport = transport
        self._port = port

    async def state(self, address: str, index: str) -> IndexState:
        """What the pod says of its index."""
        return _read(IndexState, await self._transport.call("GET", self._url(address, index, "state")))

    async def configure(self, address: str, index: str, configuration: Configuration) -> None:
        """Set what is set in ``configuration``; it is kept on the volume."""
        url = self._url(address, index, "configuration")
        await self._transport.call("PUT", url, body=configuration.to_json())

    async def start(self, address: str, index: str, operation: str, body: OperationBody) -> OperationStatus:
        """Start the operation, or return how far it is: the same call any number of times is one operation.

        Raises:
            OtherRequestError: the operation exists, with another request.
        """
        url = self._url(address, index, "operations", operation)
        return _read(
            OperationStatus, await self._transport.call("PUT", url, body=body.to_json(), timeout=WRITE_TIMEOUT)
        )

    async def operation(self, address: str, index: str, operation: str) -> OperationStatus:
        """How far an operation is.

        Raises:
            NotFoundError: it was not accepted so far; a start under way may still arrive.
        """
        url = self._url(address, index, "operations", operation)
        return _read(OperationStatus, await self._transport.call("GET", url))

    async def cancel(self, address: str, index: str, operation: str) -> OperationStatus:
        """Cancel an operation; one that has finished stays as it is, an unknown one can never start."""
        url = self._url(address, index, "operations", operation)
        return _read(OperationStatus, await self._transport.call("DELETE", url))

    async def preview_delete(self, address: str, index: str, request: DeleteRequest) -> DeletePreview:
        """What a delete would do now."""
        url = self._url(address, index, "delete-preview")
        body = request.to_json()
        return _read(DeletePreview, await self._transport.call("POST", url, body=body, timeout=WRITE_TIMEOUT))

    async def operations(self, address: str, index: str) -> OperationList:
        """All operations that the volume remembers."""
        return _read(OperationList, await self._transport.call("GET", self._url(address, index, "operations")))

    def _url(self, address: str, index: str, *path: str) -> str:
        parts = "/".join(quote(part, safe="") for part in (index, *path))
        return f"{base_url(address, self._port)}/v1/indexes/{parts}"


def _read(model: type[Model], answer: object) -> Model:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise UnreachableError(
            f"the answer is not a {model.__name__}: another program or version answers "
            f"({error.error_count()} fields differ)"
        ) from error
