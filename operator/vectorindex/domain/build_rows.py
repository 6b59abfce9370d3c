"""The rows of a build's status, one for each pod, from what the pods answer; and the run's figures from its rows."""

from __future__ import annotations

import math
from datetime import datetime

from vectorindex.api.builds import BuildPodResult, BuildStatus
from vectorindex.api.common import PodState
from vectorindex.domain.attempts import attempt_to_call, retry_at
from vectorindex.domain.figures import agreed, earliest, in_force, largest, lowest_recall, recall_text, total
from vectorindex.domain.replies import POD_STATES, failed_row, refused_row, success_reason
from vectorindex.domain.run import BuildRun, Refused, updated
from vectorindex.wire.operations import GraphResult, OperationState, OperationStatus
from vectorindex.wire.text import rounded

Rows = tuple[BuildPodResult, ...]


def row_answered(before: BuildPodResult, reply: OperationStatus, run: BuildRun, now: datetime) -> BuildPodResult:
    """The row of a pod that says how far its operation is."""
    attempt = attempt_to_call(before)
    row = BuildPodResult(
        name=before.name,
        state=POD_STATES[reply.state],
        reason=success_reason(reply),
        message=reply.message or None,
        volume_id=reply.volume_id,
        attempt=attempt,
        start_time=before.start_time if before.attempt == attempt and before.start_time else now,
        progress_percent=reply.progress,
        remaining_seconds=_remaining(before, reply),
        restarts=reply.restarts,
    )
    if reply.state is OperationState.FAILED:
        row = failed_row(row, reply)
        return updated(row, retry_time=retry_at(row, run.spec.backoff_limit, run.metadata.uid, now))
    return updated(row, **_result(reply.result)) if isinstance(reply.result, GraphResult) else row


def row_refused(before: BuildPodResult, reply: Refused) -> BuildPodResult:
    """The row of a pod that takes no such operation; it makes no other attempt."""
    return updated(refused_row(before, reply, quote=True), retry_time=None)


def _remaining(before: BuildPodResult, reply: OperationStatus) -> int | None:
    """As long as the progress is what was written, so is this: a status is written when a run gets on."""
    if reply.remaining_seconds is None:
        return None
    if before.progress_percent == reply.progress and before.remaining_seconds is not None:
        return before.remaining_seconds
    return rounded(reply.remaining_seconds)


def _result(result: GraphResult) -> dict[str, object]:
    return {
        "vectors_before": result.vectors.before,
        "vectors_after": result.vectors.after,
        "bytes_before": result.bytes.before,
        "bytes_after": result.bytes.after,
        "duration_seconds": math.ceil(sum(result.seconds.values())),
        "recall_before": recall_text(result.recall.before) if result.recall else None,
        "recall_after": recall_text(result.recall.after) if result.recall else None,
        "recall_sample": result.recall.kind if result.recall else None,
        "recall_queries": result.recall.n if result.recall else None,
        "computations_before": round(result.computations.before) if result.computations else None,
        "computations_after": round(result.computations.after) if result.computations else None,
        "links_repaired": result.links_repaired,
        "unreachable_before": result.unreachable.before,
        "unreachable_after": result.unreachable.after,
        "parameters": in_force(result.parameters),
        "erased_before": result.erased_before,
        "erasure_blocked": result.erasure_blocked,
    }


def progress(rows: Rows) -> int:
    taking_part = [row for row in rows if row.state is not PodState.GONE]
    done = sum(100 if row.state is PodState.SUCCEEDED else row.progress_percent or 0 for row in taking_part)
    return done // max(1, len(taking_part))


def without_progress(status: BuildStatus) -> BuildStatus:
    """What is left of a status when nobody asks how far it is, which messages say too."""
    unknown = {"progress_percent": None, "remaining_seconds": None}
    rows = tuple(row.model_copy(update=unknown) for row in status.pods)
    conditions = tuple(condition.model_copy(update={"message": ""}) for condition in status.conditions)
    return status.model_copy(update={"progress_percent": None, "pods": rows, "conditions": conditions})


def figures(rows: Rows) -> dict[str, object]:
    """The figures of the pods that have done their part, as those of the run."""
    done = [row for row in rows if row.state is PodState.SUCCEEDED]
    before, after = total(row.bytes_before for row in done), total(row.bytes_after for row in done)
    return {
        "vectors_before": largest(row.vectors_before for row in done),
        "vectors_after": largest(row.vectors_after for row in done),
        "bytes_before": before,
        "bytes_after": after,
        "bytes_reclaimed": before - after if before is not None and after is not None else None,
        "duration_seconds": largest(row.duration_seconds for row in done),
        "recall_before": lowest_recall(row.recall_before for row in done),
        "recall_after": lowest_recall(row.recall_after for row in done),
        "computations_before": largest(row.computations_before for row in done),
        "computations_after": largest(row.computations_after for row in done),
        "links_repaired": largest(row.links_repaired for row in done),
        "unreachable_before": largest(row.unreachable_before for row in done),
        "unreachable_after": largest(row.unreachable_after for row in done),
        "parameters": agreed(row.parameters for row in done),
        "erased_before": earliest(row.erased_before for row in rows if row.state is not PodState.GONE),
        "erasure_blocked": _erasure_blocked(done),
    }


def _erasure_blocked(done: list[BuildPodResult]) -> str | None:
    blocked = [f"pod {row.name}: {row.erasure_blocked}" for row in done if row.erasure_blocked is not None]
    return "; ".join(blocked) or None
