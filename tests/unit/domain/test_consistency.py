"""Whether pods hold the same: by looks that may fall anywhere into the writes of an application."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.unit.domain.given import NOW, member, missing, state
from vectorindex.api.common import Condition, ConditionStatus
from vectorindex.api.reasons import ConditionType
from vectorindex.api.vectorindex import PodStatus
from vectorindex.domain.conditions import FALSE, TRUE, UNKNOWN
from vectorindex.domain.consistency import Looks, consistency
from vectorindex.domain.members import Member
from vectorindex.wire.state import IndexState

A, B = "00000000000000a1", "00000000000000b2"


def answers(ordinal: int, digest: str = A, sequence: int = 7, live: int = 1_000, volume: str = "volume") -> Member:
    return member(ordinal, state(f"vi-{ordinal}", live, digest=digest, sequence=sequence, volume_id=volume))


def recorded(*group: Member) -> list[PodStatus]:
    rows = []
    for each in group:
        row = PodStatus(name=each.name, ready=True)
        if isinstance(each.answer, IndexState):
            figures = {name: getattr(each.answer, name) for name in ("digest", "sequence", "volume_id")}
            row = row.model_copy(update=figures)
        rows.append(row)
    return rows


def standing(status: ConditionStatus, reason: str, since: float) -> Condition:
    return Condition(
        type="ReplicasConsistent",
        status=status,
        observed_generation=1,
        last_transition_time=NOW - timedelta(seconds=since),
        reason=reason,
        message="",
    )


SAME = [answers(0), answers(1), answers(2)]
DIFFERENT = [answers(0), answers(1), answers(2, B, live=998)]
AGREED = standing(TRUE, "ReplicasAgree", 500)
DIFFERED = standing(FALSE, "ReplicasDiffer", 5)


def writing(since: float) -> Condition:
    return standing(UNKNOWN, "WritesInProgress", since)


def seen(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


CASES = {
    "one pod": (Looks(NOW, SAME[:1], [], None, None), TRUE, "ReplicasAgree"),
    "first look, the same": (Looks(NOW, SAME, [], None, None), TRUE, "ReplicasAgree"),
    "first look, different": (Looks(NOW, DIFFERENT, [], None, None), UNKNOWN, "WritesInProgress"),
    "quiet and the same": (Looks(NOW, SAME, recorded(*SAME), seen(1), AGREED), TRUE, "ReplicasAgree"),
    "different for less than a minute": (
        Looks(NOW, DIFFERENT, recorded(*DIFFERENT), seen(59), writing(59)),
        UNKNOWN,
        "WritesInProgress",
    ),
    "different for a minute": (
        Looks(NOW, DIFFERENT, recorded(*DIFFERENT), seen(60), writing(60)),
        FALSE,
        "ReplicasDiffer",
    ),
    "different since an operator before": (
        Looks(NOW, DIFFERENT, recorded(*DIFFERENT), seen(900), AGREED),
        FALSE,
        "ReplicasDiffer",
    ),
    "still different after another write of the status": (
        Looks(NOW, DIFFERENT, recorded(*DIFFERENT), seen(1), DIFFERED),
        FALSE,
        "ReplicasDiffer",
    ),
    "a sequence has moved since": (
        Looks(NOW, DIFFERENT, recorded(SAME[0], SAME[1], answers(2, B, sequence=6)), seen(900), AGREED),
        UNKNOWN,
        "WritesInProgress",
    ),
    "it moves again": (
        Looks(NOW, DIFFERENT, recorded(SAME[0], SAME[1], answers(2, B, sequence=6)), seen(900), DIFFERED),
        UNKNOWN,
        "WritesInProgress",
    ),
    "the same sequence on another volume": (
        Looks(NOW, DIFFERENT, recorded(SAME[0], SAME[1], answers(2, B, volume="old")), seen(900), AGREED),
        UNKNOWN,
        "WritesInProgress",
    ),
    "a pod that was not there before": (
        Looks(NOW, DIFFERENT, recorded(*SAME[:2], missing(2)), seen(900), AGREED),
        UNKNOWN,
        "WritesInProgress",
    ),
    "written, and the same again": (Looks(NOW, SAME, recorded(*DIFFERENT), seen(5), DIFFERED), TRUE, "ReplicasAgree"),
    "written, and always the same": (Looks(NOW, SAME, recorded(*DIFFERENT), seen(5), AGREED), TRUE, "ReplicasAgree"),
    "under writes, the same by chance": (
        Looks(NOW, SAME, recorded(*DIFFERENT), seen(5), writing(59)),
        UNKNOWN,
        "WritesInProgress",
    ),
    "under writes for a minute": (Looks(NOW, SAME, recorded(*DIFFERENT), seen(5), writing(60)), TRUE, "ReplicasAgree"),
    "written, now quiet": (Looks(NOW, SAME, recorded(*SAME), seen(5), writing(5)), TRUE, "ReplicasAgree"),
    "a pod does not answer": (
        Looks(NOW, [*DIFFERENT[:2], missing(2)], recorded(*DIFFERENT), seen(900), DIFFERED),
        UNKNOWN,
        "PodsNotReady",
    ),
}


@pytest.mark.parametrize(("looks", "status", "reason"), CASES.values(), ids=CASES)
def test_what_the_looks_say(looks: Looks, status: ConditionStatus, reason: str) -> None:
    fact = consistency(looks)
    assert (fact.type, fact.status, fact.reason) == (ConditionType.REPLICAS_CONSISTENT, status, reason)


def test_the_pods_are_named_with_what_they_hold() -> None:
    different = consistency(CASES["different for a minute"][0])
    assert different.message == (
        f"vi-0, vi-1: 1,000 items (digest {A}); vi-2: 998 items (digest {B}). Nothing is being written: write to each "
        "pod what it lacks, delete there what it should not hold"
    )
    assert consistency(CASES["a pod does not answer"][0]).message == "no answer from vi-2"
