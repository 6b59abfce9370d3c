"""What the operator sets on the pods, from the spec."""

from __future__ import annotations

import math

from vectorindex.api import VectorIndex
from vectorindex.api.common import Parameters
from vectorindex.domain.quantities import amount
from vectorindex.wire.state import Configuration


def wanted_configuration(index: VectorIndex) -> Configuration:
    """The configuration by the spec, the same for every pod; whether one may serve is said of each by itself. What the
    spec leaves unset is unset on the pod."""
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


def _threads(index: VectorIndex) -> int | None:
    """The CPU limit less one, which is left to the searches; at least 1. In pods of the user's own the sidecar looks
    at its limit itself."""
    resources = index.spec.managed.resources if index.spec.managed is not None else None
    limit = (resources.limits or {}).get("cpu") if resources is not None else None
    return None if limit is None else min(256, max(1, math.floor(amount(limit)) - 1))
