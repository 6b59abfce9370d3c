"""The models as the operator uses them: read from what the API server sends, written as what it takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from vectorindex.api import IndexDelete, IndexRebuild, VectorIndex
from vectorindex.api.common import Condition, ConditionStatus, UnreadableError
from vectorindex.api.documented import DocumentedEnum
from vectorindex.api.model import MAX_MESSAGE, MAX_POD_MESSAGE, field_name
from vectorindex.api.reasons import ConditionType, Reason
from vectorindex.api.vectorindex import PodStatus, VectorIndexStatus

METADATA = {
    "name": "words",
    "namespace": "search",
    "uid": "0f1e",
    "generation": 2,
    "creationTimestamp": "2026-01-02T03:04:05Z",
    "managedFields": [{}],
}


def manifest(kind: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "vectorindex.io/v1alpha1", "kind": kind, "metadata": METADATA, "spec": spec, **more}


INDEX = manifest("VectorIndex", {"dimensions": 3, "metric": "L2", "managed": {"storage": {"size": "1Gi"}}})


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("external_ids", "externalIDs"),
        ("external_ids_from", "externalIDsFrom"),
        ("volume_id", "volumeID"),
        ("index_uid", "indexUID"),
        ("config_map_key_ref", "configMapKeyRef"),
        ("ef_search", "efSearch"),
        ("m", "m"),
    ],
)
def test_names_of_fields(attribute: str, name: str) -> None:
    assert field_name(attribute) == name


def test_an_object_is_read_with_its_defaults() -> None:
    index = VectorIndex.read(INDEX)
    assert index.metadata.name == "words"
    assert index.metadata.creation_timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert index.spec.managed is not None
    assert index.spec.managed.replicas == 1
    assert index.spec.maintenance.deleted_percent == 20
    assert index.status.observed_generation == -1
    assert index.status.condition(ConditionType.READY) is None


def test_fields_that_are_not_known_are_ignored() -> None:
    spec = {**INDEX["spec"], "suspend": True, "hnsw": {"m": 8, "levels": 3}}
    status = {"observedGeneration": 2, "historyID": "x", "pods": [{"name": "words-0", "ready": True, "colour": "y"}]}
    index = VectorIndex.read({**INDEX, "spec": spec, "status": status})
    assert index.spec.hnsw is not None
    assert index.spec.hnsw.m == 8
    assert index.status.pods == (PodStatus(name="words-0", ready=True),)


def test_what_is_read_can_be_written_again() -> None:
    spec = {
        "indexRef": {"name": "words"},
        "externalIDsFrom": {"configMapKeyRef": {"name": "ids", "key": "k"}},
        "returnNotFound": True,
        "dryRun": False,
        "cancel": False,
    }
    assert IndexDelete.read(manifest("IndexDelete", spec)).spec.to_dict() == spec


def test_what_is_unset_is_not_written() -> None:
    assert VectorIndexStatus(observed_generation=1, vectors=0).to_dict() == {
        "observedGeneration": 1,
        "conditions": [],
        "vectors": 0,
        "pods": [],
    }
    params = IndexRebuild.read(manifest("IndexRebuild", {"indexRef": {"name": "w"}, "params": {"m": 8}})).spec.params
    assert params is not None
    assert params.to_dict() == {"m": 8}


def test_a_quantity_is_a_string_however_it_was_written() -> None:
    spec = {**INDEX["spec"], "managed": {"storage": {"size": 1024}, "resources": {"limits": {"cpu": 2}}}}
    managed = VectorIndex.read({**INDEX, "spec": spec}).spec.managed
    assert managed is not None
    assert managed.storage.size == "1024"
    assert managed.resources is not None
    assert managed.resources.to_dict() == {"limits": {"cpu": "2"}}


def test_a_spec_that_no_rule_allows_is_an_error_that_names_the_field() -> None:
    with pytest.raises(UnreadableError, match=r"spec\.hnsw\.m"):
        VectorIndex.read({**INDEX, "spec": {**INDEX["spec"], "hnsw": {"m": 1}}})


def of_own_pods(**selector: Any) -> dict[str, Any]:
    return manifest("VectorIndex", {"dimensions": 3, "metric": "L2", "podSelector": selector})


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        pytest.param({"matchLabels": {"app": "shop", "a.b/tier": ""}}, "app=shop,a.b/tier=", id="labels"),
        pytest.param(
            {
                "matchLabels": {"app": "shop"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "zone", "operator": "NotIn", "values": ["x"]},
                    {"key": "a.b/c", "operator": "Exists"},
                    {"key": "canary", "operator": "DoesNotExist"},
                ],
            },
            "app=shop,tier in (a,b),zone notin (x),a.b/c,!canary",
            id="expressions",
        ),
    ],
)
def test_a_selector_as_a_query_has_it(selector: dict[str, Any], text: str) -> None:
    pods = VectorIndex.read(of_own_pods(**selector)).spec.pod_selector
    assert pods is not None
    assert pods.to_text() == text


@pytest.mark.parametrize("key", ["a b", "-a", "a/b/c", "A.b/c", "a=b", "x" * 64, "a\n", ""])
def test_a_label_that_is_none_is_said_before_it_is_looked_for(key: str) -> None:
    """The API server cannot check keys of a map."""
    with pytest.raises(UnreadableError, match="is no name of a label") as error:
        VectorIndex.read(of_own_pods(matchLabels={key: "x"}))
    assert str(error.value).startswith("spec.podSelector.matchLabels.")


@pytest.mark.parametrize("pods", [{}, {**of_own_pods(matchLabels={"a": "b"})["spec"], **INDEX["spec"]}], ids=str)
def test_an_index_has_one_set_of_pods(pods: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError, match="give exactly one of managed and podSelector"):
        VectorIndex.read(manifest("VectorIndex", {"dimensions": 3, "metric": "L2", **pods}))


def condition(**changes: Any) -> Condition:
    values = {
        "type": ConditionType.READY,
        "status": ConditionStatus.TRUE,
        "observed_generation": 1,
        "last_transition_time": datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC),
        "reason": Reason.ALL_PODS_READY,
        "message": "",
    }
    return Condition(**{**values, **changes})


def test_a_time_is_the_same_after_it_was_written_and_read() -> None:
    east = datetime(2026, 1, 2, 5, 4, 5, 999_999, tzinfo=timezone(timedelta(hours=2)))
    written = condition(last_transition_time=east)
    assert written.to_dict()["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    assert Condition.model_validate(written.to_dict()) == written == condition()


def test_a_long_message_is_cut_so_that_the_status_can_be_written() -> None:
    long = "x" * 10_000
    assert condition(message=long).message == "x" * (MAX_MESSAGE - 1) + "…"
    assert condition(message="x" * MAX_MESSAGE).message == "x" * MAX_MESSAGE
    pod = PodStatus(name="words-0", ready=False, message=long)
    assert pod.message == "x" * (MAX_POD_MESSAGE - 1) + "…"


@pytest.mark.parametrize("member", [*ConditionType, *Reason], ids=str)
def test_every_type_and_reason_is_one_word_with_a_meaning(member: DocumentedEnum) -> None:
    assert member.value.isalpha()
    assert member.value[0].isupper()
    assert member.meaning.endswith(".")


def test_reasons_of_one_value_are_listed_once() -> None:
    assert len(Reason.__members__) == len(list(Reason))
