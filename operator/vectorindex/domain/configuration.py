"""What the operator sets on each pod, from the spec."""

from __future__ import annotations

import math
import re

from vectorindex.api import VectorIndex
from vectorindex.api.common import Parameters
from vectorindex.wire.state import Configuration

_EXPONENTS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9}
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMG]?)")


def wanted_configuration(index: VectorIndex) -> Configuration:
    """The configuration by the spec. What the spec leaves unset is not sent, so it stays as it is."""
    hnsw = index.spec.hnsw or Parameters()
    limits = index.spec.maintenance
    return Configuration(
        ef_search=hnsw.ef_search,
        deleted_percent=limits.deleted_percent,
        delta_percent=limits.delta_percent,
        min_items=limits.min_items,
        threads=limits.threads or _threads(index),
        desired_m=hnsw.m,
        desired_ef_construction=hnsw.ef_construction,
    )


def differs(wanted: Configuration, actual: Configuration) -> bool:
    """Is anything that is wanted not so?"""
    values = wanted.model_dump(exclude_none=True)
    return any(getattr(actual, field) != value for field, value in values.items())


def _threads(index: VectorIndex) -> int | None:
    """The CPU limit less one, which is left to the searches; at least 1."""
    resources = index.spec.managed.resources
    limit = (resources.limits or {}).get("cpu") if resources is not None else None
    return None if limit is None else min(256, max(1, math.floor(cpus(limit)) - 1))


def cpus(quantity: str) -> float:
    """A quantity of CPU in cores: ``2``, ``500m``.

    Raises:
        ValueError: it is no such quantity.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity of CPU")
    number, suffix = match.groups()
    return float(number) * 10.0 ** _EXPONENTS[suffix]
