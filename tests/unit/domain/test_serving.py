"""Which pods may serve: those on a new volume wait for the items that others hold, and nobody waits for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.given import NOW, index, member, pod_of, state
from vectorindex.api.vectorindex import PodStatus
from vectorindex.domain.index import IndexSnapshot, decide
from vectorindex.domain.members import Member, NoAnswer, members
from vectorindex.domain.rollout import Rollout
from vectorindex.domain.serving import awaiting, may_serve
from vectorindex.wire.state import Configuration

ITEMS, OTHERS, NONE = "00000000000000a1", "00000000000000b2", "0" * 16
NEW, HELD, SERVES = None, False, True


def pod(ordinal: int, serve: bool | None, live: int = 0, digest: str | None = None) -> Member:
    answered = state(f"vi-{ordinal}", live, digest=digest or (ITEMS if live else NONE))
    return member(ordinal, answered.model_copy(update={"configuration": Configuration(serve=serve)}))


def silent(ordinal: int) -> Member:
    return Member(f"vi-{ordinal}", pod_of(f"vi-{ordinal}"), NoAnswer("connection refused"))


def row(ordinal: int, vectors: int | None, digest: str | None = None) -> PodStatus:
    return PodStatus(name=f"vi-{ordinal}", ready=False, vectors=vectors, digest=digest or (ITEMS if vectors else NONE))


CASES: dict[str, tuple[list[Member], list[PodStatus], list[bool | None]]] = {
    "a new set": ([pod(0, NEW), pod(1, NEW), pod(2, NEW)], [], [True, True, True]),
    "the only pod": ([pod(0, NEW)], [], [True]),
    "the only pod, on a new volume": ([pod(0, NEW)], [row(0, 100)], [True]),
    "a new volume beside items": ([pod(0, SERVES, 100), pod(1, NEW)], [], [True, False]),
    "held and still empty": ([pod(0, SERVES, 100), pod(1, HELD)], [], [True, False]),
    "held with a part of them": ([pod(0, SERVES, 100), pod(1, HELD, 60, OTHERS)], [], [True, False]),
    "held and filled": ([pod(0, SERVES, 100), pod(1, HELD, 100)], [], [True, True]),
    "as many, but others": ([pod(0, SERVES, 100), pod(1, HELD, 100, OTHERS)], [], [True, False]),
    "filled before the first look": ([pod(0, SERVES, 100), pod(1, NEW, 100)], [], [True, True]),
    "equal to one of two that differ": (
        [pod(0, SERVES, 100), pod(1, SERVES, 90, OTHERS), pod(2, HELD, 90, OTHERS)],
        [],
        [True, True, True],
    ),
    "all emptied on purpose": ([pod(0, SERVES), pod(1, SERVES), pod(2, HELD)], [], [True, True, True]),
    "one that serves was emptied": ([pod(0, SERVES, 100), pod(1, SERVES)], [], [True, True]),
    "the one with items does not answer": ([silent(0), pod(1, NEW)], [row(0, 100)], [None, False]),
    "it does not, and its items were written anew": ([silent(0), pod(1, HELD, 100)], [row(0, 100)], [None, True]),
    "one that never had any does not answer": ([silent(0), pod(1, NEW)], [row(0, 0)], [None, True]),
    "one that nobody knows does not answer": ([silent(0), pod(1, NEW)], [], [None, True]),
    "all lost, all new": ([pod(0, NEW), pod(1, NEW)], [row(0, 100), row(1, 100)], [True, True]),
    "none serves, one has items": ([pod(0, NEW, 100), pod(1, NEW)], [], [True, False]),
    "all restored, and they differ": ([pod(0, NEW, 100), pod(1, NEW, 90, OTHERS)], [], [True, True]),
    "all held": ([pod(0, HELD, 100), pod(1, HELD, 90, OTHERS), pod(2, HELD)], [], [True, True, False]),
}


@pytest.mark.parametrize(("group", "rows", "expected"), CASES.values(), ids=CASES)
def test_who_may_serve(group: list[Member], rows: list[PodStatus], expected: list[bool | None]) -> None:
    found = [
        None if isinstance(each.answer, NoAnswer) else may_serve(each.answer, each.name, group, rows) for each in group
    ]
    assert found == expected


@pytest.mark.parametrize("case", CASES)
def test_whoever_is_told_ends_where_somebody_serves(case: str) -> None:
    """Told again and again, some pod that answers serves, unless one that is known to hold items does not answer."""
    group, rows, _ = CASES[case]
    for _ in range(len(group)):
        group = [_told(each, group, rows) for each in group]
    silent = {each.name for each in group if each.endpoint is None}
    assert silent & {row.name for row in rows if row.vectors} or any(not each.is_held_back for each in group)


def _told(each: Member, group: list[Member], rows: list[PodStatus]) -> Member:
    if isinstance(each.answer, NoAnswer):
        return each
    serve = may_serve(each.answer, each.name, group, rows)
    return pod(int(each.name[-1]), serve, each.answer.counts.live, each.answer.digest)


def test_what_the_user_is_told() -> None:
    group = [pod(0, SERVES, 1_000), pod(1, SERVES, 1_000), pod(2, HELD)]
    assert awaiting(group, [], "vi-pods") == (
        "vi-2 holds 0 items on a new volume, vi-0 1,000, vi-1 1,000: write there what the others hold, the same IDs "
        "and vectors (Service vi-pods has the addresses of pods that are not ready too); a pod serves once its digest "
        "equals that of one that does"
    )
    assert [each.trouble for each in group] == [None, None, "awaits its items"]
    lost = [silent(0), pod(2, HELD)]
    assert awaiting(lost, [row(0, 900)], None) == (
        "vi-2 holds 0 items on a new volume, vi-0 900: write there what the others hold, the same IDs and vectors; a "
        "pod serves once its digest equals that of one that does"
    )
    assert awaiting(group[:2], [], None) is None


def snapshot(group: list[Member], **status: Any) -> IndexSnapshot:
    read = index(status or None, managed={"replicas": len(group), "storage": {"size": "1Gi"}})
    return IndexSnapshot(now=NOW, index=read, children=(), rollout=Rollout(), members=tuple(group))


def test_each_pod_is_told_by_its_configuration() -> None:
    told = decide(snapshot([pod(0, SERVES, 100), pod(1, NEW), pod(2, HELD)])).configure
    assert [each.configuration.serve for each in told] == [True, False, False]
    configured = [
        member(0),
        member(1, state("vi-1", 0, digest=NONE).model_copy(update={"configuration": told[1].configuration})),
    ]
    assert decide(snapshot(configured)).configure == ()
    before = [{"name": "vi-0", "ready": True, "vectors": 100, "digest": ITEMS}]
    silenced = decide(snapshot([silent(0), pod(1, NEW)], pods=before)).configure
    assert [each.configuration.serve for each in silenced] == [False]


def test_members_are_held_back_by_their_answer_alone() -> None:
    answer = pod(1, HELD).answer
    [_, second, _] = members(index(), [pod_of("vi-1", ready=True)], {"vi-1": answer})
    assert (second.is_held_back, second.trouble) == (True, "awaits its items")
