"""The pods that an index has, and whether each of them is there, answers, and answers as this index.

Pods of the operator's have ordinals, so it is known which should be there. Of the user's own (``podSelector``) it has
those that match; a pod that has ended for good (Succeeded, Failed) is none any more.

Invariant: an IndexState is in a Member only after :func:`judge` compared its identity; so whatever counts, counts from
the right pod of the right index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from vectorindex.api import VectorIndex, names
from vectorindex.api.common import MAX_PODS
from vectorindex.domain.children import requested
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.state import IndexState


@dataclass(frozen=True)
class Pod:
    """What is needed of a Pod. ``endpoint`` is None while its sidecar cannot be called; ``held_by`` says why then, if
    that is known."""

    name: str
    uid: str
    endpoint: Endpoint | None
    ready: bool
    held_by: str | None = None
    leaving: bool = False
    """It is being removed."""
    ended: bool = False
    """Its containers have ended, and are not started again."""
    requested: str | None = None
    """The digest of what the index asked for when the pod was made."""

    @classmethod
    def read(cls, manifest: Mapping[str, Any], index: str, port: int = names.PORT) -> Pod:
        """From the object of the API; ``index``: the name of the one whose pod it is; ``port``: its sidecar's."""
        metadata, status = manifest["metadata"], manifest.get("status", {})
        conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
        reason = _waiting_reason(status) or _unschedulable(conditions)
        held_by = None if reason is None else f"does not run: {reason}"
        host = status.get("podIP") if status.get("phase") == "Running" and held_by is None else None
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            endpoint=Endpoint(metadata["namespace"], index, metadata["name"], host, port) if host else None,
            ready=conditions.get("Ready", {}).get("status") == "True" and "deletionTimestamp" not in metadata,
            held_by=held_by,
            leaving="deletionTimestamp" in metadata,
            ended=status.get("phase") in ("Succeeded", "Failed"),
            requested=requested(manifest),
        )


def read_pods(index: VectorIndex, manifests: Iterable[Mapping[str, Any]]) -> tuple[Pod, ...]:
    """The pods of the index in order of their names, from the objects of the API that :func:`label_selector` finds. If
    more match than an index can have, none is called: the selector cannot be meant like this."""
    port = index.spec.port or names.PORT
    pods = sorted((Pod.read(each, index.metadata.name, port) for each in manifests), key=lambda pod: place(pod.name))
    if index.spec.managed is not None:
        return tuple(pods)
    pods = [pod for pod in pods if not pod.ended]
    return tuple(pods if len(pods) <= MAX_PODS else (replace(pod, endpoint=None) for pod in pods))


def label_selector(index: VectorIndex) -> str:
    """What the pods are found by, as query parameters have it."""
    if index.spec.pod_selector is not None:
        return index.spec.pod_selector.to_text()
    return names.selector_text(index.metadata.name)


def are_watched(index: VectorIndex) -> bool:
    """Its pods have the label by which pods are watched."""
    selector = index.spec.pod_selector
    return selector is None or names.INDEX_LABEL in (selector.match_labels or {})


def place(pod: str) -> tuple[str, int]:
    """The place of a pod's name in an order in which ``app-2`` comes before ``app-10``."""
    prefix, _, number = pod.rpartition("-")
    return (prefix, int(number)) if number.isascii() and number.isdecimal() else (pod, -1)


def _waiting_reason(status: Mapping[str, Any]) -> str | None:
    """Why the sidecar's container does not run: ``ImagePullBackOff``, ``CrashLoopBackOff``."""
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if container["name"] == names.CONTAINER:
            reason: str | None = container.get("state", {}).get("waiting", {}).get("reason")
            return reason
    return None


def _unschedulable(conditions: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why no node takes the pod."""
    scheduled = conditions.get("PodScheduled", {})
    return None if scheduled.get("status") != "False" else scheduled.get("message") or scheduled.get("reason")


@dataclass(frozen=True)
class NoAnswer:
    """The pod gave no answer that counts; ``message`` says why, in the same words as long as it is the same cause."""

    message: str


@dataclass(frozen=True)
class WrongIdentity(NoAnswer):
    """The pod answered, but as something else."""


KEY_ARRIVES = timedelta(minutes=3)
"""By then a pod has the identity file that its ConfigMap holds: the kubelet takes up to two minutes."""


@dataclass(frozen=True)
class KeyPending(NoAnswer):
    """The pod does not accept the operator's token."""

    @classmethod
    def because(cls, refusal: str) -> Self:
        """``refusal``: what the pod says."""
        return cls(f"does not accept the operator's token yet ({refusal}): its identity file may be on its way")

    @classmethod
    def overdue(cls, refusal: str, config_map: str) -> Self:
        """So it has been for longer than :data:`KEY_ARRIVES`."""
        return cls(
            f"does not accept the operator's token ({refusal}), although ConfigMap {config_map} has not changed for 3 "
            "minutes: see that the pod mounts it and that the clocks agree, then delete the pod"
        )


class TooManyPods(NoAnswer):
    """The pod is one of more than an index can have, and was not asked."""


Answer = IndexState | NoAnswer


@dataclass(frozen=True)
class Member:
    """One pod of the index. ``leaving``: it is being removed, and it is not known that another one takes its place;
    ``missing_since``: it was one of the index's pods, and has not been there since then."""

    name: str
    pod: Pod | None
    answer: Answer
    leaving: bool = False
    missing_since: datetime | None = None

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the pod may be called: None unless it answers as this index."""
        return self.pod.endpoint if self.pod is not None and isinstance(self.answer, IndexState) else None

    @property
    def trouble(self) -> str | None:
        """Why the pod does not serve, or None."""
        if self.leaving:
            return "is being removed"
        if isinstance(self.answer, NoAnswer):
            return self.answer.message
        if self.is_held_back:
            return "awaits its items"
        if self.pod is None or not self.pod.ready:
            return "is not ready"
        return None

    @property
    def is_held_back(self) -> bool:
        """The pod was told not to serve (:mod:`vectorindex.domain.serving`)."""
        return isinstance(self.answer, IndexState) and self.answer.configuration.serve is False

    @property
    def volume(self) -> str | None:
        return self.answer.volume_id if isinstance(self.answer, IndexState) else None


NO_POD = "no pod matches spec.podSelector"
MISSING = NoAnswer("does not exist")
STARTING = NoAnswer("does not run yet")


def members(index: VectorIndex, pods: Iterable[Pod], answers: Mapping[str, Answer]) -> tuple[Member, ...]:
    """The pods of the index in order of their ordinals, 0 to replicas - 1; with ``podSelector``, those that match in
    order of their names. ``answers``: by name, of every pod that has an endpoint."""
    pods = tuple(pods)
    if index.spec.managed is None:
        if len(pods) > MAX_PODS:
            too_many = TooManyPods(f"is one of {len(pods)} pods that match spec.podSelector")
            return tuple(Member(pod.name, pod, too_many) for pod in pods[:MAX_PODS])
        return tuple(_member(pod, answers, leaving=pod.leaving) for pod in pods)
    by_name = {pod.name: pod for pod in pods}
    found = []
    for ordinal in range(index.spec.managed.replicas):
        name = names.pod(index.metadata.name, ordinal)
        pod = by_name.get(name)
        found.append(Member(name, None, MISSING) if pod is None else _member(pod, answers))
    return tuple(found)


def _member(pod: Pod, answers: Mapping[str, Answer], *, leaving: bool = False) -> Member:
    if pod.endpoint is None:
        answer: Answer = NoAnswer(pod.held_by) if pod.held_by else STARTING
    else:
        answer = answers[pod.name]
    return Member(pod.name, pod, answer, leaving)


def judge(index: VectorIndex, pod: str, state: IndexState) -> Answer:
    """The state, if the pod gave it as this index; otherwise what it is instead. A pod that a deleted VectorIndex of
    this name has left is replaced, or finds this one in its identity file, without anybody's help: so it is no wrong
    one."""
    identity = state.identity
    if identity is None:
        return WrongIdentity("answers without an identity: it was started without the identity file")
    if not identity.pod:
        return WrongIdentity("answers without the name of its pod: set POD_NAME in its container by the downward API")
    wanted = {"namespace": index.metadata.namespace, "index": index.metadata.name, "pod": pod}
    for field, value in wanted.items():
        answered = getattr(identity, field)
        if answered != value:
            return WrongIdentity(f"answers as another one: its {field} is {answered!r}, not {value!r}")
    if identity.uid != index.metadata.uid:
        return NoAnswer("still answers as a deleted VectorIndex of this name; if it does for minutes, delete the pod")
    if state.dimensions != index.spec.dimensions or state.metric != index.spec.metric:
        return WrongIdentity(
            f"holds an index of {state.dimensions} dimensions and metric {state.metric}, "
            f"not {index.spec.dimensions} and {index.spec.metric}"
        )
    return state


def troubles(group: Iterable[Member]) -> tuple[str, ...]:
    """What is wrong with each pod that does not serve: ``vi-1 is not ready``; or that there is none at all."""
    pods = tuple(group)
    if not pods:
        return (NO_POD,)
    return tuple(f"{member.name} {member.trouble}" for member in pods if member.trouble is not None)
