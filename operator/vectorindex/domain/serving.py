"""Which pods may serve: one on a new volume is held back while others hold items that it does not.

Invariants: a pod that has been told to serve is never held back again, so whatever comes, those that serve go on. And
as long as no pod that serves holds anything, or is known to have, none is held: not the only pod, not a new set, not
one that was emptied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vectorindex.api.vectorindex import PodStatus
from vectorindex.domain.members import Member
from vectorindex.domain.verdicts import counted, enumerate_names
from vectorindex.wire.state import IndexState


@dataclass(frozen=True)
class Holding:
    """What a pod that serves holds."""

    pod: str
    items: int
    digest: str | None


def may_serve(state: IndexState, pod: str, group: Sequence[Member], rows: Iterable[PodStatus]) -> bool:
    """Whether ``pod``, which answered this, may serve beside the others of its ``group``; ``rows``: what the status
    last said of each pod, which counts where one does not answer: it may come back with its items."""
    if state.configuration.serve:
        return True
    others = [member for member in group if member.name != pod]
    holding = _holding(others, rows)
    if holding:
        return state.digest in {each.digest for each in holding}
    # None serves that holds anything. Those that do come first, the empty ones are compared with them then.
    return state.counts.live > 0 or not any(_items(member) for member in others)


def awaiting(group: Sequence[Member], rows: Iterable[PodStatus], service: str | None) -> str | None:
    """What the user has to do for the pods that are held back; None: there are none. ``service``: which one has the
    addresses of pods that are not ready."""
    held = [member for member in group if member.is_held_back]
    if not held:
        return None
    names = {member.name for member in held}
    serving = _holding([member for member in group if member.name not in names], rows)
    mine = enumerate_names(f"{member.name} holds {counted(_items(member), 'item')}" for member in held)
    theirs = enumerate_names(f"{each.pod} {each.items:,}" for each in serving)
    where = f" (Service {service} has the addresses of pods that are not ready too)" if service else ""
    return (
        f"{mine} on a new volume{f', {theirs}' if theirs else ''}: write there what the others hold, the same IDs and "
        f"vectors{where}; a pod serves once its digest equals that of one that does"
    )


def _holding(others: Iterable[Member], rows: Iterable[PodStatus]) -> list[Holding]:
    """What those hold that serve, or did when they last answered."""
    last = {row.name: row for row in rows}
    found = []
    for member in others:
        state, row = member.answer, last.get(member.name)
        if isinstance(state, IndexState):
            if state.configuration.serve and state.counts.live:
                found.append(Holding(member.name, state.counts.live, state.digest))
        elif row is not None and row.vectors:
            found.append(Holding(member.name, row.vectors, row.digest))
    return found


def _items(member: Member) -> int:
    return member.answer.counts.live if isinstance(member.answer, IndexState) else 0
