"""Conditions from facts. A condition's transition time moves only when its status does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from vectorindex.api.common import Condition, ConditionStatus, Status
from vectorindex.api.reasons import ConditionType, Reason

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True)
class Fact:
    """What a condition is to say."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str = ""


def build_conditions(old: Status, generation: int, now: datetime, facts: Iterable[Fact]) -> tuple[Condition, ...]:
    """The conditions that state these facts of the object's ``generation``."""
    built = []
    for fact in facts:
        before = old.condition(fact.type)
        same = before is not None and before.status == fact.status
        built.append(
            Condition(
                type=fact.type.value,
                status=fact.status,
                observed_generation=generation,
                last_transition_time=before.last_transition_time if before is not None and same else now,
                reason=fact.reason.value,
                message=fact.message,
            )
        )
    return tuple(built)


def run_facts(succeeded: ConditionStatus, reason: Reason, message: str) -> tuple[Fact, ...]:
    """The four conditions of a run, by how it ended; Unknown is one that has not. So kstatus and ``kubectl wait``
    agree: under way is Reconciling, done is Ready, failed is Stalled. The message stands at Succeeded and at the one
    of the three that is True."""
    stated = {ConditionType.READY: TRUE, ConditionType.RECONCILING: UNKNOWN, ConditionType.STALLED: FALSE}
    return (
        *(
            Fact(kind, TRUE, reason, message) if succeeded is state else Fact(kind, FALSE, reason)
            for kind, state in stated.items()
        ),
        Fact(ConditionType.SUCCEEDED, succeeded, reason, message),
    )
