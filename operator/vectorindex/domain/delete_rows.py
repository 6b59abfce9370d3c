"""The rows of a delete's status, one for each pod, and its counts: of distinct items over all pods, not of copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vectorindex.api import IndexDelete
from vectorindex.api.common import PodState
from vectorindex.api.indexdelete import MAX_NOT_FOUND, DeletePodResult
from vectorindex.domain.members import Member
from vectorindex.domain.replies import POD_STATES, failed_row, failure, refused_row, silent_row, success_reason
from vectorindex.domain.run import Refused, Replies, Reply
from vectorindex.wire.operations import DeletePreview, DeleteResult, OperationState, OperationStatus, unpack_bitmap


def delete_row(
    run: IndexDelete, asked: int, member: Member, before: DeletePodResult, reply: Reply | None
) -> DeletePodResult:
    """The row of a pod by what it answered. ``asked``: distinct IDs."""
    match reply:
        case OperationStatus():
            result = reply.result if isinstance(reply.result, DeleteResult) else None
            row = DeletePodResult(
                name=member.name,
                state=POD_STATES[reply.state],
                reason=success_reason(reply),
                message=reply.message or None,
                volume_id=reply.volume_id,
                deleted_count=result.deleted if result else None,
                not_found_count=result.not_found if result else None,
            )
            return failed_row(row, reply) if reply.state is OperationState.FAILED else row
        case DeletePreview() if run.spec.dry_run:
            return DeletePodResult(
                name=member.name,
                state=PodState.SUCCEEDED,
                volume_id=reply.volume_id,
                deleted_count=reply.deleted,
                not_found_count=asked - reply.deleted,
            )
        case DeletePreview():
            return DeletePodResult(name=member.name, state=PodState.PENDING, volume_id=reply.volume_id)
        case Refused():
            return refused_row(before, reply, quote=run.spec.external_ids is not None)
        case _:
            # What a pod has failed stays, even if it is down by now: it is why the run is being stopped.
            return before if failure(before) else silent_row(member, before, reply)


def bitmaps(replies: Replies) -> list[str]:
    """What was found, or would be, of every pod that says so."""
    found = []
    for reply in replies.values():
        if isinstance(reply, DeletePreview):
            found.append(reply.bitmap)
        elif isinstance(reply, OperationStatus) and isinstance(reply.result, DeleteResult):
            found.append(reply.result.bitmap)
    return found


def found_anywhere(maps: Iterable[str], count: int) -> list[bool]:
    """For each distinct ID, whether any pod had it."""
    found = [False] * count
    for bitmap in maps:
        found = [one or other for one, other in zip(found, unpack_bitmap(bitmap, count), strict=True)]
    return found


def asked_for(replies: Replies) -> int:
    """The number of distinct IDs, as the pods that have deleted say; all were asked for the same."""
    results = (reply.result for reply in replies.values() if isinstance(reply, OperationStatus))
    return next((each.deleted + each.not_found for each in results if isinstance(each, DeleteResult)), 0)


def counts(found: Sequence[bool], ids: Sequence[str] | None) -> dict[str, object]:
    """The counts of a run that every pod has done. ``ids``: list those that were found nowhere; None: list none."""
    fields: dict[str, object] = {"deleted_count": sum(found), "not_found_count": len(found) - sum(found)}
    if ids is not None:
        missing = [name for name, present in zip(ids, found, strict=True) if not present]
        fields["not_found"] = tuple(missing[:MAX_NOT_FOUND])
        fields["not_found_truncated"] = len(missing) > MAX_NOT_FOUND
    return fields
