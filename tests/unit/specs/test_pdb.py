from __future__ import annotations

from vectorindex.api import VectorIndex
from vectorindex.specs import build_pod_disruption_budget


def test_one_pod_at_a_time_and_a_broken_one_never_blocks_a_drain(index: VectorIndex) -> None:
    assert build_pod_disruption_budget(index)["spec"] == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": {"vectorindex.io/index": "words"}},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
