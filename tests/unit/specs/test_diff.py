from __future__ import annotations

from typing import Any

import pytest

from tests.unit.specs.indexes import build_index
from vectorindex.specs import build_stateful_set
from vectorindex.specs.diff import differences


@pytest.mark.parametrize(
    ("live", "desired", "lines"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, [], id="fields of others"),
        pytest.param({"a": {"b": 2}}, {"a": {"b": 3}}, ["a.b: 2 → 3"], id="value"),
        pytest.param({}, {"a": {"b": 3}}, ["a: added"], id="object added"),
        pytest.param({"a": {}}, {"a": {"b": 3}}, ["a.b: unset → 3"], id="value added"),
        pytest.param({"a": [1, 2]}, {"a": [2, 1]}, ["a: changed"], id="list"),
        pytest.param(
            {"a": [{"name": "x", "v": 1, "default": 0}, {"name": "y", "v": 1}]},
            {"a": [{"name": "y", "v": 2}, {"name": "x", "v": 1}]},
            ["a[y].v: 1 → 2"],
            id="list by name",
        ),
        pytest.param({"a": [{"name": "x"}]}, {"a": []}, ["a[x]: removed"], id="element removed"),
        pytest.param({"a": []}, {"a": [{"name": "x"}]}, ["a[x]: added"], id="element added"),
    ],
)
def test_differences(live: Any, desired: Any, lines: list[str]) -> None:
    assert differences(live, desired) == lines


def test_a_rollout_states_its_reason() -> None:
    before = build_stateful_set(build_index(), "sidecar:1")
    after = build_stateful_set(build_index(managed={"resources": {"limits": {"cpu": "2"}}}), "sidecar:2")
    assert differences(before, before) == []
    assert differences(before, after) == [
        "spec.template.spec.containers[sidecar].image: sidecar:1 → sidecar:2",
        "spec.template.spec.containers[sidecar].resources: added",
    ]
