"""IndexRebuild: builds an index's graph anew from its live items, on every pod, once."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vectorindex.api.common import (
    AGE,
    MAX_PODS,
    ApiObject,
    Column,
    Kind,
    Parameters,
    ParametersInForce,
    PodResult,
    RunSpec,
    RunStatus,
    condition_path,
)
from vectorindex.api.model import LIST_MAP_BY_NAME, MAX_INTEGER, ApiModel, Count, Percent, Recall
from vectorindex.api.reasons import ConditionType


class Verify(ApiModel):
    """How the new graph is judged before it serves: recall@k against exact search."""

    samples: int = Field(default=200, description="Queries that recall is measured with.", ge=1, le=10_000)
    k: int = Field(default=10, description="Neighbours that each query asks for.", ge=1, le=1_000)
    min_recall_percent: Percent | None = Field(
        default=None,
        description="The new graph is refused when its recall is below both this and the old graph's. "
        "Unset: recall is measured, and nothing refused.",
    )


class IndexRebuildSpec(RunSpec):
    params: Parameters | None = Field(
        default=None,
        description="Parameters of the new graph. What is unset stays as it is; what the VectorIndex sets in spec.hnsw "
        "cannot be set here to another value.",
    )
    verify: Verify = Field(default=Verify(), description="How the new graph is judged before it serves.")


class RebuildFigures(ApiModel):
    """The figures of a rebuild."""

    vectors_before: Count | None = Field(default=None, description="Items that a search could find before.")
    vectors_after: Count | None = Field(default=None, description="Items that a search can find now.")
    bytes_before: Count | None = Field(default=None, description="Size of the index's files before.")
    bytes_after: Count | None = Field(default=None, description="Size of the index's files now.")
    duration_seconds: Count | None = Field(default=None, description="How long the rebuild took.")
    recall_before: Recall | None = Field(
        default=None, description="recall@k of the old graph, 0.0000 to 1.0000; unset if there was nothing to measure."
    )
    recall_after: Recall | None = Field(
        default=None,
        description="recall@k of the new graph, same queries; unset if there was nothing to measure.",
    )
    unreachable_before: Count | None = Field(
        default=None, description="Items of the old graph that no search could reach."
    )
    unreachable_after: Count | None = Field(
        default=None, description="Items of the new graph that no search can reach."
    )
    parameters: ParametersInForce | None = Field(
        default=None, description="HNSW parameters of the new graph; unset where pods differ."
    )


class RebuildPodResult(RebuildFigures, PodResult):
    """What the rebuild did on one pod."""

    attempt: Count | None = Field(default=None, description="Which attempt this is, from 1.")
    progress_percent: Percent | None = Field(default=None, description="How far the pod is.")
    restarts: Count | None = Field(
        default=None, description="How often the sidecar was restarted and took the rebuild up again."
    )


class IndexRebuildStatus(RebuildFigures, RunStatus):
    """Over pods, items are the most of any pod, bytes the sum, the duration the longest, recall the lowest."""

    bytes_reclaimed: int | None = Field(
        default=None,
        description="bytesBefore less bytesAfter; negative when the index has grown.",
        ge=-MAX_INTEGER,
        le=MAX_INTEGER,
    )
    pods: tuple[RebuildPodResult, ...] = Field(
        default=(),
        description="What the rebuild did on each pod.",
        max_length=MAX_PODS,
        json_schema_extra=LIST_MAP_BY_NAME,
    )


class IndexRebuild(ApiObject):
    """Builds an index's graph anew from its live items, on every pod, one after the other. One object is one run."""

    definition: ClassVar = Kind(
        kind="IndexRebuild",
        plural="indexrebuilds",
        singular="indexrebuild",
        short_name="vireb",
        columns=(
            Column("Index", ".spec.indexRef.name", "The index."),
            Column("Succeeded", condition_path(ConditionType.SUCCEEDED, "status"), "Unknown until the run has ended."),
            Column("Reason", condition_path(ConditionType.SUCCEEDED, "reason"), "Why."),
            Column("Progress", ".status.progressPercent", "Percent of the work that is done.", "integer"),
            Column("Vectors", ".status.vectorsAfter", "Items in the new graph.", "integer"),
            Column("Recall", ".status.recallAfter", "recall@k of the new graph."),
            Column("Reclaimed", ".status.bytesReclaimed", "Bytes that the rebuild freed.", "integer"),
            AGE,
            Column("Message", condition_path(ConditionType.SUCCEEDED, "message"), "Why, for people.", wide=True),
        ),
    )

    spec: IndexRebuildSpec = Field(description="The graph that is wanted.")
    status: IndexRebuildStatus = Field(default=IndexRebuildStatus(), description="How far the run is, and its result.")
