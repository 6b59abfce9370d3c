"""Figures of one index from those of its pods: counts are the largest of any pod, bytes are sums, durations the
longest, recall the lowest, parameters only where all agree."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from vectorindex.api.common import ParametersInForce
from vectorindex.wire import operations


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def largest(values: Iterable[int | None]) -> int | None:
    return max(_known(values), default=None)


def total(values: Iterable[int | None]) -> int | None:
    known = _known(values)
    return sum(known) if known else None


def lowest_recall(values: Iterable[str | None]) -> str | None:
    """Recall is a string of fixed length, so the order of the strings is that of the numbers."""
    return min((value for value in values if value is not None), default=None)


def earliest(values: Iterable[datetime | None]) -> datetime | None:
    """The earliest; None if any is None, or there is none."""
    times = list(values)
    known = [time for time in times if time is not None]
    return min(known) if known and len(known) == len(times) else None


def recall_text(recall: float) -> str:
    """recall@k as the API writes it: four decimals."""
    return f"{min(1.0, max(0.0, recall)):.4f}"


def agreed(values: Iterable[ParametersInForce | None]) -> ParametersInForce | None:
    """The parameters, if all pods that told them told the same."""
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else None


def in_force(parameters: operations.ParametersInForce) -> ParametersInForce:
    """The parameters by the API's names."""
    return ParametersInForce(
        m=parameters.m,
        ef_construction=parameters.ef_construction,
        ef_search=parameters.ef_search,
        seed=parameters.rng_seed,
    )
