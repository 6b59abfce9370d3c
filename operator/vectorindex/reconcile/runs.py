"""One reconcile of a run: an IndexDelete, an IndexRebuild or an IndexOptimize.

All kinds take the same steps; what differs is what they gather, and their decisions, which are in ``domain``.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from vectorindex.api import IndexDelete, VectorIndex, names
from vectorindex.api.common import ConditionStatus, RunStatus, UnreadableError
from vectorindex.api.reasons import ConditionType
from vectorindex.cluster.errors import ClusterError, ConflictError, NotFoundError
from vectorindex.dataplane import errors as dataplane
from vectorindex.domain import build, build_line, delete
from vectorindex.domain.ids import read_ids
from vectorindex.domain.members import KeyPending, Member, NoAnswer
from vectorindex.domain.missing import with_missing
from vectorindex.domain.rollout import Rollout
from vectorindex.domain.run import (
    Begin,
    BuildRun,
    Call,
    Decision,
    Refused,
    Replies,
    Reply,
    Run,
    RunSummary,
    Verb,
    Work,
    settled_fields,
    time_to_live,
    unreadable,
)
from vectorindex.domain.run import updated as with_changes
from vectorindex.domain.verdicts import Verdict
from vectorindex.reconcile.gathering import (
    BUILDS,
    gather_builds,
    gather_index,
    gather_members,
    index_name,
    last_write,
)
from vectorindex.reconcile.keys import Key
from vectorindex.reconcile.ports import Manifest, Ports
from vectorindex.reconcile.watchlist import Watchlist
from vectorindex.wire.operations import DeleteBody

logger = logging.getLogger(__name__)

MODELS: dict[str, type[Run]] = {model.definition.kind: model for model in (IndexDelete, *BUILDS)}

Snapshot = TypeVar("Snapshot", delete.DeleteSnapshot, build.BuildSnapshot)


class GoneError(Exception):
    """The object that was being reconciled is gone, or another one has its name. ``index``: what it was for."""

    def __init__(self, index: str | None) -> None:
        super().__init__("the object is gone")
        self.index = index


class RunReconciler(ABC, Generic[Snapshot]):
    """The steps that all kinds of runs take."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def reconcile(self, key: Key) -> float | None:
        """Returns the seconds until the next look, None at the end.

        Raises:
            GoneError: the object is gone; its operations are to be cancelled.
            UnreadableError: its index cannot be read.
            ClusterError: to be tried again.
        """
        model = MODELS[key.work]
        manifest = await self._ports.cluster.get(model.definition.kind, key.namespace, key.name)
        if manifest is None:
            raise GoneError(None)
        try:
            run = model.read(manifest)
        except UnreadableError as error:
            await self._refuse(manifest, str(error))
            return None
        if run.status.finished:
            return await self._settle(manifest, run)
        return await self._step(manifest, run)

    async def _settle(self, manifest: Manifest, run: Run) -> float | None:
        """A run that has ended: its status speaks of the newest generation, and its object goes when it is time."""
        left = time_to_live(run, self._ports.now())
        if left == 0.0:
            await self._delete(manifest)
            return None
        await self._write(manifest, run.status, with_changes(run.status, **settled_fields(run)))
        return left

    async def _delete(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        try:
            await self._ports.cluster.delete(manifest)
        except NotFoundError:
            return
        except ConflictError as error:
            raise GoneError(index_name(manifest)) from error
        logger.info(
            "deleted %s %s/%s: its time to live is over", manifest["kind"], metadata["namespace"], metadata["name"]
        )

    async def _step(self, manifest: Manifest, run: Run) -> float | None:
        return await self._take(manifest, await self._gather(manifest, run))

    async def _take(self, manifest: Manifest, snapshot: Snapshot) -> float | None:
        """The step that follows from a snapshot."""
        decision, run = self._decide(snapshot), snapshot.run
        calls = decision.calls if isinstance(decision, Work) else ()
        replies = await execute(self._ports, calls)
        summary = self._summarize(snapshot, decision, replies)
        await self._write(manifest, run.status, summary.status)
        return summary.again

    async def _refuse(self, manifest: Manifest, problem: str) -> None:
        """End a run that cannot be read, unless it has ended before."""
        if "completionTime" not in manifest.get("status", {}):
            generation = manifest["metadata"]["generation"]
            await self._write(manifest, RunStatus(), unreadable(generation, self._ports.now(), problem))

    async def _write(self, manifest: Manifest, old: RunStatus, new: RunStatus) -> Manifest:
        """Tell it first: of a status that stands already, nobody would tell after a crash. Told twice is told once.
        Returns the object as it is then."""
        if new == old:
            return manifest
        await self._record(manifest, old, new)
        try:
            return await self._ports.cluster.apply_status(manifest, new.to_dict())
        except (NotFoundError, ConflictError) as error:
            raise GoneError(index_name(manifest)) from error

    async def _record(self, manifest: Manifest, old: RunStatus, new: RunStatus) -> None:
        """One Event for each reason, however often a run comes back to it."""
        before, after = old.condition(ConditionType.SUCCEEDED), new.condition(ConditionType.SUCCEEDED)
        if after is None or (before is not None and before.reason == after.reason):
            return
        warning = after.status is ConditionStatus.FALSE
        try:
            await self._ports.cluster.record(manifest, after.reason, after.message, warning=warning, transition="")
        except ClusterError as error:
            logger.warning("no Event for %s %s: %s", manifest["kind"], manifest["metadata"]["name"], error)

    async def _index(self, run: Run) -> VectorIndex | None:
        return await gather_index(self._ports, run.metadata.namespace, run.spec.index_ref.name)

    def _frame(
        self, manifest: Manifest, run: Run, index: VectorIndex | None, members: tuple[Member, ...]
    ) -> dict[str, Any]:
        """What the snapshots of all kinds hold."""
        return {
            "now": self._ports.now(),
            "run": run,
            "index": index,
            "members": members,
            "last_write": last_write(manifest),
        }

    async def _members(self, run: Run, index: VectorIndex | None) -> tuple[Member, ...]:
        """No pod is asked for a run of another index of the same name: that run only ends."""
        seen = run.status.index_uid
        if index is None or seen not in (None, index.metadata.uid):
            return ()
        members = await gather_members(self._ports, index)
        return members if index.spec.managed is not None else with_missing(members, run.status.pods, self._ports.now())

    @abstractmethod
    async def _gather(self, manifest: Manifest, run: Run) -> Snapshot: ...

    @abstractmethod
    def _decide(self, snapshot: Snapshot) -> Decision: ...

    @abstractmethod
    def _summarize(self, snapshot: Snapshot, decision: Decision, replies: Replies) -> RunSummary[Any]: ...


class DeleteReconciler(RunReconciler[delete.DeleteSnapshot]):
    async def _step(self, manifest: Manifest, run: Run) -> float | None:
        """A delete that begins calls the pods at once, by what was read a moment before: most are as short as that."""
        snapshot = await self._gather(manifest, run)
        if isinstance(self._decide(snapshot), Begin):
            begun = self._summarize(snapshot, Begin(), {}).status
            manifest = await self._write(manifest, run.status, begun)
            run, written = IndexDelete.read(manifest), last_write(manifest)
            snapshot = replace(snapshot, now=self._ports.now(), run=run, last_write=written)
        return await self._take(manifest, snapshot)

    async def _gather(self, manifest: Manifest, run: Run) -> delete.DeleteSnapshot:
        assert isinstance(run, IndexDelete)
        config_map = None
        if run.spec.external_ids_from is not None:
            reference = run.spec.external_ids_from.config_map_key_ref
            config_map = await self._ports.cluster.get("ConfigMap", run.metadata.namespace, reference.name)
        ids = read_ids(run, config_map)
        request = ids if isinstance(ids, Verdict) else delete.build_request(run, ids)
        index = await self._index(run)
        frame = self._frame(manifest, run, index, await self._members(run, index))
        return delete.DeleteSnapshot(**frame, request=request)

    def _decide(self, snapshot: delete.DeleteSnapshot) -> Decision:
        return delete.decide(snapshot)

    def _summarize(self, snapshot: delete.DeleteSnapshot, decision: Decision, replies: Replies) -> RunSummary[Any]:
        return delete.summarize(snapshot, decision, replies)


class BuildReconciler(RunReconciler[build.BuildSnapshot]):
    """Of both kinds of builds, so that they wait for each other.

    A build waits as long as the first in line, by what events have shown, is before it by its newest state: so a line
    of any length costs each of its builds one request. None begins by what events have shown, which may be behind: it
    lists the builds that have not ended, and begins only if it is the first of them. All that were created before this
    build are in that list, so the order of creation holds whatever was not seen so far.
    """

    def __init__(self, ports: Ports, watchlist: Watchlist) -> None:
        super().__init__(ports)
        self._watchlist = watchlist
        self._starting: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def _step(self, manifest: Manifest, run: Run) -> float | None:
        snapshot = await self._gather(manifest, run)
        if not isinstance(self._decide(snapshot), Begin):
            return await self._take(manifest, snapshot)
        # Two runs that look at the line at the same time could both find themselves first. So a run that is about to
        # begin looks once more while no other does; no pod is asked meanwhile, or one that hangs would stop them all.
        lock = self._starting.setdefault((run.metadata.namespace, run.spec.index_ref.name), asyncio.Lock())
        async with lock:
            return await self._take(manifest, replace(snapshot, ahead=await self._newest_ahead(snapshot.run)))

    async def _gather(self, manifest: Manifest, run: Run) -> build.BuildSnapshot:
        assert isinstance(run, BUILDS)
        index = await self._index(run)
        ahead = None if run.status.start_time is not None else await self._seen_ahead(run)
        if build.waits_for_others(run, index, ahead):
            return build.BuildSnapshot(**self._frame(manifest, run, index, ()), ahead=ahead)
        rollout = await self._rollout(run, index)
        members = await self._members(run, index)
        return build.BuildSnapshot(**self._frame(manifest, run, index, members), ahead=ahead, rollout=rollout)

    async def _rollout(self, run: Run, index: VectorIndex | None) -> Rollout:
        if run.status.start_time is not None or index is None or index.spec.managed is None:
            return Rollout()
        name = names.stateful_set(index.metadata.name)
        return Rollout.read(await self._ports.cluster.get("StatefulSet", run.metadata.namespace, name))

    async def _seen_ahead(self, run: BuildRun) -> BuildRun | None:
        """The build that goes first by what events have shown, if it really does."""
        first = self._watchlist.first_build(run.metadata.namespace, run.spec.index_ref.name)
        if first is None or (first.work, first.name) == (run.definition.kind, run.metadata.name):
            return None
        manifest = await self._ports.cluster.get(first.work, first.namespace, first.name)
        if manifest is None:
            return None
        try:
            other = MODELS[first.work].read(manifest)
        except UnreadableError:
            return None  # its own reconcile ends it
        assert isinstance(other, BUILDS)
        return other if build_line.first_in_line((run, other)) is other else None

    async def _newest_ahead(self, run: BuildRun) -> BuildRun | None:
        """The build that goes first by the newest state of all that have not ended."""
        line = await gather_builds(self._ports, run.metadata.namespace, run.spec.index_ref.name)
        first = build_line.first_in_line(line)
        return None if first is None or first.metadata.uid == run.metadata.uid else first

    def _decide(self, snapshot: build.BuildSnapshot) -> Decision:
        return build.decide(snapshot)

    def _summarize(self, snapshot: build.BuildSnapshot, decision: Decision, replies: Replies) -> RunSummary[Any]:
        return build.summarize(snapshot, decision, replies)


async def execute(ports: Ports, calls: tuple[Call, ...]) -> Replies:
    """Make the calls, all at once; failures are values."""
    replies = await asyncio.gather(*(_call(ports, call) for call in calls))
    return {call.pod: reply for call, reply in zip(calls, replies, strict=True)}


async def _call(ports: Ports, call: Call) -> Reply:
    sidecars = ports.sidecars
    try:
        if call.verb is Verb.CANCEL:
            return await sidecars.cancel(call.endpoint, call.operation)
        assert call.body is not None
        if call.verb is Verb.PREVIEW:
            assert isinstance(call.body, DeleteBody)
            return await sidecars.preview_delete(call.endpoint, call.body.request)
        if call.verb is Verb.LOOK:
            try:
                return await sidecars.operation(call.endpoint, call.operation)
            except dataplane.NotFoundError:
                pass  # a new volume, or the start never arrived
        return await sidecars.start(call.endpoint, call.operation, call.body)
    except dataplane.UnauthorizedError as error:
        return KeyPending.because(str(error))
    except dataplane.OtherRequestError as error:
        return Refused(str(error), other=True)
    except dataplane.RefusedError as error:
        return Refused(str(error))
    except dataplane.SidecarError as error:
        return NoAnswer(str(error))
