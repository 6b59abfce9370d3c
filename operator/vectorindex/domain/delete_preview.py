"""The preview of a delete: what would go, asked of every pod before the first one deletes.

Invariant: with a limit, no pod is told to delete before the status says that every pod has answered, and that none
would lose too much (``previewTime``). So a delete that was let go once goes on, whatever the pods hold by then; each
pod looks at its limit again when it deletes.
"""

from __future__ import annotations

from collections.abc import Iterable

from vectorindex.api import IndexDelete
from vectorindex.api.reasons import Reason
from vectorindex.domain.members import Member
from vectorindex.domain.run import End, Replies
from vectorindex.domain.verdicts import counted
from vectorindex.wire.operations import DeletePreview


def preview_is_due(run: IndexDelete) -> bool:
    """The pods are to be asked, not told."""
    return run.spec.dry_run or (run.spec.max_delete_percent is not None and run.status.preview_time is None)


def limit_exceeded(run: IndexDelete, replies: Replies) -> End | None:
    """The end of a run that would take too much of what a pod has."""
    limit = run.spec.max_delete_percent
    for pod, reply in replies.items():
        if isinstance(reply, DeletePreview) and limit is not None and 100 * reply.deleted > limit * reply.live:
            share = f"{reply.deleted:,} of {counted(reply.live, 'item')} ({100 * reply.deleted // reply.live} %)"
            message = f"pod {pod}: {share} would go, spec.maxDeletePercent is {limit}; nothing was deleted"
            return End(Reason.DELETE_LIMIT_EXCEEDED, message)
    return None


def may_go(run: IndexDelete, members: Iterable[Member], replies: Replies) -> bool:
    """Every pod has said what would go, and it is not too much."""
    answers = [replies.get(member.name) for member in members]
    answered = bool(answers) and all(isinstance(answer, DeletePreview) for answer in answers)
    return not run.spec.dry_run and answered and limit_exceeded(run, replies) is None


def dry_run_end(found: list[bool], members: tuple[Member, ...]) -> End:
    message = f"would delete {counted(sum(found), 'item')} on {counted(len(members), 'pod')}; nothing was deleted"
    return End(Reason.DRY_RUN, message, succeeded=True)
