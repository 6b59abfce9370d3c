"""What the loop needs of the world: Kubernetes, the sidecars, a clock, and the operator's keys. Tests put a simulated
world behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.identity import PublicKey
from vectorindex.wire.operations import DeletePreview, DeleteRequest, OperationBody, OperationStatus
from vectorindex.wire.state import Configuration, IndexState

Manifest = dict[str, Any]


class ClusterPort(Protocol):
    """Kubernetes; see :class:`vectorindex.cluster.cluster.Cluster`. Every method raises ClusterError."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None: ...

    def objects(
        self, kind: str, namespace: str | None, labels: str = "", fields: str = ""
    ) -> AsyncIterator[Manifest]: ...

    async def pods(self, namespace: str, labels: str) -> list[Manifest]: ...

    async def apply(self, manifest: Manifest) -> Manifest: ...

    async def apply_status(self, manifest: Manifest, status: Manifest) -> Manifest: ...

    async def delete(self, manifest: Manifest) -> None: ...

    async def record(self, manifest: Manifest, reason: str, note: str, *, warning: bool, transition: str) -> None: ...


class SidecarPort(Protocol):
    """The sidecars; see :class:`vectorindex.dataplane.operations.Sidecars`. Every method raises SidecarError."""

    async def state(self, endpoint: Endpoint) -> IndexState: ...

    async def configure(self, endpoint: Endpoint, configuration: Configuration) -> None: ...

    async def start(self, endpoint: Endpoint, operation: str, body: OperationBody) -> OperationStatus: ...

    async def operation(self, endpoint: Endpoint, operation: str) -> OperationStatus: ...

    async def preview_delete(self, endpoint: Endpoint, request: DeleteRequest) -> DeletePreview: ...

    async def cancel(self, endpoint: Endpoint, operation: str) -> OperationStatus: ...


@dataclass(frozen=True)
class Ports:
    cluster: ClusterPort
    sidecars: SidecarPort
    now: Callable[[], datetime]
    """The time in whole seconds of UTC, as the API keeps times."""
    public_keys: Callable[[], tuple[PublicKey, ...]]
    """With these the pods check the operator's tokens."""
