"""What a StatefulSet says of its pods."""

from __future__ import annotations

from typing import Any

import pytest

from vectorindex.domain.rollout import Rollout


def stateful_set(wanted: int = 3, **status: Any) -> dict[str, Any]:
    said = {"observedGeneration": 2, "replicas": 3, "currentRevision": "a", "updateRevision": "a"}
    return {"metadata": {"generation": 2}, "spec": {"replicas": wanted}, "status": {**said, **status}}


@pytest.mark.parametrize(
    ("found", "rollout"),
    [
        pytest.param(None, Rollout(), id="there is none"),
        pytest.param(stateful_set(), Rollout(replicas=3), id="at rest"),
        pytest.param(stateful_set(updateRevision="b"), Rollout(rolling=True, replicas=3), id="a new template"),
        pytest.param(stateful_set(wanted=2), Rollout(pending=True, replicas=3), id="a pod is to go"),
        pytest.param(stateful_set(replicas=1), Rollout(pending=True, replicas=1), id="pods are to come"),
        pytest.param(
            stateful_set(observedGeneration=1, updateRevision="b"),
            Rollout(pending=True, replicas=3),
            id="its controller has not seen it",
        ),
    ],
)
def test_what_a_stateful_set_says(found: dict[str, Any] | None, rollout: Rollout) -> None:
    assert Rollout.read(found) == rollout
