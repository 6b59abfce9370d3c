"""The sweep: operations whose object is gone are cancelled.

Invariants: an operation is cancelled only after a GET of its object, by name, said that there is none, that another one
has its name, or that it has ended; never because something was not seen. A sweep is repeated, ever more seldom, until
every pod that runs has said what it does, and every cancel was answered; told is what a pod has answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from vectorindex.api import VectorIndex
from vectorindex.api.common import RunStatus
from vectorindex.api.reasons import Reason
from vectorindex.cluster.errors import ClusterError
from vectorindex.dataplane.errors import SidecarError
from vectorindex.domain.members import Member, NoAnswer, WrongIdentity
from vectorindex.domain.verdicts import enumerate_names
from vectorindex.reconcile.gathering import gather_members
from vectorindex.reconcile.keys import Key, Work
from vectorindex.reconcile.ports import Manifest, Ports
from vectorindex.wire.operations import ObjectReference, OperationKind, OperationState, OperationStatus
from vectorindex.wire.state import IndexState

logger = logging.getLogger(__name__)

KINDS = {
    OperationKind.DELETE: Work.DELETE,
    OperationKind.REBUILD: Work.REBUILD,
    OperationKind.OPTIMIZE: Work.OPTIMIZE,
}
SHORTEST, LONGEST = 1.0, 30.0
"""Seconds until a sweep that is not done is repeated: twice as many each time."""

Left = dict[tuple[str, str], OperationStatus]
"""Operations that nobody wants any more, by pod and ID."""


@dataclass(frozen=True)
class _Undone:
    """What a sweep left to the next one. A cancel that was not answered may have had its effect: the pod names the
    operation no more then, and whose it was is known only from here."""

    delay: float = SHORTEST / 2
    left: Left = field(default_factory=dict)


class Sweeper:
    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._undone: dict[Key, _Undone] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Sweep the pods of the index that the key names; returns the seconds until the next time, None when it is
        done. Raises ClusterError."""
        manifest = await self._ports.cluster.get(VectorIndex.definition.kind, key.namespace, key.name)
        if manifest is None:
            self._undone.pop(key, None)
            return None
        members = await gather_members(self._ports, VectorIndex.read(manifest))
        undone = self._undone.get(key, _Undone())
        left = undone.left | {
            (member.name, operation.id): operation
            for member in members
            for operation in unfinished(member)
            if await self._is_gone(key.namespace, operation)
        }
        left = await self._cancel_all(manifest, members, left)
        if not left and not any(map(_is_silent, members)):
            self._undone.pop(key, None)
            return None
        self._undone[key] = _Undone(min(LONGEST, 2 * undone.delay), left)
        return self._undone[key].delay

    async def _cancel_all(self, index: Manifest, members: Iterable[Member], left: Left) -> Left:
        """Cancel what can be; returns what is not known to be finished, of pods that the index still has."""
        by_name = {member.name: member for member in members}
        left = {(pod, identifier): operation for (pod, identifier), operation in left.items() if pod in by_name}
        called = [each for each in left if by_name[each[0]].endpoint is not None]
        states = await asyncio.gather(*(self._cancel(by_name[pod], identifier) for pod, identifier in called))
        answered = dict(zip(called, states, strict=True))
        cancelled = [
            (pod, left[pod, identifier])
            for (pod, identifier), state in answered.items()
            if state is OperationState.CANCELLED
        ]
        await self._record(index, cancelled)
        return {
            each: operation
            for each, operation in left.items()
            if (state := answered.get(each)) is None or not state.finished
        }

    async def _is_gone(self, namespace: str, operation: OperationStatus) -> bool:
        run = run_of(namespace, operation)
        manifest = await self._ports.cluster.get(run.work, namespace, run.name)
        if manifest is None or manifest["metadata"]["uid"] != object_of(operation).uid:
            return True
        return RunStatus.model_validate(manifest.get("status", {})).finished

    async def _cancel(self, member: Member, operation: str) -> OperationState | None:
        """The operation's state then, None where the pod gives no answer."""
        assert member.endpoint is not None
        try:
            return (await self._ports.sidecars.cancel(member.endpoint, operation)).state
        except SidecarError as error:
            logger.warning("pod %s does not cancel operation %s: %s", member.name, operation, error)
            return None

    async def _record(self, index: Manifest, cancelled: Iterable[tuple[str, OperationStatus]]) -> None:
        by_operation: dict[str, list[str]] = {}
        titles = {}
        for pod, operation in cancelled:
            by_operation.setdefault(operation.id, []).append(pod)
            run = run_of(index["metadata"]["namespace"], operation)
            titles[operation.id] = f"{run.work} {run.name}"
        for identifier, pods in by_operation.items():
            note = f"{titles[identifier]} is gone or has ended: its operation was cancelled on {enumerate_names(pods)}"
            logger.info("%s: %s", index["metadata"]["name"], note)
            try:
                await self._ports.cluster.record(index, Reason.CANCELLED, note, warning=False, transition=identifier)
            except ClusterError as error:
                logger.warning("no Event: %s", error)


def _is_silent(member: Member) -> bool:
    """Its sidecar runs, and does not say what it is at."""
    runs = member.pod is not None and member.pod.endpoint is not None
    return runs and isinstance(member.answer, NoAnswer) and not isinstance(member.answer, WrongIdentity)


def unfinished(member: Member) -> list[OperationStatus]:
    """What runs in the pod for an object, as its state says."""
    if not isinstance(member.answer, IndexState):
        return []
    return [
        each
        for each in member.answer.operations
        if not each.state.finished and each.object is not None and each.kind in KINDS
    ]


def run_of(namespace: str, operation: OperationStatus) -> Key:
    """The object that an unfinished operation was started for."""
    assert operation.kind is not None  # only those whose kind is known were taken
    return Key(KINDS[operation.kind], namespace, object_of(operation).name)


def object_of(operation: OperationStatus) -> ObjectReference:
    assert operation.object is not None  # only those of an object were taken
    return operation.object
