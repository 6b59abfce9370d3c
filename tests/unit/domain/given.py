"""Snapshots for the tables: an index ``vi`` of three pods that serve, unless a test says otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from vectorindex.api import IndexDelete, IndexOptimize, IndexRebuild, VectorIndex
from vectorindex.domain.members import Answer, Member, NoAnswer, Pod
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.operations import (
    BeforeAfter,
    Computations,
    DeleteResult,
    GraphResult,
    OperationKind,
    OperationState,
    OperationStatus,
    ParametersInForce,
    Recall,
    pack_bitmap,
)
from vectorindex.wire.state import Configuration, Counts, IndexState, PodIdentity

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
UID = "uid-of-vi"
DIGEST = "00000000000000a1"
RUN_UID = "uid-of-run"


def ago(seconds: float) -> str:
    """A time before now, as the API writes it."""
    return (NOW - timedelta(seconds=seconds)).isoformat()


def index(status: dict[str, Any] | None = None, **spec: Any) -> VectorIndex:
    managed = {"replicas": 3, "storage": {"size": "1Gi"}}
    return VectorIndex.read(
        {
            "metadata": {"name": "vi", "namespace": "default", "uid": UID, "generation": 1},
            "spec": {"dimensions": 8, "metric": "L2", "managed": managed, **spec},
            "status": status or {},
        }
    )


OWN_PODS: dict[str, Any] = {"managed": None, "podSelector": {"matchLabels": {"app": "shop"}}}
"""What makes :func:`index` one whose pods are the user's own."""


def parameters(m: int = 16, ef_construction: int = 200) -> ParametersInForce:
    return ParametersInForce(m=m, ef_construction=ef_construction, ef_search=64, rng_seed=0)


def state(pod: str = "vi-0", live: int = 100, deleted: int = 0, delta: int = 0, **changes: Any) -> IndexState:
    answered = IndexState(
        volume_id=f"volume-of-{pod}",
        boot_id="boot",
        identity=PodIdentity(namespace="default", index="vi", uid=UID, pod=pod),
        index_name="vi",
        dimensions=8,
        metric="L2",
        sequence=1,
        digest=DIGEST,
        counts=Counts(live=live, deleted=deleted, delta=delta),
        bytes=1_000,
        parameters=parameters(),
        configuration=Configuration(deleted_percent=20, delta_percent=10, min_items=1_000, serve=True),
    )
    return answered.model_copy(update=changes)


def pod_of(name: str, ready: bool = True) -> Pod:
    return Pod(name, f"uid-{name}", Endpoint("default", "vi", name, f"address-of-{name}", 8080), ready)


def member(ordinal: int, answer: Answer | None = None, ready: bool = True) -> Member:
    name = f"vi-{ordinal}"
    return Member(name, pod_of(name, ready), answer or state(name))


def missing(ordinal: int) -> Member:
    return Member(f"vi-{ordinal}", None, NoAnswer("does not exist"))


MEMBERS = (member(0), member(1), member(2))


def run_status(reason: str = "Running", since: float = 10.0, **status: Any) -> dict[str, Any]:
    """The status of a run that has not ended, and was first seen ``since`` seconds ago."""
    condition = {"reason": reason, "message": "", "observedGeneration": 1, "lastTransitionTime": ago(since)}
    conditions = [{"type": "Succeeded", "status": "Unknown", **condition}]
    return {"observedGeneration": 1, "conditions": conditions, **status}


def begun(reason: str = "Running", **status: Any) -> dict[str, Any]:
    return run_status(reason, startTime=ago(5), indexUID=UID, **status)


def _run(spec: dict[str, Any], status: dict[str, Any] | None, name: str, created: float) -> dict[str, Any]:
    uid = RUN_UID if name == "run" else f"uid-of-{name}"
    metadata = {"name": name, "namespace": "default", "uid": uid, "generation": 1, "creationTimestamp": ago(created)}
    return {"metadata": metadata, "spec": {"indexRef": {"name": "vi"}, **spec}, "status": status or {}}


def delete_run(status: dict[str, Any] | None = None, **spec: Any) -> IndexDelete:
    if "externalIDsFrom" not in spec:
        spec.setdefault("externalIDs", ["a", "b", "c"])
    return IndexDelete.read(_run(spec, status, "run", 20))


def rebuild_run(
    status: dict[str, Any] | None = None, name: str = "run", created: float = 20, **spec: Any
) -> IndexRebuild:
    return IndexRebuild.read(_run(spec, status, name, created))


def optimize_run(
    status: dict[str, Any] | None = None, name: str = "run", created: float = 20, **spec: Any
) -> IndexOptimize:
    return IndexOptimize.read(_run(spec, status, name, created))


def deleted(ordinal: int, *found: bool, **changes: Any) -> OperationStatus:
    """The answer of a pod that deleted."""
    result = DeleteResult(deleted=sum(found), not_found=len(found) - sum(found), bitmap=pack_bitmap(found))
    return _operation(ordinal, OperationKind.DELETE, RUN_UID, **{"result": result, **changes})


def rebuilt(ordinal: int, recall: float = 0.95, m: int = 16, **changes: Any) -> OperationStatus:
    """The answer of a pod that has new graphs."""
    result = GraphResult(
        vectors=BeforeAfter(before=100 + ordinal, after=90 + ordinal),
        bytes=BeforeAfter(before=1_000, after=900),
        recall=Recall(before=0.9, after=recall, n=10, k=10, kind="MovedItems"),
        computations=Computations(before=900.4, after=700.6 + ordinal),
        links_repaired=40 + ordinal,
        unreachable=BeforeAfter(before=2, after=0),
        parameters=parameters(m),
        seconds={"build": 1.5 + ordinal, "recall": 0.2},
    )
    return _operation(ordinal, OperationKind.REBUILD, f"{RUN_UID}.1", **{"progress": 100, "result": result, **changes})


def at_work(ordinal: int, progress: int, **changes: Any) -> OperationStatus:
    operation = _operation(ordinal, OperationKind.REBUILD, f"{RUN_UID}.1", progress=progress)
    return operation.model_copy(update={"state": OperationState.RUNNING, **changes})


def _operation(ordinal: int, kind: OperationKind, identifier: str, **changes: Any) -> OperationStatus:
    succeeded = OperationStatus(
        id=identifier, kind=kind, state=OperationState.SUCCEEDED, volume_id=f"volume-of-vi-{ordinal}"
    )
    return succeeded.model_copy(update=changes)
