"""What a policy says when something is not as it should be, and chains of policies: the first violation wins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from vectorindex.api.reasons import Reason

Subject = TypeVar("Subject")
Violation = TypeVar("Violation")


@dataclass(frozen=True)
class Verdict:
    """A reason of the closed list, and the message for people: what is wrong, with what, and what to do."""

    reason: Reason
    message: str


Policy = Callable[[Subject], Violation]
"""Judges a subject: None when it has nothing to object to."""


def first_violation(policies: Iterable[Policy[Subject, Violation]], subject: Subject) -> Violation | None:
    """What the first policy says that objects; None when none does."""
    for policy in policies:
        if (violation := policy(subject)) is not None:
            return violation
    return None


def enumerate_names(names: Iterable[str], limit: int = 5) -> str:
    """Names for a message: ``a, b and 3 more``."""
    listed = list(names)
    if len(listed) <= limit:
        return ", ".join(listed)
    return f"{', '.join(listed[:limit])} and {len(listed) - limit} more"


def counted(count: int, singular: str, plural: str = "") -> str:
    """A count with its noun: ``1 pod``, ``6,000 items``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
