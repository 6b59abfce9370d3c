"""How much is measured: all of it, or a small run to try the benchmark itself."""

from __future__ import annotations

from dataclasses import dataclass

M = 16
EF_CONSTRUCTION = 200
EF_SEARCH = 64
K = 10
"""The parameters of a new index, and recall@10, in everything that is compared."""

TARGETED = 40_000
"""Items that the targets speak of."""


@dataclass(frozen=True)
class Plan:
    """``sizes``: items, ascending; the last is the size of whatever is measured at one size only. ``builds``: how often
    a build is repeated where builds vary; ``swaps``; ``searches`` per latency; ``idle_seconds`` of searching without an
    operation; ``delete_items`` of the synthetic index, half of which are deleted at once; ``churn_rounds``."""

    sizes: tuple[int, ...]
    builds: int
    swaps: int
    searches: int
    idle_seconds: float
    delete_items: int
    churn_rounds: int = 10


def full(items: int) -> Plan:
    """``items`` are there."""
    largest = min(items, TARGETED)
    return Plan((largest // 4, largest // 2, largest), 5, 20, 20_000, 15.0, 200_000)


def quick(items: int) -> Plan:
    largest = min(items, 4_000)
    return Plan((largest // 4, largest // 2, largest), 2, 3, 2_000, 2.0, 20_000, 3)
