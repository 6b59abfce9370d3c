"""What IndexRebuild and IndexOptimize share: how a new graph is judged before it serves, and the figures."""

from __future__ import annotations

from pydantic import Field

from vectorindex.api.common import (
    MAX_PODS,
    MAX_SECONDS,
    Column,
    ParametersInForce,
    PodResult,
    RunSpec,
    RunStatus,
    condition_path,
)
from vectorindex.api.model import (
    LIST_MAP_BY_NAME,
    MAX_INTEGER,
    ApiModel,
    Count,
    Identifier,
    Percent,
    PodMessage,
    Recall,
    Time,
)
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


class BuildSpec(RunSpec):
    active_deadline_seconds: int = Field(
        default=86_400,
        description="The run fails when it is not done so long after its startTime; pods that have new graphs by then "
        "keep them.",
        ge=1,
        le=MAX_SECONDS,
    )
    backoff_limit: int = Field(
        default=3,
        description="How often a pod that failed tries again: after 5 to 10 s, 10 to 20 s, 20 to 40 s and so on, 360 s "
        "at most. What would fail again in the same way is not tried again.",
        ge=0,
        le=20,
    )
    verify: Verify = Field(default=Verify(), description="How the new graph is judged before it serves.")


class BuildFigures(ApiModel):
    """The figures of a build."""

    vectors_before: Count | None = Field(default=None, description="Items that a search could find before.")
    vectors_after: Count | None = Field(default=None, description="Items that a search can find now.")
    bytes_before: Count | None = Field(default=None, description="Size of the index's files before.")
    bytes_after: Count | None = Field(default=None, description="Size of the index's files now.")
    duration_seconds: Count | None = Field(default=None, description="How long the run took.")
    recall_before: Recall | None = Field(
        default=None, description="recall@k of the old graph, 0.0000 to 1.0000; unset if there was nothing to measure."
    )
    recall_after: Recall | None = Field(
        default=None,
        description="recall@k of the new graph, same queries; unset if there was nothing to measure.",
    )
    computations_before: Count | None = Field(
        default=None,
        description="Distances that a query computes in the old graph, on average; unset if there was nothing to "
        "measure.",
    )
    computations_after: Count | None = Field(
        default=None,
        description="Distances that a query computes in the new graph, same queries; unset if there was nothing to "
        "measure.",
    )
    links_repaired: Count | None = Field(
        default=None, description="Links put across the gaps of deleted items, or to make items reachable."
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
    erased_before: Time | None = Field(
        default=None,
        description="Of items that were deleted or replaced before this time, no byte of their vectors and IDs is left "
        "in any file of the index, its snapshots on the pod's volume included. Unset where that could not be said at "
        "the end of the run: erasureBlocked says why.",
    )
    erasure_blocked: PodMessage | None = Field(
        default=None, description="Why erasedBefore is unset: what may still hold deleted items, and what to do."
    )


class BuildPodResult(BuildFigures, PodResult):
    """What the run did on one pod."""

    attempt: Count | None = Field(default=None, description="Which attempt this is, from 1.")
    start_time: Time | None = Field(default=None, description="When this attempt began.")
    progress_percent: Percent | None = Field(default=None, description="How far the pod is.")
    recall_sample: Identifier | None = Field(
        default=None,
        description="What recall was measured on: RecentQueries, a sample of what was searched on this pod, or where "
        "there were too few MovedItems, queries near items.",
    )
    recall_queries: Count | None = Field(default=None, description="How many queries recall was measured on.")
    remaining_seconds: Count | None = Field(
        default=None, description="About how long the pod still takes; unset while that is unknown."
    )
    retry_time: Time | None = Field(
        default=None, description="When the next attempt begins; set while the pod waits for it."
    )
    restarts: Count | None = Field(
        default=None, description="How often the sidecar was restarted and took the work up again."
    )


class BuildStatus(BuildFigures, RunStatus):
    """Over pods, items, links and computations are the most of any pod, bytes the sum, the duration the longest, recall
    the lowest, erasedBefore the earliest, and unset when it is for any pod."""

    bytes_reclaimed: int | None = Field(
        default=None,
        description="bytesBefore less bytesAfter; negative when the index has grown.",
        ge=-MAX_INTEGER,
        le=MAX_INTEGER,
    )
    pods: tuple[BuildPodResult, ...] = Field(
        default=(),
        description="What the run did on each pod.",
        max_length=MAX_PODS,
        json_schema_extra=LIST_MAP_BY_NAME,
    )


HOW_FAR = (
    Column("Index", ".spec.indexRef.name", "The index."),
    Column("Succeeded", condition_path(ConditionType.SUCCEEDED, "status"), "Unknown until the run has ended."),
    Column("Reason", condition_path(ConditionType.SUCCEEDED, "reason"), "Why."),
    Column("Progress", ".status.progressPercent", "Percent of the work that is done.", "integer"),
)
"""The first columns of both kinds."""
