"""The PodDisruptionBudget of an index."""

from __future__ import annotations

from typing import Any

from vectorindex.api import VectorIndex, names
from vectorindex.specs.meta import build_metadata


def build_pod_disruption_budget(index: VectorIndex) -> dict[str, Any]:
    """Nodes are drained one pod at a time. A pod that is not ready may always go: it serves nobody, and would block
    the drain for ever."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": build_metadata(index, names.pod_disruption_budget(index.metadata.name)),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.selector(index.metadata.name)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
