"""The pods that an index should have, and whether each of them is there, answers, and answers as this index.

Invariant: an IndexState is in a Member only after :func:`judge` compared its identity; so whatever counts, counts from
the right pod of the right index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vectorindex.api import VectorIndex, names
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.state import IndexState


@dataclass(frozen=True)
class Pod:
    """What is needed of a Pod. ``endpoint`` is None while its sidecar does not run; ``held_by`` is then the cause, if
    Kubernetes gives one."""

    name: str
    uid: str
    endpoint: Endpoint | None
    ready: bool
    held_by: str | None = None

    @classmethod
    def read(cls, manifest: Mapping[str, Any], index: str) -> Pod:
        """From the object of the API; ``index``: the name of the one whose pod it is."""
        metadata, status = manifest["metadata"], manifest.get("status", {})
        conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
        held_by = _waiting_reason(status) or _unschedulable(conditions)
        host = status.get("podIP") if status.get("phase") == "Running" and held_by is None else None
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            endpoint=Endpoint(metadata["namespace"], index, metadata["name"], host, names.PORT) if host else None,
            ready=conditions.get("Ready", {}).get("status") == "True" and "deletionTimestamp" not in metadata,
            held_by=held_by,
        )


def _waiting_reason(status: Mapping[str, Any]) -> str | None:
    """Why the sidecar's container does not run: ``ImagePullBackOff``, ``CrashLoopBackOff``."""
    for container in status.get("containerStatuses", ()):
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


Answer = IndexState | NoAnswer


@dataclass(frozen=True)
class Member:
    """One pod that the index should have."""

    name: str
    pod: Pod | None
    answer: Answer

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the pod may be called: None unless it answers as this index."""
        return self.pod.endpoint if self.pod is not None and isinstance(self.answer, IndexState) else None

    @property
    def trouble(self) -> str | None:
        """Why the pod does not serve, or None."""
        if isinstance(self.answer, NoAnswer):
            return self.answer.message
        if self.pod is None or not self.pod.ready:
            return "is not ready"
        return None

    @property
    def volume(self) -> str | None:
        return self.answer.volume_id if isinstance(self.answer, IndexState) else None


MISSING = NoAnswer("does not exist")
STARTING = NoAnswer("does not run yet")


def members(index: VectorIndex, pods: Iterable[Pod], answers: Mapping[str, Answer]) -> tuple[Member, ...]:
    """The pods of the index in order of their ordinals, 0 to replicas - 1. ``answers``: by name, of every pod that
    has an endpoint."""
    by_name = {pod.name: pod for pod in pods}
    found = []
    for ordinal in range(index.spec.managed.replicas):
        name = names.pod(index.metadata.name, ordinal)
        pod = by_name.get(name)
        if pod is None:
            found.append(Member(name, None, MISSING))
        elif pod.endpoint is None:
            found.append(Member(name, pod, NoAnswer(f"does not run: {pod.held_by}") if pod.held_by else STARTING))
        else:
            found.append(Member(name, pod, answers[name]))
    return tuple(found)


def judge(index: VectorIndex, pod: str, state: IndexState) -> Answer:
    """The state, if the pod gave it as this index; otherwise what it is instead. A pod that a deleted VectorIndex of
    this name has left is replaced without anybody's help, so it is no wrong one."""
    identity = state.identity
    if identity is None:
        return WrongIdentity("answers without an identity: it was started without the identity file")
    wanted = {"namespace": index.metadata.namespace, "index": index.metadata.name, "pod": pod}
    for field, value in wanted.items():
        answered = getattr(identity, field)
        if answered != value:
            return WrongIdentity(f"answers as another one: its {field} is {answered!r}, not {value!r}")
    if identity.uid != index.metadata.uid:
        return NoAnswer("belongs to a deleted VectorIndex of this name; if it stays, delete the pod")
    if state.dimensions != index.spec.dimensions or state.metric != index.spec.metric:
        return WrongIdentity(
            f"holds an index of {state.dimensions} dimensions and metric {state.metric}, "
            f"not {index.spec.dimensions} and {index.spec.metric}"
        )
    return state


def troubles(group: Iterable[Member]) -> tuple[str, ...]:
    """What is wrong with each pod that does not serve: ``vi-1 is not ready``."""
    return tuple(f"{member.name} {member.trouble}" for member in group if member.trouble is not None)
