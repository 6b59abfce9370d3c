"""The Lease by which operators agree who leads.

Every write names the version that it replaces, or that there is none; so of two processes that write at the same time
one gets ConflictError. A Lease that is not there is created by a PUT too, which the right to create it can be limited
to, by its name, unlike a POST.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from vectorindex.cluster.client import ApiServer, Manifest
from vectorindex.cluster.errors import ConflictError, NotFoundError, RejectedError
from vectorindex.cluster.resources import LEASES
from vectorindex.domain.election import Record, Timing

_1970 = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Lease:
    """What was read or written; ``manifest`` also holds what is not ours, which stays."""

    record: Record
    manifest: Manifest


class LeaseStore:
    """One Lease. All methods raise ClusterError."""

    def __init__(self, server: ApiServer, namespace: str, name: str) -> None:
        self._server = server
        self._namespace, self._name = namespace, name
        self._path = LEASES.path(namespace, name)

    def __str__(self) -> str:
        return f"{self._namespace}/{self._name}"

    async def read(self) -> Lease | None:
        """The Lease as it is; None: there is none."""
        try:
            return _lease(await self._server.request("GET", self._path))
        except NotFoundError:
            return None

    async def write(self, record: Record, before: Lease | None) -> Lease:
        """Replace the Lease that was read or written as ``before``; None: create it.

        Raises:
            ConflictError, NotFoundError: it is another one by now, or gone.
        """
        body = before.manifest if before is not None else self._new()
        body = {**body, "spec": body.get("spec", {}) | _spec(record)}
        try:
            return _lease(await self._server.request("PUT", self._path, body=body))
        except RejectedError as error:
            if before is None and error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
                raise ConflictError(f"the Lease {self} exists by now: {error}", error.status) from error
            raise

    def _new(self) -> Manifest:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
        }


def _lease(manifest: Manifest) -> Lease:
    spec = manifest.get("spec", {})
    record = Record(
        holder=spec.get("holderIdentity") or "",
        duration=spec.get("leaseDurationSeconds") or Timing().duration,
        acquired=_microseconds(spec.get("acquireTime")),
        renewed=_microseconds(spec.get("renewTime")),
        transitions=spec.get("leaseTransitions") or 0,
    )
    return Lease(record, manifest)


def _spec(record: Record) -> Manifest:
    return {
        "holderIdentity": record.holder or None,
        "leaseDurationSeconds": record.duration,
        "acquireTime": _text(record.acquired),
        "renewTime": _text(record.renewed),
        "leaseTransitions": record.transitions,
    }


def _microseconds(time: str | None) -> int:
    return 0 if time is None else (datetime.fromisoformat(time) - _1970) // timedelta(microseconds=1)


def _text(microseconds: int) -> str:
    return (_1970 + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
