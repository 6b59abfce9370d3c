"""The sweep: operations whose object is gone are cancelled.

Invariant: an operation is cancelled only after a GET of its object, by name, said that there is none, that another one
has its name, or that it has ended; never because something was not seen.
"""

from __future__ import annotations

import asyncio
import logging

from vectorindex.api import IndexDelete, IndexOptimize, IndexRebuild, VectorIndex
from vectorindex.api.common import RunStatus
from vectorindex.api.reasons import Reason
from vectorindex.cluster.errors import ClusterError
from vectorindex.dataplane.errors import SidecarError
from vectorindex.domain.members import Member
from vectorindex.domain.verdicts import enumerate_names
from vectorindex.reconcile.gathering import gather_members
from vectorindex.reconcile.keys import Key
from vectorindex.reconcile.ports import Manifest, Ports
from vectorindex.wire.operations import OperationKind, OperationState, OperationStatus
from vectorindex.wire.state import IndexState

logger = logging.getLogger(__name__)

KINDS = {
    OperationKind.DELETE: IndexDelete.definition.kind,
    OperationKind.REBUILD: IndexRebuild.definition.kind,
    OperationKind.OPTIMIZE: IndexOptimize.definition.kind,
}
BUSY = 1.0
"""Seconds until an operation that could not be cancelled yet is looked at again."""


class Sweeper:
    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def reconcile(self, key: Key) -> float | None:
        """Sweep the pods of the index that the key names. Raises ClusterError."""
        manifest = await self._ports.cluster.get(VectorIndex.definition.kind, key.namespace, key.name)
        if manifest is None:
            return None
        members = await gather_members(self._ports, VectorIndex.read(manifest))
        found = [(member, operation) for member in members for operation in _unfinished(member)]
        left = [(member, operation) for member, operation in found if await self._is_gone(key.namespace, operation)]
        if not left:
            return None
        states = await asyncio.gather(*(self._cancel(key.name, member, operation.id) for member, operation in left))
        # Where no answer came it is repeated until it is so, and then nobody knows any more whose it was.
        cancelled = [
            each for each, state in zip(left, states, strict=True) if state in (None, OperationState.CANCELLED)
        ]
        await self._record(manifest, cancelled)
        return None if all(state is not None and state.finished for state in states) else BUSY

    async def _is_gone(self, namespace: str, operation: OperationStatus) -> bool:
        assert operation.object is not None
        manifest = await self._ports.cluster.get(_kind(operation), namespace, operation.object.name)
        if manifest is None or manifest["metadata"]["uid"] != operation.object.uid:
            return True
        return RunStatus.model_validate(manifest.get("status", {})).finished

    async def _cancel(self, index: str, member: Member, operation: str) -> OperationState | None:
        """The operation's state then, None where the pod gives no answer."""
        assert member.address is not None
        try:
            return (await self._ports.sidecars.cancel(member.address, index, operation)).state
        except SidecarError as error:
            logger.warning("pod %s does not cancel operation %s: %s", member.name, operation, error)
            return None

    async def _record(self, index: Manifest, left: list[tuple[Member, OperationStatus]]) -> None:
        by_operation: dict[str, list[str]] = {}
        titles = {}
        for member, operation in left:
            assert operation.object is not None
            by_operation.setdefault(operation.id, []).append(member.name)
            titles[operation.id] = f"{_kind(operation)} {operation.object.name}"
        for identifier, pods in by_operation.items():
            note = f"{titles[identifier]} is gone or has ended: its operation was cancelled on {enumerate_names(pods)}"
            logger.info("%s: %s", index["metadata"]["name"], note)
            try:
                await self._ports.cluster.record(index, Reason.CANCELLED, note, warning=False, transition=identifier)
            except ClusterError as error:
                logger.warning("no Event: %s", error)


def _unfinished(member: Member) -> list[OperationStatus]:
    """What runs in the pod for an object, as its state says."""
    if not isinstance(member.answer, IndexState):
        return []
    return [
        each
        for each in member.answer.operations
        if not each.state.finished and each.object is not None and each.kind in KINDS
    ]


def _kind(operation: OperationStatus) -> str:
    assert operation.kind is not None  # only those whose kind is known were taken
    return KINDS[operation.kind]
