"""What holds for every object that a VectorIndex owns."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.specs.indexes import KEYS, build_index
from vectorindex.specs import build_owned_objects

OBJECTS = build_owned_objects(build_index(), "sidecar:1", KEYS)
each_object = pytest.mark.parametrize(
    "owned", OBJECTS, ids=lambda owned: f"{owned['kind']}-{owned['metadata']['name']}"
)


def test_what_pods_need_comes_before_what_makes_them() -> None:
    assert [(owned["kind"], owned["metadata"]["name"]) for owned in OBJECTS] == [
        ("ConfigMap", "words-identity"),
        ("Service", "words-pods"),
        ("Service", "words"),
        ("PodDisruptionBudget", "words"),
        ("StatefulSet", "words"),
    ]


def test_pods_of_the_users_own_need_no_more_than_their_identity() -> None:
    own = build_index(podSelector={"matchLabels": {"app": "shop"}})
    assert build_owned_objects(own, "sidecar:1", KEYS) == OBJECTS[:1]


@each_object
def test_it_goes_when_its_index_goes_and_holds_up_nothing(owned: dict[str, Any]) -> None:
    assert owned["metadata"]["namespace"] == "search"
    assert owned["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "vectorindex.io/v1alpha1",
            "kind": "VectorIndex",
            "name": "words",
            "uid": "0f1e",
            "controller": True,
        }
    ]


@each_object
def test_it_carries_our_labels_and_none_of_its_index(owned: dict[str, Any]) -> None:
    assert owned["metadata"]["labels"] == {
        "vectorindex.io/index": "words",
        "app.kubernetes.io/name": "vectorindex",
        "app.kubernetes.io/managed-by": "vectorindex-operator",
    }


@each_object
def test_it_holds_nothing_but_what_is_applied(owned: dict[str, Any]) -> None:
    assert set(owned) == {"apiVersion", "kind", "metadata", "data" if owned["kind"] == "ConfigMap" else "spec"}


def test_the_same_index_gives_the_same_objects() -> None:
    assert build_owned_objects(build_index(), "sidecar:1", KEYS) == OBJECTS
