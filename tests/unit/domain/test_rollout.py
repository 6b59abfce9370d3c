"""What a StatefulSet says of its pods."""

from __future__ import annotations

from typing import Any

import pytest

from vectorindex.domain.rollout import Rollout


def stateful_set(wanted: int = 3, **status: Any) -> dict[str, Any]:
    said = {"observedGeneration": 2, "replicas": 3, "currentRevision": "a", "updateRevision": "a"}
    template = {"metadata": {"annotations": {"vectorindex.io/requested": "asked"}}}
    spec = {"replicas": wanted, "template": template}
    return {"metadata": {"generation": 2}, "spec": spec, "status": {**said, **status}}


@pytest.mark.parametrize(
    ("found", "rollout"),
    [
        pytest.param(None, Rollout(), id="there is none"),
        pytest.param(stateful_set(), Rollout(replicas=3), id="at rest"),
        pytest.param(
            stateful_set(updateRevision="b"), Rollout(rolling=True, replicas=3, template="asked"), id="a new template"
        ),
        pytest.param(stateful_set(wanted=2), Rollout(pending=True, replicas=3), id="a pod is to go"),
        pytest.param(stateful_set(replicas=1), Rollout(pending=True, replicas=1), id="pods are to come"),
        pytest.param(
            stateful_set(observedGeneration=1, updateRevision="b"),
            Rollout(pending=True, replicas=3, template="asked"),
            id="its controller has not seen it",
        ),
    ],
)
def test_what_a_stateful_set_says(found: dict[str, Any] | None, rollout: Rollout) -> None:
    assert Rollout.read(found) == rollout


@pytest.mark.parametrize(
    ("found", "pods", "upgrade"),
    [
        pytest.param(stateful_set(), ["asked"], False, id="at rest"),
        pytest.param(
            stateful_set(updateRevision="b"), ["asked", "asked"], True, id="rolling, and the same is asked for"
        ),
        pytest.param(stateful_set(updateRevision="b"), [], True, id="rolling, and no pod is there"),
        pytest.param(
            stateful_set(updateRevision="b"), ["asked", None], True, id="of pods from before it was written down"
        ),
        pytest.param(stateful_set(updateRevision="b"), ["asked", "before"], False, id="the user's own change"),
        pytest.param(stateful_set(observedGeneration=1), ["asked"], True, id="its controller has not seen it"),
    ],
)
def test_an_upgrade_shows_in_the_pods(found: dict[str, Any], pods: list[str | None], upgrade: bool) -> None:
    assert Rollout.read(found).is_upgrade(pods) is upgrade
