"""A small client of the Kubernetes API: JSON in, JSON out, one connection per request.

It serves the cluster's own needs, so that this package does not depend on a Kubernetes client.
"""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

Object = dict[str, Any]
"""One Kubernetes object as JSON."""

TIMEOUT_SECONDS = 30.0
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """Requests to the server of a kubeconfig file, in the name of its user; safe to use from several threads."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        url = urlsplit(cluster["server"])
        assert url.hostname is not None
        self._host, self._port = url.hostname, url.port or 443
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
        self._context = ssl.create_default_context(cadata=authority)
        self._headers = {"Accept": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        else:
            self._load_certificate(user)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Send one request.

        Raises:
            ApiError: the answer is an error.
            OSError: there is no answer.
        """
        connection = self._connection(TIMEOUT_SECONDS)
        try:
            response = self._send(connection, method, path, body, query, content_type)
            text = response.read()
        finally:
            connection.close()
        answer: Object = json.loads(text) if text[:1] == b"{" else {"text": text.decode("utf-8", "replace")}
        if response.status >= 400:
            message = str(answer.get("message") or answer.get("text") or "")
            raise ApiError(response.status, str(answer.get("reason") or response.reason), message)
        return answer

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """GET."""
        return self.request("GET", path, query=query)

    def create(self, path: str, body: Object) -> Object:
        """POST."""
        return self.request("POST", path, body)

    def patch(self, path: str, body: object, content_type: str = MERGE_PATCH) -> Object:
        """PATCH, by default a JSON merge patch."""
        return self.request("PATCH", path, body, content_type=content_type)

    def apply(self, path: str, body: Object, manager: str = "devcluster") -> Object:
        """Server-side apply, by force; `path` names the object."""
        query = {"fieldManager": manager, "force": "true"}
        return self.request("PATCH", path, body, query=query, content_type=APPLY_PATCH)

    def delete(self, path: str, body: Object | None = None) -> Object:
        """DELETE, with DeleteOptions as the body."""
        return self.request("DELETE", path, body)

    def watch(self, path: str, resource_version: str, query: Mapping[str, str] | None = None) -> "Watch":
        """Open a watch from a resource version on."""
        parameters = {"watch": "true", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        connection = self._connection(None)
        try:
            response = self._send(connection, "GET", path, None, parameters | dict(query or {}), "")
            if response.status >= 400:
                raise ApiError(response.status, response.reason, response.read().decode("utf-8", "replace"))
        except BaseException:
            connection.close()
            raise
        return Watch(connection, response)

    def ready(self) -> bool:
        """Does `/readyz` say ok?"""
        try:
            return self.get("/readyz").get("text") == "ok"
        except (ApiError, OSError, http.client.HTTPException):
            return False

    def _connection(self, timeout: float | None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, context=self._context, timeout=timeout)

    def _send(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None,
        content_type: str,
    ) -> http.client.HTTPResponse:
        headers = dict(self._headers)
        data = None
        if body is not None:
            # Not as \u escapes: an apply is read as YAML, which knows no surrogate pairs.
            data = json.dumps(body, ensure_ascii=False).encode()
            headers["Content-Type"] = content_type
        connection.request(method, f"{path}?{urlencode(query)}" if query else path, data, headers)
        return connection.getresponse()

    def _load_certificate(self, user: Mapping[str, str]) -> None:
        # The ssl module takes certificates from files alone.
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "client.crt"), Path(folder, "client.key")
            certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
            key.touch(mode=0o600)
            key.write_bytes(base64.b64decode(user["client-key-data"]))
            self._context.load_cert_chain(certificate, key)


class Watch:
    """An open watch: an iterator over events; `close` ends it from another thread."""

    def __init__(self, connection: http.client.HTTPSConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        # http.client lets go of the socket when the answer says "close"; without it, nothing could wake the reader.
        self._socket: socket.socket | None = connection.sock
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Object]:
        """The events, until the server or `close` ends the watch."""
        while not self._closed.is_set():
            try:
                line = self._response.readline()
            except (OSError, ValueError, AttributeError, http.client.HTTPException):
                return
            if not line:
                return
            yield json.loads(line)

    def close(self) -> None:
        """End the watch."""
        self._closed.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()
