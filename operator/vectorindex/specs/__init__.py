"""The objects that a VectorIndex owns: each is a pure function of it, and is applied server-side as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectorindex.api import VectorIndex
from vectorindex.specs.identity import build_identity
from vectorindex.specs.pdb import build_pod_disruption_budget
from vectorindex.specs.service import build_pods_service, build_service
from vectorindex.specs.statefulset import build_stateful_set
from vectorindex.wire.identity import PublicKey

__all__ = [
    "build_identity",
    "build_owned_objects",
    "build_pod_disruption_budget",
    "build_pods_service",
    "build_service",
    "build_stateful_set",
]


def build_owned_objects(
    index: VectorIndex, default_image: str, public_keys: Sequence[PublicKey]
) -> tuple[dict[str, Any], ...]:
    """All of them in the order to apply: what the pods need comes before the StatefulSet that makes them. Pods of
    ``spec.podSelector`` are the user's own, and so is all that makes them: they need no more than their identity."""
    managed = index.spec.managed
    if managed is None:
        return (build_identity(index, public_keys),)
    return (
        build_identity(index, public_keys),
        build_pods_service(index),
        build_service(index),
        build_pod_disruption_budget(index),
        build_stateful_set(index, managed, default_image),
    )
