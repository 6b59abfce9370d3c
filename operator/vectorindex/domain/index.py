"""A VectorIndex: what to do about its objects and pods, and its status.

The order of what is wrong: what somebody has to repair (Stalled), then what comes by itself (Reconciling), and the
figures beside it. Figures alone are written at most once a minute: :func:`worth_writing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile

from vectorindex.api import VectorIndex, names
from vectorindex.api.common import MAX_PODS, Parameters
from vectorindex.api.reasons import ConditionType, Reason
from vectorindex.api.vectorindex import Estimate, PodStatus, VectorIndexStatus
from vectorindex.domain.children import Child, Step
from vectorindex.domain.conditions import FALSE, TRUE, UNKNOWN, Fact, build_conditions
from vectorindex.domain.configuration import wanted_configuration
from vectorindex.domain.consistency import Looks, consistency
from vectorindex.domain.figures import agreed, in_force, largest, total
from vectorindex.domain.maintenance import Figures, maintenance_needed
from vectorindex.domain.members import Member, TooManyPods, WrongIdentity, are_watched, troubles
from vectorindex.domain.pacing import passed
from vectorindex.domain.rollout import Rollout
from vectorindex.domain.run import BuildRun
from vectorindex.domain.serving import awaiting, may_serve
from vectorindex.domain.verdicts import Policy, Verdict, counted, enumerate_names, first_violation
from vectorindex.wire import state as wire
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.state import Configuration, IndexState
from vectorindex.wire.text import rounded

FIGURES_INTERVAL = timedelta(seconds=60)
"""Figures that changed alone are written this long after the last write."""
POLL_STARTING, POLL_SHORTEST, POLL_LONGEST = 0.5, 2.0, 300.0
"""Seconds between two looks at the pods: few while one starts or after something changed, more the longer nothing
does. Whatever Kubernetes knows of is watched; that the figures of a pod change, only the pod can say."""
POLL_TROUBLE = 30.0
"""Seconds at most while a pod does not serve, and where pods are not watched: by the looks alone it is found that one
came or went."""


@dataclass(frozen=True)
class IndexSnapshot:
    """All that is looked at. ``children``: what is to be done about each owned object; ``last_write``: when the status
    was last written, ``run_ended``: when the last run on the index ended, None: never, as far as it is known;
    ``building``: the build that is at work on the index, looked for only when a child would replace pods; ``ahead``:
    what an upgrade of the index waits for, see :mod:`vectorindex.domain.upgrade`."""

    now: datetime
    index: VectorIndex
    children: tuple[Child, ...]
    rollout: Rollout
    members: tuple[Member, ...]
    last_write: datetime | None = None
    run_ended: datetime | None = None
    building: BuildRun | None = None
    ahead: str | None = None

    @property
    def pods_wanted(self) -> tuple[Member, ...]:
        """The pods that have to be ready for the index to be."""
        return tuple(member for member in self.members if not member.leaving)

    def held_by(self, child: Child) -> str | None:
        """What the pods of the child wait for, or None."""
        if not child.replaces_pods:
            return None
        if self.building is not None and not troubles(self.pods_wanted):
            return f"{self.building.definition.kind} {self.building.metadata.name} is done"
        return self.ahead if child.is_upgrade else None

    def due(self, child: Child) -> Child | None:
        """What of the child is to be applied now."""
        return child if self.held_by(child) is None else child.meanwhile


@dataclass(frozen=True)
class Configure:
    """Set a pod's configuration."""

    endpoint: Endpoint
    configuration: Configuration


@dataclass(frozen=True)
class IndexActions:
    """What is to be done now."""

    apply: tuple[Child, ...]
    configure: tuple[Configure, ...]


@dataclass(frozen=True)
class IndexSummary:
    """The status, whether to write it, and the seconds until the next look."""

    status: VectorIndexStatus
    write: bool
    again: float


def decide(snapshot: IndexSnapshot) -> IndexActions:
    """Apply what is missing or differs, and set each pod's configuration that does.

    An object that has to go first holds up those after it: pods that are made before their identity is this index's
    would start as another one, and stay so. A new pod template waits for a build that is at work, and one of another
    version of the operator for its turn.
    """
    free = takewhile(lambda child: child.step in (Step.KEEP, Step.APPLY), snapshot.children)
    due = (snapshot.due(child) for child in free if child.step is Step.APPLY)
    return IndexActions(
        apply=tuple(child for child in due if child is not None),
        configure=tuple(_configured(snapshot)),
    )


def _configured(snapshot: IndexSnapshot) -> Iterator[Configure]:
    """For each pod whose configuration is another than the one that is wanted."""
    by_spec = wanted_configuration(snapshot.index)
    for member in snapshot.members:
        if member.endpoint is None or not isinstance(member.answer, IndexState):
            continue
        serve = may_serve(member.answer, member.name, snapshot.members, snapshot.index.status.pods)
        wanted = by_spec.model_copy(update={"serve": serve})
        if wanted != member.answer.configuration:
            yield Configure(member.endpoint, wanted)


@dataclass(frozen=True)
class Applied:
    """What came of applying. ``changed``: objects that are new or different now; ``rejected``: objects that the API
    server refused, by title, with what it said."""

    changed: tuple[str, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)


def summarize(snapshot: IndexSnapshot, applied: Applied) -> IndexSummary:
    """The status that states the snapshot and what came of the actions."""
    index, now = snapshot.index, snapshot.now
    rows = tuple(_row(member, index.status) for member in snapshot.members)
    standing = index.status.condition(ConditionType.REPLICAS_CONSISTENT)
    facts = (
        *_state_facts(_Case(snapshot, applied)),
        _maintenance_fact(index, rows),
        consistency(Looks(now, snapshot.pods_wanted, index.status.pods, snapshot.last_write, standing)),
    )
    status = VectorIndexStatus(
        observed_generation=index.metadata.generation,
        conditions=build_conditions(index.status, index.metadata.generation, now, facts),
        replicas=len(snapshot.pods_wanted) if index.spec.managed is None else snapshot.rollout.replicas,
        selector=None if index.spec.managed is None else names.selector_text(index.metadata.name),
        ready_replicas=sum(row.ready for row in rows),
        parameters=agreed(row.parameters for row in rows),
        vectors=largest(row.vectors for row in rows),
        deleted_vectors=largest(row.deleted_vectors for row in rows),
        delta_vectors=largest(row.delta_vectors for row in rows),
        bytes=total(row.bytes for row in rows),
        pods=rows,
    )
    return IndexSummary(status, worth_writing(snapshot, status), _poll_after(snapshot))


def unreadable(old: VectorIndexStatus, generation: int, now: datetime, problem: str) -> VectorIndexStatus:
    """The status of an index that cannot be read; its pods go on as they are."""
    message = f"the operator cannot read this object: {problem}"
    facts = (
        Fact(ConditionType.READY, FALSE, Reason.INVALID_SPEC, message),
        Fact(ConditionType.RECONCILING, FALSE, Reason.INVALID_SPEC),
        Fact(ConditionType.STALLED, TRUE, Reason.INVALID_SPEC, message),
    )
    conditions = build_conditions(old, generation, now, facts)
    return old.model_copy(update={"observed_generation": generation, "conditions": conditions})


def worth_writing(snapshot: IndexSnapshot, status: VectorIndexStatus) -> bool:
    """Everything but figures at once; figures with it, when a run has ended, and otherwise a minute after the last
    write; nothing when nothing changed."""
    old = snapshot.index.status
    if status == old:
        return False
    if _without_figures(status) != _without_figures(old) or snapshot.last_write is None:
        return True
    return _has_just_ended(snapshot) or passed(snapshot.last_write, snapshot.now) >= FIGURES_INTERVAL


def _has_just_ended(snapshot: IndexSnapshot) -> bool:
    """A run has ended since the last write. That is by another clock: it counts for a while only, or figures would be
    written at every look until the clocks agree."""
    if snapshot.run_ended is None or snapshot.last_write is None:
        return False
    return snapshot.run_ended >= snapshot.last_write and passed(snapshot.run_ended, snapshot.now) < FIGURES_INTERVAL


def _without_figures(status: VectorIndexStatus) -> object:
    conditions = tuple(
        condition.model_copy(update={"message": ""})
        if condition.type == ConditionType.MAINTENANCE_NEEDED or condition.reason == Reason.ROLLOUT_PENDING
        else condition
        for condition in status.conditions
    )
    pods = tuple((pod.name, pod.ready, pod.message) for pod in status.pods)
    scale = (status.replicas, status.ready_replicas, status.selector)
    return status.observed_generation, conditions, scale, pods, status.parameters


def _poll_after(snapshot: IndexSnapshot) -> float:
    since = snapshot.last_write or snapshot.now
    quiet = (snapshot.now - since).total_seconds()
    shortest = POLL_STARTING if any(map(_starts, snapshot.members)) else POLL_SHORTEST
    serves = are_watched(snapshot.index) and not troubles(snapshot.members)
    longest = POLL_LONGEST if serves else POLL_TROUBLE
    return min(longest, max(shortest, quiet / 10))


def _starts(member: Member) -> bool:
    """The pod runs, and is about to answer, or to be told that it may serve: nothing that is watched says so."""
    if not isinstance(member.answer, IndexState):
        return member.pod is not None and member.pod.endpoint is not None
    return member.answer.configuration.serve is None


def _row(member: Member, old: VectorIndexStatus) -> PodStatus:
    """The pod's figures as it last answered."""
    if not isinstance(member.answer, IndexState):
        before = next((row for row in old.pods if row.name == member.name), PodStatus(name=member.name, ready=False))
        return before.model_copy(update={"ready": False, "message": member.trouble})
    state = member.answer
    return PodStatus(
        name=member.name,
        ready=member.trouble is None,
        message=member.trouble,
        vectors=state.counts.live,
        deleted_vectors=state.counts.deleted,
        delta_vectors=state.counts.delta,
        bytes=state.bytes,
        needs_rebuild=state.needs_rebuild,
        rebuild_estimate=_estimate(state.estimates.rebuild) if state.estimates else None,
        optimize_estimate=_estimate(state.estimates.optimize) if state.estimates else None,
        parameters=in_force(state.parameters),
        sequence=state.sequence,
        digest=state.digest,
        volume_id=state.volume_id,
        boot_id=state.boot_id,
    )


def _estimate(answered: wire.Estimate) -> Estimate:
    return Estimate(
        seconds=rounded(answered.seconds),
        memory_bytes=rounded(answered.memory_bytes),
        disk_bytes=rounded(answered.disk_bytes),
        measured=answered.measured,
    )


@dataclass(frozen=True)
class _Case:
    snapshot: IndexSnapshot
    applied: Applied


def _name_conflict(case: _Case) -> Verdict | None:
    foreign = [child.title for child in case.snapshot.children if child.step is Step.CONFLICT]
    if not foreign:
        return None
    return Verdict(
        Reason.NAME_CONFLICT,
        f"{enumerate_names(foreign)} exists already and does not belong to this VectorIndex: remove it, or create a "
        "VectorIndex with another name",
    )


def _invalid_spec(case: _Case) -> Verdict | None:
    for title, message in case.applied.rejected.items():
        return Verdict(Reason.INVALID_SPEC, f"the API server refuses {title}: {message}")
    return None


def _too_many_pods(case: _Case) -> Verdict | None:
    for member in case.snapshot.members:
        if isinstance(member.answer, TooManyPods):
            message = f"pod {member.name} {member.answer.message}: an index has {MAX_PODS} at most; ask for more labels"
            return Verdict(Reason.INVALID_SPEC, message)
    return None


def _identity_mismatch(case: _Case) -> Verdict | None:
    for member in case.snapshot.pods_wanted:
        if isinstance(member.answer, WrongIdentity):
            return Verdict(Reason.IDENTITY_MISMATCH, f"pod {member.name} {member.answer.message}")
    return None


def _awaits_removal(case: _Case) -> Verdict | None:
    old = [child.title for child in case.snapshot.children if child.step is Step.AWAIT_REMOVAL]
    if not old:
        return None
    message = f"{enumerate_names(old)} of the deleted VectorIndex of this name is still being removed"
    return Verdict(Reason.PROGRESSING, message)


def _applied(case: _Case) -> Verdict | None:
    changed = case.applied.changed
    return Verdict(Reason.PROGRESSING, f"{enumerate_names(changed)} was applied") if changed else None


def _rolling(case: _Case) -> Verdict | None:
    rollout = case.snapshot.rollout
    if rollout.trouble is None:
        return None
    return Verdict(Reason.ROLLOUT_IN_PROGRESS if rollout.rolling else Reason.PROGRESSING, rollout.trouble)


def _rollout_pending(case: _Case) -> Verdict | None:
    for child in case.snapshot.children:
        if (cause := case.snapshot.held_by(child)) is not None:
            message = f"the new pod template of {child.title} waits until {cause}"
            return Verdict(Reason.ROLLOUT_PENDING, message)
    return None


def _awaiting_items(case: _Case) -> Verdict | None:
    index = case.snapshot.index
    service = names.pods_service(index.metadata.name) if index.spec.managed is not None else None
    message = awaiting(case.snapshot.pods_wanted, index.status.pods, service)
    return None if message is None else Verdict(Reason.AWAITING_ITEMS, message)


def _pods_starting(case: _Case) -> Verdict | None:
    waiting = troubles(case.snapshot.pods_wanted)
    return Verdict(Reason.PROGRESSING, f"waiting: {enumerate_names(waiting)}") if waiting else None


STALLING: tuple[Policy[_Case, Verdict | None], ...] = (
    _name_conflict,
    _invalid_spec,
    _too_many_pods,
    _identity_mismatch,
)
RECONCILING: tuple[Policy[_Case, Verdict | None], ...] = (
    _awaits_removal,
    _applied,
    _rolling,
    _rollout_pending,
    _awaiting_items,
    _pods_starting,
)


def _state_facts(case: _Case) -> tuple[Fact, Fact, Fact]:
    group = case.snapshot.pods_wanted
    stalled = first_violation(STALLING, case)
    under_way = None if stalled else first_violation(RECONCILING, case)
    waiting = troubles(group)
    if stalled is not None and stalled.reason is not Reason.INVALID_SPEC:
        ready = Fact(ConditionType.READY, FALSE, stalled.reason, stalled.message)
    elif waiting:
        serving = f"{len(group) - len(waiting)} of {counted(len(group), 'pod')} ready: " if group else ""
        ready = Fact(ConditionType.READY, FALSE, Reason.PODS_NOT_READY, f"{serving}{enumerate_names(waiting)}")
    else:
        ready = Fact(ConditionType.READY, TRUE, Reason.ALL_PODS_READY, f"{counted(len(group), 'pod')} ready")
    return (
        ready,
        Fact(ConditionType.RECONCILING, TRUE, under_way.reason, under_way.message)
        if under_way
        else Fact(ConditionType.RECONCILING, FALSE, Reason.UP_TO_DATE if not stalled else stalled.reason),
        Fact(ConditionType.STALLED, TRUE, stalled.reason, stalled.message)
        if stalled
        else Fact(ConditionType.STALLED, FALSE, Reason.NOT_STALLED),
    )


def _maintenance_fact(index: VectorIndex, rows: tuple[PodStatus, ...]) -> Fact:
    kind = ConditionType.MAINTENANCE_NEEDED
    known = [row for row in rows if row.vectors is not None]
    if not known:
        return Fact(kind, UNKNOWN, Reason.PODS_NOT_READY, "no pod has answered so far")
    before = index.status.condition(kind)
    standing = before.reason if before is not None and before.status is TRUE else None
    figures = Figures(known, index.spec.maintenance, index.spec.hnsw or Parameters(), standing)
    if (needed := maintenance_needed(figures)) is not None:
        return Fact(kind, TRUE, needed.reason, needed.message)
    # No figures here: a condition is written at once when it changes, and figures change with every write.
    return Fact(kind, FALSE, Reason.NOT_NEEDED, "deleted and delta items are below the limits of spec.maintenance")
