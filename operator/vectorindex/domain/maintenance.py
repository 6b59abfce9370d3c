"""Does an index need an optimize or a rebuild, and why: a chain of policies over the figures of its pods.

A limit is reached at its percentage, and left again only below three quarters of it, so that a condition does not come
and go with every write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vectorindex.api.common import Parameters
from vectorindex.api.reasons import Reason
from vectorindex.api.vectorindex import Estimate, Maintenance, PodStatus
from vectorindex.domain.verdicts import Policy, Verdict, first_violation
from vectorindex.wire.text import bytes_text, seconds_text

CLEARED_NUMERATOR, CLEARED_DENOMINATOR = 3, 4


@dataclass(frozen=True)
class Figures:
    """What the policies judge: each pod's own figures, the limits, the parameters that are wanted, and the reason for
    which maintenance was needed so far."""

    pods: Sequence[PodStatus]
    limits: Maintenance
    wanted: Parameters
    standing: str | None = None


def maintenance_needed(figures: Figures) -> Verdict | None:
    """Why maintenance is needed, by the first reason that holds on any pod; None: it is not."""
    return first_violation(POLICIES, figures)


def _deleted_ratio(figures: Figures) -> Verdict | None:
    percent = figures.limits.deleted_percent

    def share(pod: PodStatus) -> tuple[int, int]:
        return pod.deleted_vectors or 0, (pod.vectors or 0) + (pod.deleted_vectors or 0)

    if (worst := _beyond(figures, share, percent, Reason.DELETED_RATIO)) is None:
        return None
    part, whole = worst
    return Verdict(
        Reason.DELETED_RATIO,
        f"{_percent(part, whole)} of the stored items are deleted ({part:,} of {whole:,}), the limit is {percent} %; "
        f"create {_optimize(figures)}, or {_rebuild(figures)}",
    )


def _delta_ratio(figures: Figures) -> Verdict | None:
    percent = figures.limits.delta_percent
    if (
        worst := _beyond(figures, lambda pod: (pod.delta_vectors or 0, pod.vectors or 0), percent, Reason.DELTA_RATIO)
    ) is None:
        return None
    part, whole = worst
    return Verdict(
        Reason.DELTA_RATIO,
        f"{_percent(part, whole)} of the items lie outside the main graph ({part:,} of {whole:,}), the limit is "
        f"{percent} %; create {_rebuild(figures)}",
    )


def _parameters_changed(figures: Figures) -> Verdict | None:
    for pod in figures.pods:
        if pod.parameters is None:
            continue
        for field, wanted, in_force in (
            ("m", figures.wanted.m, pod.parameters.m),
            ("efConstruction", figures.wanted.ef_construction, pod.parameters.ef_construction),
        ):
            if wanted is not None and wanted != in_force:
                return Verdict(
                    Reason.PARAMETERS_CHANGED,
                    f"spec.hnsw.{field} is {wanted}, the graph of {pod.name} was built with {in_force}; "
                    f"create {_rebuild(figures)}",
                )
    return None


POLICIES: tuple[Policy[Figures, Verdict | None], ...] = (_deleted_ratio, _delta_ratio, _parameters_changed)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _optimize(figures: Figures) -> str:
    """It takes deleted items out, but it merges nothing and changes no parameter."""
    return f"an IndexOptimize{_effort(pod.optimize_estimate for pod in figures.pods)}"


def _rebuild(figures: Figures) -> str:
    return f"an IndexRebuild{_effort(pod.rebuild_estimate for pod in figures.pods)}"


def _effort(estimates: Iterable[Estimate | None]) -> str:
    """What the run would take on the pod where it takes most."""
    known = [estimate for estimate in estimates if estimate is not None]
    if not known:
        return ""
    seconds, memory = max(each.seconds for each in known), max(each.memory_bytes for each in known)
    return f" (about {seconds_text(seconds)} and {bytes_text(memory)} of memory on each pod)"


def _beyond(
    figures: Figures, share: Callable[[PodStatus], tuple[int, int]], percent: int, reason: Reason
) -> tuple[int, int] | None:
    """The largest share (part, whole) of any pod that is at or beyond the limit; None if none is."""
    shares = [(part, whole) for part, whole in map(share, figures.pods) if part and part >= figures.limits.min_items]
    if not shares:
        return None
    part, whole = max(shares, key=lambda pair: pair[0] / pair[1])
    if figures.standing == reason:
        reached = CLEARED_DENOMINATOR * 100 * part >= CLEARED_NUMERATOR * percent * whole
    else:
        reached = 100 * part >= percent * whole
    return (part, whole) if reached else None
