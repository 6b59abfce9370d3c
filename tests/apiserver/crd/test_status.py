"""The status: written by server-side apply to the subresource, from the models, and read back into them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from devcluster.api import Api, ApiError
from tests.apiserver.crd.manifests import Object, apply_status, at, create, manifest, update
from vectorindex.api import IndexDelete, IndexOptimize, IndexRebuild, VectorIndex
from vectorindex.api.builds import BuildPodResult, BuildStatus
from vectorindex.api.common import Condition, ConditionStatus, Parameters, ParametersInForce, PodState
from vectorindex.api.indexdelete import DeletePodResult, IndexDeleteStatus
from vectorindex.api.indexrebuild import IndexRebuildStatus
from vectorindex.api.reasons import ConditionType, Reason
from vectorindex.api.vectorindex import PodStatus, VectorIndexStatus

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
IN_FORCE = ParametersInForce(m=16, ef_construction=200, ef_search=64, seed=0)


def condition(type_: ConditionType, status: ConditionStatus, reason: Reason, message: str = "") -> Condition:
    return Condition(
        type=type_, status=status, observed_generation=1, last_transition_time=NOW, reason=reason, message=message
    )


INDEX = VectorIndexStatus(
    observed_generation=1,
    conditions=(
        condition(ConditionType.READY, ConditionStatus.TRUE, Reason.ALL_PODS_READY),
        condition(ConditionType.MAINTENANCE_NEEDED, ConditionStatus.TRUE, Reason.DELETED_RATIO, "25 %, limit 20 %"),
    ),
    replicas=3,
    selector="vectorindex.io/index=words",
    ready_replicas=3,
    parameters=IN_FORCE,
    vectors=4_500,
    deleted_vectors=1_500,
    delta_vectors=0,
    bytes=123_456,
    pods=(
        PodStatus(
            name="words-0",
            ready=True,
            vectors=4_500,
            deleted_vectors=1_500,
            delta_vectors=0,
            bytes=41_152,
            needs_rebuild=True,
            parameters=IN_FORCE,
            sequence=9,
            volume_id="v0",
            boot_id="b0",
        ),
        PodStatus(name="words-1", ready=False, message="does not answer"),
    ),
)
DELETE = IndexDeleteStatus(
    observed_generation=1,
    conditions=(condition(ConditionType.SUCCEEDED, ConditionStatus.TRUE, Reason.COMPLETED),),
    index_uid="u",
    start_time=NOW,
    completion_time=NOW,
    progress_percent=100,
    request_digest="0" * 64,
    preview_time=NOW,
    deleted_count=1_500,
    not_found_count=1,
    not_found=("unicorn 🦄",),
    not_found_truncated=False,
    pods=(
        DeletePodResult(
            name="words-0", state=PodState.SUCCEEDED, volume_id="v0", deleted_count=1_500, not_found_count=1
        ),
    ),
)
OPTIMIZE = BuildStatus(
    observed_generation=1,
    conditions=(condition(ConditionType.SUCCEEDED, ConditionStatus.UNKNOWN, Reason.RUNNING),),
    progress_percent=42,
    vectors_before=4_500,
    vectors_after=4_500,
    bytes_before=2,
    bytes_after=5,
    bytes_reclaimed=-3,
    duration_seconds=7,
    recall_before="0.9871",
    recall_after="1.0000",
    computations_before=900,
    computations_after=700,
    links_repaired=1_234,
    unreachable_before=2,
    unreachable_after=0,
    parameters=IN_FORCE,
    erased_before=NOW,
    erasure_blocked="pod words-1: a snapshot holds them",
    pods=(
        BuildPodResult(
            name="words-0",
            state=PodState.RUNNING,
            attempt=1,
            progress_percent=80,
            restarts=1,
            recall_after="1.0000",
            recall_sample="RecentQueries",
            recall_queries=200,
        ),
        BuildPodResult(
            name="words-1",
            state=PodState.FAILED,
            attempt=2,
            start_time=NOW,
            retry_time=NOW,
            reason=Reason.BUILD_FAILED,
            message="the builder ended",
        ),
    ),
)
REBUILD = IndexRebuildStatus(**dict(OPTIMIZE), index_parameters=Parameters(m=16, ef_construction=200, seed=7))


@pytest.mark.parametrize(
    ("model", "status"),
    [(VectorIndex, INDEX), (IndexDelete, DELETE), (IndexRebuild, REBUILD), (IndexOptimize, OPTIMIZE)],
    ids=["VectorIndex", "IndexDelete", "IndexRebuild", "IndexOptimize"],
)
def test_every_field_of_the_status_survives_the_api_server(api: Api, namespace: str, model: Any, status: Any) -> None:
    kind = model.definition.kind
    create(api, namespace, manifest(kind))
    stored = apply_status(api, namespace, kind, status.to_dict())

    assert model.read(stored).status == status
    unset = {name for name in type(status).model_fields if getattr(status, name) is None}
    assert unset == (
        set()
        if isinstance(status, VectorIndexStatus | IndexDeleteStatus)
        else {"index_uid", "start_time", "completion_time"}
    )


def test_writing_the_same_status_again_changes_nothing(api: Api, namespace: str) -> None:
    create(api, namespace, manifest("VectorIndex"))
    first = apply_status(api, namespace, "VectorIndex", INDEX.to_dict())
    again = apply_status(api, namespace, "VectorIndex", INDEX.to_dict())
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_figure_that_is_left_out_next_time_is_removed(api: Api, namespace: str) -> None:
    create(api, namespace, manifest("VectorIndex"))
    apply_status(api, namespace, "VectorIndex", INDEX.to_dict())
    stored = apply_status(api, namespace, "VectorIndex", INDEX.model_copy(update={"parameters": None}).to_dict())
    assert "parameters" not in stored["status"]


def test_the_status_changes_neither_spec_nor_generation_and_a_user_cannot_write_it_with_the_spec(
    api: Api, namespace: str
) -> None:
    created = create(api, namespace, {**manifest("VectorIndex"), "status": {"observedGeneration": 7}})
    assert created["status"] == {"observedGeneration": -1}

    stored = apply_status(api, namespace, "VectorIndex", INDEX.to_dict())
    assert stored["metadata"]["generation"] == 1
    changed = update(api, namespace, "VectorIndex", at("managed.replicas", 2), dry_run=False)
    assert changed["metadata"]["generation"] == 2
    assert changed["status"] == stored["status"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param({"conditions": [{"type": "Ready"}]}, "Required value", id="half a condition"),
        pytest.param({"pods": [{"name": "a", "ready": True}] * 2}, "duplicate", id="a pod twice"),
        pytest.param({"vectors": -1}, "greater than or equal to 0", id="negative count"),
    ],
)
def test_a_status_that_makes_no_sense_is_refused(api: Api, namespace: str, status: Object, message: str) -> None:
    create(api, namespace, manifest("VectorIndex"))
    with pytest.raises(ApiError) as refused:
        apply_status(api, namespace, "VectorIndex", status)
    assert message in refused.value.message


def test_the_largest_status_is_taken(api: Api, namespace: str) -> None:
    """256 pods that all have something to say: below the 1.5 MB that etcd takes."""
    pods = tuple(
        BuildPodResult(**{**dict(REBUILD.pods[0]), "name": f"words-{number}", "message": "🐍" * 4_096})
        for number in range(256)
    )
    create(api, namespace, manifest("IndexRebuild"))
    stored = apply_status(api, namespace, "IndexRebuild", REBUILD.model_copy(update={"pods": pods}).to_dict())
    assert len(stored["status"]["pods"]) == 256
