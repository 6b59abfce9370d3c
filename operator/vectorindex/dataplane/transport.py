"""One HTTP session to all sidecars: JSON answers, and every failure as one of our errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
from pydantic import ValidationError

from vectorindex.dataplane.errors import (
    FencedError,
    NotFoundError,
    OtherRequestError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)
from vectorindex.wire.epoch import Fenced
from vectorindex.wire.tokens import Refusal

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
"""Seconds for the whole of a call that only reads, or starts something."""
WRITE_TIMEOUT = 60.0
"""Seconds for the whole of a call that carries many items."""


class Transport:
    """An HTTP session; a context manager."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256, limit_per_host=8))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self,
        method: str,
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Any:
        """Send one request, with a JSON ``body`` or with bytes, and return the JSON that is answered.

        Raises:
            UnreachableError, UnauthorizedError, NotFoundError, FencedError, OtherRequestError, RefusedError
        """
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        sent = {**(headers or {}), **({"Content-Type": "application/octet-stream"} if data is not None else {})}
        try:
            async with self._session.request(
                method, url, json=body, data=data, params=query, headers=sent, timeout=limits
            ) as response:
                content = await response.read()
        except TimeoutError as error:
            raise UnreachableError(f"no answer within {timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(_cause(error)) from error
        if response.status >= 400:
            raise _error(response.status, content)
        try:
            return json.loads(content)
        except ValueError as error:
            raise UnreachableError("the answer is not JSON: something else than a sidecar answers") from error


def _cause(error: Exception) -> str:
    # A refused connection is what a restart looks like: worth its own words, which do not change with the port.
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before the answer"
    return str(error) or type(error).__name__


def _audience(content: bytes) -> str | None:
    try:
        return Refusal.model_validate_json(content).audience
    except ValidationError:
        return None  # something else than a sidecar answers


def _fenced(content: bytes) -> FencedError | None:
    try:
        answer = Fenced.model_validate_json(content)
    except ValidationError:
        return None  # another conflict
    return FencedError(answer.detail, answer.epoch, answer.seen)


def _error(status: int, content: bytes) -> Exception:
    try:
        detail = json.loads(content)["detail"]
        message = detail if isinstance(detail, str) else json.dumps(detail)
    except (ValueError, KeyError, TypeError):
        message = content[:200].decode("utf-8", "replace").strip() or f"HTTP status {status}"
    match status:
        case 401:
            return UnauthorizedError(message, _audience(content))
        case 404:
            return NotFoundError(message)
        case 409:
            return _fenced(content) or OtherRequestError(message, status)
        case 408 | 425 | 429:
            return UnreachableError(message)
        case _ if status >= 500:
            return UnreachableError(f"{message} (HTTP status {status})")
        case _:
            return RefusedError(message, status)
