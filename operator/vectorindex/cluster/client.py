"""One connection to the API server: JSON objects in, JSON objects out.

Objects are dictionaries, not the Kubernetes client's models: an object that is read, compared and applied must keep
every field, also those that the client's version does not know. The client library is used for what is hard: kubeconfig
files, service account tokens that are renewed, TLS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from vectorindex.cluster.errors import UnavailableError, error_for
from vectorindex.cluster.limits import RequestLimit

REQUEST_TIMEOUT = 30.0
"""Seconds for one request, its answer included."""
ATTEMPTS = 5
"""How often a request is sent that the API server asks to be sent later (``Retry-After``)."""
LONGEST_HOLD = 60.0
"""Seconds for which the API server is left alone at most when it asks for it."""
OVERLOADED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""What is answered to a request that was not carried out."""

APPLY = "application/apply-patch+yaml; charset=utf-8"
"""The content type of a server-side apply. With its parameter the client library sends a text as it is, see
:meth:`ApiServer.apply`."""

Manifest = dict[str, Any]


class ApiServer:
    """Requests to the API server, in the name of the operator."""

    def __init__(self, client: ApiClient, limit: RequestLimit | None, check: Callable[[], None]) -> None:
        self._client = client
        self._limit = limit
        self._check = check

    @classmethod
    async def connect(cls, limit: RequestLimit | None, check: Callable[[], None] = lambda: None) -> ApiServer:
        """By the kubeconfig file that KUBECONFIG names, otherwise by the pod's service account. ``limit``: how fast;
        None: nothing waits, since what is late is of no use. ``check`` is called before each request; what it raises
        keeps it from being sent.

        Raises:
            kubernetes.aio.config.ConfigException: neither is there, or it is of no use.
        """
        configuration = Configuration()
        path = os.environ.get("KUBECONFIG")
        if path:
            await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=path, client_configuration=configuration
            )
        else:
            kube_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        return cls(ApiClient(configuration), limit, check)

    async def apply(self, path: str, body: Manifest, manager: str) -> Manifest:
        """Server-side apply, by force. Raises ClusterError.

        The API server reads the body as YAML, which knows no surrogate pairs; so the text holds what is beyond ASCII
        as it is, and not in JSON's escapes, as the client library would write it.
        """
        query = {"fieldManager": manager, "force": "true"}
        return await self.request(
            "PATCH", path, query=query, body=json.dumps(body, ensure_ascii=False), content_type=APPLY
        )

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | str | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        """Send one request and return the object that is answered. A request that the API server asks to be sent later
        is, and all others wait as long.

        Raises:
            ClusterError: one of its subclasses, by what was answered.
        """
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        for attempt in range(1, ATTEMPTS + 1):
            if self._limit is not None:
                await self._limit.admit()
            self._check()
            status, headers, content = await self._send(f"{method} {path}", request)
            if status < HTTPStatus.BAD_REQUEST:
                break
            later = _retry_after(headers) if status in OVERLOADED else None
            if self._limit is None or later is None or attempt == ATTEMPTS:
                raise error_for(status, _message(content) or f"{method} {path}: HTTP status {status}")
            self._limit.hold(min(LONGEST_HOLD, later))
        try:
            answer: Manifest = json.loads(content)
        except ValueError as error:
            raise UnavailableError(f"the answer to {method} {path} is not JSON: is that the API server?") from error
        return answer

    async def _send(self, title: str, request: Any) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and content of the answer. Raises UnavailableError."""
        try:
            response = await self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT)  # type: ignore[misc]
            content: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"the API server did not answer {title}: {reason}") from error
        return response.status, response.headers, content


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds after which the API server asks to be asked again, None: it does not say."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _message(content: bytes) -> str:
    """What a Status object says; the text itself where the answer is none."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode("utf-8", "replace").strip()
