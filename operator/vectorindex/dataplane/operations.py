"""The operator's calls of a sidecar: state, configuration, operations. Every one may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from vectorindex.dataplane.errors import FencedError, UnreachableError
from vectorindex.dataplane.transport import READ_TIMEOUT, WRITE_TIMEOUT, Transport
from vectorindex.wire.base import WireModel
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.operations import DeletePreview, DeleteRequest, OperationBody, OperationList, OperationStatus
from vectorindex.wire.state import Configuration, IndexState

Model = TypeVar("Model", bound=WireModel)
Headers = Callable[[Endpoint], Mapping[str, str]]
"""What a call of this sidecar carries beside its body: in whose name it comes."""
Outbid = Callable[[Endpoint, FencedError], Awaitable[bool]]
"""Asked when a pod did not take the epoch of a call: has the caller a higher one by now, to repeat it with?"""


async def give_in(endpoint: Endpoint, refusal: FencedError) -> bool:
    """For callers that have no epoch, or one for good."""
    return False


class Sidecars:
    """The sidecars of all pods. All methods raise SidecarError."""

    def __init__(self, transport: Transport, headers: Headers = lambda _: {}, outbid: Outbid = give_in) -> None:
        """``headers`` are asked for anew for each call."""
        self._transport = transport
        self._headers = headers
        self._outbid = outbid

    async def state(self, endpoint: Endpoint) -> IndexState:
        """What the pod says of its index."""
        return _read(IndexState, await self._call("GET", endpoint, "state"))

    async def configure(self, endpoint: Endpoint, configuration: Configuration) -> None:
        """Set what is set in ``configuration``; it is kept on the volume."""
        await self._call("PUT", endpoint, "configuration", body=configuration)

    async def start(self, endpoint: Endpoint, operation: str, body: OperationBody) -> OperationStatus:
        """Start the operation, or return how far it is: the same call any number of times is one operation.

        Raises:
            OtherRequestError: the operation exists, with another request.
        """
        answer = await self._call("PUT", endpoint, "operations", operation, body=body, timeout=WRITE_TIMEOUT)
        return _read(OperationStatus, answer)

    async def operation(self, endpoint: Endpoint, operation: str) -> OperationStatus:
        """How far an operation is.

        Raises:
            NotFoundError: it was not accepted so far; a start under way may still arrive.
        """
        return _read(OperationStatus, await self._call("GET", endpoint, "operations", operation))

    async def cancel(self, endpoint: Endpoint, operation: str) -> OperationStatus:
        """Cancel an operation; one that has finished stays as it is, an unknown one can never start."""
        return _read(OperationStatus, await self._call("DELETE", endpoint, "operations", operation))

    async def preview_delete(self, endpoint: Endpoint, request: DeleteRequest) -> DeletePreview:
        """What a delete would do now."""
        answer = await self._call("POST", endpoint, "delete-preview", body=request, timeout=WRITE_TIMEOUT)
        return _read(DeletePreview, answer)

    async def operations(self, endpoint: Endpoint) -> OperationList:
        """All operations that the volume remembers."""
        return _read(OperationList, await self._call("GET", endpoint, "operations"))

    async def _call(
        self, method: str, endpoint: Endpoint, *path: str, body: WireModel | None = None, timeout: float = READ_TIMEOUT
    ) -> object:
        try:
            return await self._send(method, endpoint, path, body, timeout)
        except FencedError as refusal:
            if not await self._outbid(endpoint, refusal):
                raise
        return await self._send(method, endpoint, path, body, timeout)

    async def _send(
        self, method: str, endpoint: Endpoint, path: tuple[str, ...], body: WireModel | None, timeout: float
    ) -> object:
        parts = "/".join(quote(part, safe="") for part in (endpoint.index, *path))
        return await self._transport.call(
            method,
            f"{endpoint.url}/v1/indexes/{parts}",
            body=None if body is None else body.to_json(),
            headers=self._headers(endpoint),
            timeout=timeout,
        )


def _read(model: type[Model], answer: object) -> Model:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise UnreachableError(
            f"the answer is not a {model.__name__}: another program or version answers "
            f"({error.error_count()} fields differ)"
        ) from error
