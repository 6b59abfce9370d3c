"""What the operator does with Kubernetes: read, apply what it owns, write its status, say what happened.

Every write is a server-side apply by one field manager, the creation of an Event of a fixed name, or the deletion of an
object by its UID; so each may be repeated. Children are not deleted: they go with their owner.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from vectorindex.api.names import FIELD_MANAGER
from vectorindex.cluster.client import ApiServer, Manifest
from vectorindex.cluster.errors import ConflictError, NotFoundError, OutdatedError, UnavailableError
from vectorindex.cluster.resources import EVENTS, PODS, Resource, resource_of

PAGE = "500"
MAX_NOTE = 1024
"""Bytes of an Event's note, by the API's limit."""


class Cluster:
    """The operator's view of Kubernetes. All methods raise ClusterError."""

    def __init__(self, server: ApiServer, instance: str) -> None:
        """``instance`` names this process in Events."""
        self._server = server
        self._instance = instance

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The newest state of an object, or None if there is none."""
        try:
            return await self._server.request("GET", resource_of(kind).path(namespace, name))
        except NotFoundError:
            return None

    async def objects(
        self, kind: str, namespace: str | None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[Manifest]:
        """The objects of a kind, by pages; ``labels`` and ``fields`` are selectors. An interrupted listing starts anew
        at the caller's next attempt."""
        resource = resource_of(kind)
        path, named = resource.path(namespace), {"apiVersion": resource.api_version, "kind": kind}
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {"limit": PAGE} | {name: selector for name, selector in selectors.items() if selector}
        while True:
            page = await self._server.request("GET", path, query=query)
            for item in page["items"]:
                yield {**named, **item}  # the API server names the kind of a list, and not of what is in it
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def pods(self, namespace: str, labels: str) -> list[Manifest]:
        """The pods with these labels."""
        return [pod async for pod in self.objects(PODS.kind, namespace, labels)]

    async def apply(self, manifest: Manifest) -> Manifest:
        """Make an object have these fields, by force: fields of other managers stay."""
        metadata = manifest["metadata"]
        resource = resource_of(manifest["kind"])
        try:
            return await self._apply(resource.path(metadata["namespace"], metadata["name"]), manifest)
        except UnavailableError as error:
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                await self._check_fields(resource.path(metadata["namespace"]), manifest)
            raise

    async def apply_status(self, manifest: Manifest, status: dict[str, Any]) -> Manifest:
        """Make ``status`` the status of the object that was read as ``manifest``, if it has not changed since: so what
        a former leader decided does not replace what its successor has written. Returns the object with it.

        Raises:
            NotFoundError, ConflictError: the object is gone, or another one has its name.
            OutdatedError: it has changed.
        """
        metadata = manifest["metadata"]
        body: Manifest = {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "metadata": {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")},
            "status": status,
        }
        path = resource_of(manifest["kind"]).path(metadata["namespace"], metadata["name"], "status")
        try:
            return await self._apply(path, body)
        except ConflictError as error:
            live = await self.get(manifest["kind"], metadata["namespace"], metadata["name"])
            if live is None or live["metadata"]["uid"] != metadata["uid"]:
                raise
            raise OutdatedError("it has changed since it was read", error.status) from error

    async def delete(self, manifest: Manifest) -> None:
        """Delete the object that was read as ``manifest``, and no other of its name.

        Raises:
            NotFoundError, ConflictError: the object is gone, or another one has its name.
        """
        metadata = manifest["metadata"]
        path = resource_of(manifest["kind"]).path(metadata["namespace"], metadata["name"])
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": metadata["uid"]}}
        await self._server.request("DELETE", path, body=body)

    async def record(self, manifest: Manifest, reason: str, note: str, *, warning: bool, transition: str) -> None:
        """Create an Event about an object. ``transition`` tells this occasion from others: the same one is recorded
        once, however often it is reported."""
        metadata = manifest["metadata"]
        mark = hashlib.sha256(f"{metadata['uid']} {reason} {transition}".encode()).hexdigest()[:16]
        reference = {key: metadata[key] for key in ("name", "namespace", "uid")}
        body: Manifest = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{metadata['name'][:200].rstrip('-.')}.{mark}", "namespace": metadata["namespace"]},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "vectorindex.io/operator",
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "note": note.encode()[:MAX_NOTE].decode(errors="ignore"),
            "regarding": {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **reference},
        }
        with contextlib.suppress(ConflictError):  # recorded already
            await self._server.request("POST", EVENTS.path(metadata["namespace"]), body=body)

    async def serves(self, resource: Resource, namespace: str | None) -> bool:
        """Can objects of this kind be listed? A kind that is new is discovered before it can."""
        try:
            await self._server.request("GET", resource.path(namespace), query={"limit": "1"})
        except NotFoundError:
            return False
        return True

    async def _check_fields(self, path: str, manifest: Manifest) -> None:
        """Raises RejectedError where the manifest has a field that its kind has not. To an apply of such a one the API
        server answers as if the fault were its own; to a creation, which is not carried out, it says what is wrong."""
        with contextlib.suppress(ConflictError):  # it exists, and its fields are known
            query = {"dryRun": "All", "fieldValidation": "Strict"}
            await self._server.request("POST", path, query=query, body=manifest)

    async def _apply(self, path: str, body: Manifest) -> Manifest:
        return await self._server.apply(path, body, FIELD_MANAGER)
