"""One reconcile of a VectorIndex.

Most looks find nothing to do. So the first one is taken at what events have shown, which costs the API server nothing;
whenever there is anything to do, one at the newest state follows, which alone decides what.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from vectorindex.api import VectorIndex
from vectorindex.api.common import ConditionStatus, UnreadableError
from vectorindex.api.reasons import ConditionType
from vectorindex.api.vectorindex import VectorIndexStatus
from vectorindex.cluster.errors import ClusterError, ConflictError, NotFoundError, RejectedError
from vectorindex.dataplane.errors import SidecarError
from vectorindex.domain import build_line
from vectorindex.domain.children import Child, Step, plan
from vectorindex.domain.index import (
    POLL_LONGEST,
    Applied,
    Configure,
    IndexSnapshot,
    decide,
    summarize,
    unreadable,
)
from vectorindex.domain.members import Member, troubles
from vectorindex.domain.rollout import Rollout
from vectorindex.reconcile.gathering import gather_builds, gather_members, last_apply, last_write
from vectorindex.reconcile.keys import AFTER_GONE, Key, Work
from vectorindex.reconcile.ports import Manifest, Ports
from vectorindex.reconcile.seen import UnseenError
from vectorindex.reconcile.sweep import object_of, run_of, unfinished
from vectorindex.reconcile.upgrades import UpgradeLine
from vectorindex.reconcile.watchlist import Watchlist
from vectorindex.specs import build_owned_objects

logger = logging.getLogger(__name__)

KIND = VectorIndex.definition.kind


class IndexReconciler:
    def __init__(
        self,
        ports: Ports,
        watchlist: Watchlist,
        upgrades: UpgradeLine,
        default_image: str,
        enter: Callable[[Key], None],
    ) -> None:
        self._ports = ports
        self._watchlist = watchlist
        self._upgrades = upgrades
        self._default_image = default_image
        self._enter = enter

    async def glance(self, key: Key) -> float | None:
        """The seconds until the next look, if this one finds nothing to do; None: a reconcile has to decide."""
        try:
            manifest = await self._ports.cluster.get(KIND, key.namespace, key.name)
            if manifest is None or "deletionTimestamp" in manifest["metadata"]:
                return None
            snapshot = await self._gather(key, manifest, VectorIndex.read(manifest))
        except (UnseenError, UnreadableError):
            return None
        self._sweep_what_nobody_wants(key, snapshot.members)
        actions, summary = decide(snapshot), summarize(snapshot, Applied())
        return None if actions.apply or actions.configure or summary.write else summary.again

    async def reconcile(self, key: Key) -> float | None:
        """Returns the seconds until the next look, None when the index is gone. Raises ClusterError."""
        manifest = await self._ports.cluster.get(KIND, key.namespace, key.name)
        if manifest is None:
            self._watchlist.forget(key)
            self._upgrades.done(key)
            return None
        if "deletionTimestamp" in manifest["metadata"]:
            self._upgrades.done(key)
            return None  # its objects go with it, and nothing new is made
        try:
            index = VectorIndex.read(manifest)
        except UnreadableError as error:
            self._upgrades.done(key)
            old, new = _refused(manifest, self._ports.now(), str(error))
            return await self._write(manifest, old, new, POLL_LONGEST)
        snapshot = await self._gather(key, manifest, index)
        self._sweep_what_nobody_wants(key, snapshot.members)
        actions = decide(snapshot)
        applied = await self._apply(actions.apply)
        if any(child.is_upgrade and child.title in applied.rejected for child in actions.apply):
            self._upgrades.done(key)
        await asyncio.gather(*(self._configure(action) for action in actions.configure))
        summary = summarize(snapshot, applied)
        if not summary.write:
            return summary.again
        return await self._write(manifest, index.status, summary.status, summary.again)

    async def _write(self, manifest: Manifest, old: VectorIndexStatus, new: VectorIndexStatus, again: float) -> float:
        """Write the status, if it changed; returns the seconds until the next look. What is new is told before: of a
        status that stands already, nobody would tell after a crash."""
        if new == old:
            return again
        await self._record(manifest, old, new)
        try:
            await self._ports.cluster.apply_status(manifest, new.to_dict())
        except (NotFoundError, ConflictError):
            return AFTER_GONE
        return again

    async def _gather(self, key: Key, manifest: Manifest, index: VectorIndex) -> IndexSnapshot:
        namespace, name = index.metadata.namespace, index.metadata.name
        desired = build_owned_objects(index, self._default_image, self._ports.public_keys())
        live = await asyncio.gather(
            *(self._ports.cluster.get(each["kind"], namespace, each["metadata"]["name"]) for each in desired)
        )
        children = tuple(plan(wanted, found) for wanted, found in zip(desired, live, strict=True))
        ours = [
            found
            for child, found in zip(children, live, strict=True)
            if child.step in (Step.KEEP, Step.APPLY) and found
        ]
        stateful_set = next((found for found in ours if found["kind"] == "StatefulSet"), None)
        replaces_pods = any(child.replaces_pods for child in children)
        snapshot = IndexSnapshot(
            now=self._ports.now(),
            index=index,
            children=children,
            building=build_line.at_work(await gather_builds(self._ports, namespace, name)) if replaces_pods else None,
            rollout=Rollout.read(stateful_set),
            members=await gather_members(self._ports, index),
            last_write=last_write(manifest),
            run_ended=self._watchlist.last_end(namespace, name),
        )
        return replace(snapshot, ahead=await self._line_up(key, snapshot, stateful_set))

    async def _line_up(self, key: Key, snapshot: IndexSnapshot, stateful_set: Manifest | None) -> str | None:
        """What an upgrade of the index waits for: other indexes. One that waits for a build has no turn to take."""
        pods = [member.pod.requested for member in snapshot.members if member.pod is not None]
        if stateful_set is not None and snapshot.rollout.is_upgrade(pods):
            self._upgrades.under_way(key, last_apply(stateful_set))
        elif any(child.is_upgrade and snapshot.held_by(child) is None for child in snapshot.children):
            return await self._upgrades.ask(key, serves=not troubles(snapshot.members))
        else:
            self._upgrades.done(key)
        return None

    def _sweep_what_nobody_wants(self, key: Key, members: tuple[Member, ...]) -> None:
        """A pod is at work for a run that is not under way, as far as it is known: the sweep finds out."""
        for operation in (operation for member in members for operation in unfinished(member)):
            run = run_of(key.namespace, operation)
            if not self._watchlist.is_under_way(run, object_of(operation).uid):
                self._enter(Key(Work.SWEEP, key.namespace, key.name))
                return

    async def _apply(self, children: tuple[Child, ...]) -> Applied:
        """In order: what the pods need comes before the StatefulSet that makes them."""
        changed: list[str] = []
        rejected: dict[str, str] = {}
        for child in children:
            try:
                result = await self._ports.cluster.apply(child.desired)
            except RejectedError as error:
                rejected[child.title] = str(error)
                continue
            if result["metadata"]["resourceVersion"] != child.version:
                changed.append(child.title)
                namespace = child.desired["metadata"]["namespace"]
                logger.info("applied %s in %s: %s", child.title, namespace, child.difference)
        return Applied(tuple(changed), rejected)

    async def _configure(self, action: Configure) -> None:
        try:
            await self._ports.sidecars.configure(action.endpoint, action.configuration)
        except SidecarError as error:
            logger.warning("pod %s does not take its configuration: %s", action.endpoint.pod, error)

    async def _record(self, manifest: Manifest, old: VectorIndexStatus, new: VectorIndexStatus) -> None:
        for kind, bad in (
            (ConditionType.READY, ConditionStatus.FALSE),
            (ConditionType.STALLED, ConditionStatus.TRUE),
            (ConditionType.MAINTENANCE_NEEDED, ConditionStatus.TRUE),
            (ConditionType.REPLICAS_CONSISTENT, ConditionStatus.FALSE),
        ):
            before, after = old.condition(kind), new.condition(kind)
            if after is None or (before is not None and before.status == after.status):
                continue
            if before is None and kind is ConditionType.READY:
                continue  # a new object's pods are not ready yet, and that is no event
            if bad not in (after.status, before.status if before is not None else None):
                continue  # it was never bad, it was not known
            # By what it was before: after a crash the same change is found again, at a later time.
            since = "never" if before is None else before.last_transition_time.isoformat()
            transition = f"{kind} {after.status} {since}"
            try:
                await self._ports.cluster.record(
                    manifest,
                    after.reason,
                    after.message or f"{kind} is {after.status}",
                    warning=after.status is bad,
                    transition=transition,
                )
            except ClusterError as error:
                logger.warning("no Event for %s %s: %s", KIND, new.condition(kind), error)


def _refused(manifest: Manifest, now: datetime, problem: str) -> tuple[VectorIndexStatus, VectorIndexStatus]:
    """The status of an index that cannot be read, as it is and as it should be."""
    try:
        old = VectorIndexStatus.model_validate(manifest.get("status", {}))
    except ValidationError:
        old = VectorIndexStatus()
    return old, unreadable(old, manifest["metadata"]["generation"], now, problem)
