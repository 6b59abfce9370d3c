"""What the API server takes and what it refuses: for each rule one object of either sort, and the message."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from devcluster.api import Api, ApiError
from tests.apiserver.crd.manifests import Object, at, create, manifest


class Case(NamedTuple):
    name: str
    kind: str
    good: Object
    bad: Object
    message: str


def field(kind: str, path: str, good: Any, bad: Any, message: str, *, note: str = "") -> Case:
    return Case(f"{kind}.{path}{note}", kind, at(path, good), at(path, bad), message)


def own_pods(path: str, good: Any, bad: Any, message: str, *, note: str = "") -> Case:
    """A field of an index whose pods are the user's own."""
    return Case(f"VectorIndex.{path}{note}", VI, OWN_PODS | at(path, good), OWN_PODS | at(path, bad), message)


BY_LABEL: Object = {"podSelector": {"matchLabels": {"app": "shop"}}}
OWN_PODS: Object = {"managed": None, **BY_LABEL}
EXISTS = {"key": "example.com/tier", "operator": "Exists"}
ABSENT = {"key": "canary", "operator": "DoesNotExist"}
IN = {"key": "tier", "operator": "In", "values": ["a", "b"]}
BY_EXPRESSION = {"matchExpressions": [EXISTS]}

VI, DELETE, REBUILD, OPTIMIZE = "VectorIndex", "IndexDelete", "IndexRebuild", "IndexOptimize"
SOURCE = {"configMapKeyRef": {"name": "ids", "key": "ids.json"}}

MAINTENANCE = {"deletedPercent": 20, "deltaPercent": 10, "minItems": 1_000, "maxConcurrentPods": 1}

CASES = [
    field(VI, "dimensions", 1, 0, "spec.dimensions: Invalid value: 0: spec.dimensions in body should be", note=">0"),
    field(VI, "dimensions", 65_536, 65_537, "should be less than or equal to 65536", note="<=65536"),
    field(VI, "dimensions", 3, "3", "must be of type integer", note=" type"),
    field(VI, "dimensions", 3, None, "spec.dimensions: Required value", note=" required"),
    field(VI, "metric", "InnerProduct", "Manhattan", 'supported values: "Cosine", "L2", "InnerProduct"'),
    field(VI, "metric", "L2", None, "spec.metric: Required value", note=" required"),
    field(VI, "hnsw.m", 2, 1, "greater than or equal to 2", note=">=2"),
    field(VI, "hnsw.m", 512, 513, "less than or equal to 512", note="<=512"),
    field(VI, "hnsw.efConstruction", 10_000, 10_001, "less than or equal to 10000"),
    field(VI, "hnsw.efSearch", 1, -5, "greater than or equal to 1"),
    field(VI, "hnsw.seed", 2**31 - 1, 2**31, "less than or equal to 2147483647"),
    field(VI, "managed", {"replicas": 2}, None, "give exactly one of managed and podSelector"),
    field(VI, "managed.replicas", 1, 0, "greater than or equal to 1", note=">=1"),
    field(VI, "managed.replicas", 256, 257, "less than or equal to 256", note="<=256"),
    field(VI, "managed.image", "ghcr.io/a/b@sha256:0", "a b", "should match '^\\S+$'"),
    field(VI, "managed.storage.size", "1.5Gi", "0", "size must be a quantity above zero", note=">0"),
    field(VI, "managed.storage.size", "500M", "-1Gi", "size must be a quantity above zero", note=" sign"),
    field(VI, "managed.storage.size", 1_073_741_824, "big", "size must be a quantity above zero", note=" form"),
    field(VI, "managed.storage.size", "1Gi", None, "spec.managed.storage.size: Required value", note=" required"),
    field(VI, "managed.storage.storageClassName", "fast", "", "should be at least 1 chars long"),
    field(VI, "managed.storage.reclaim", "Delete", "Recycle", 'supported values: "Retain", "Delete"'),
    field(VI, "managed.resources.requests.cpu", 2, "two", "requests must be quantities that are not negative"),
    field(VI, "managed.resources.limits.memory", "2Gi", "-2Gi", "limits must be quantities that are not negative"),
    field(
        VI,
        "managed.resources",
        {"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}},
        {"requests": {"cpu": "1"}, "limits": {"cpu": "999m"}},
        "a request cannot be above its limit",
    ),
    field(VI, "managed.nodeSelector", {"disk": "fast"}, {"disk": "a b"}, "nodeSelector.disk in body should match"),
    field(VI, "managed.tolerations", [{"anything": [1]}], ["x"], "must be of type object"),
    field(VI, "managed.affinity", {"nodeAffinity": {"anything": 1}}, "x", "must be of type object"),
    field(VI, "managed.topologySpreadConstraints", [{"maxSkew": 1}], "x", "must be of type array"),
    field(VI, "managed.imagePullSecrets", [{"name": "a"}, {"name": "b"}], [{"name": "a"}] * 2, "Duplicate value"),
    field(VI, "managed.priorityClassName", "high", "", "should be at least 1 chars long"),
    field(VI, "managed.podLabels", {"team": "a"}, {"vectorindex.io/index": "x"}, "are the operator's own labels"),
    field(VI, "managed.podAnnotations", {"a": "\n"}, {"a": 1}, "must be of type string"),
    Case("VectorIndex of two sets of pods", VI, OWN_PODS, BY_LABEL, "give exactly one of managed and podSelector"),
    own_pods("podSelector", {"matchLabels": {"a": ""}}, {}, "podSelector must not be empty", note=" empty"),
    own_pods("podSelector", BY_EXPRESSION, {"matchLabels": {}}, "podSelector must not be empty", note=" no labels"),
    own_pods("podSelector.matchLabels", {"a": "b"}, {"a": "b c"}, "podSelector.matchLabels.a in body should match"),
    own_pods("podSelector.matchExpressions", [EXISTS] * 16, [EXISTS] * 17, "must have at most 16 items"),
    own_pods("podSelector.matchExpressions", [EXISTS], [{**EXISTS, "key": "a b"}], "should match", note=" key"),
    own_pods(
        "podSelector.matchExpressions", [ABSENT], [{**EXISTS, "operator": "Is"}], 'values: "In"', note=" operator"
    ),
    own_pods("podSelector.matchExpressions", [IN], [{**IN, "values": []}], "In and NotIn need values", note=" in none"),
    own_pods("podSelector.matchExpressions", [IN], [{**IN, "operator": "Exists"}], "Exists and DoesNotExist have none"),
    own_pods("port", 1, 0, "greater than or equal to 1", note=">=1"),
    own_pods("port", 65_535, 65_536, "less than or equal to 65535", note="<=65535"),
    Case(
        "VectorIndex.port of own pods only", VI, {**OWN_PODS, "port": 80}, {"port": 80}, "port is that of your own pods"
    ),
    field(VI, "maintenance.deletedPercent", 100, 101, "less than or equal to 100"),
    field(VI, "maintenance.deltaPercent", 1, 0, "greater than or equal to 1"),
    field(VI, "maintenance.minItems", 0, -1, "greater than or equal to 0"),
    field(VI, "maintenance.maxConcurrentPods", 256, 0, "greater than or equal to 1"),
    field(VI, "suspend", True, "yes", "must be of type boolean"),
    field(VI, "maintenance.threads", 256, 1_000, "less than or equal to 256"),
    field(VI, "hnsw", {"m": 8}, {"M": 8}, 'unknown field "spec.hnsw.M"', note=" unknown field"),
    Case(
        "IndexDelete needs IDs",
        DELETE,
        {},
        at("externalIDs", None),
        "give exactly one of externalIDs and externalIDsFrom",
    ),
    Case(
        "IndexDelete takes IDs from one place",
        DELETE,
        {"externalIDs": None, "externalIDsFrom": SOURCE},
        {"externalIDsFrom": SOURCE},
        "give exactly one of externalIDs and externalIDsFrom",
    ),
    field(DELETE, "externalIDs", ["a"], [], "should have at least 1 items", note=">=1"),
    field(DELETE, "externalIDs", ["a"] * 1_000, ["a"] * 1_001, "must have at most 1000 items", note="<=1000"),
    field(DELETE, "externalIDs", ["ä" * 512], ["ä" * 513], "may not be more than 512 bytes", note=" length"),
    field(DELETE, "externalIDs", [" "], [""], "should be at least 1 chars long", note=" empty"),
    field(DELETE, "externalIDs", ["🐍 snake"], ["a\nb"], "should match '^\\P{Cc}+$'", note=" control characters"),
    field(DELETE, "indexRef", {"name": "w"}, None, "spec.indexRef: Required value"),
    field(DELETE, "indexRef.name", "w" * 45, "w" * 46, "may not be more than 45 bytes", note=" length"),
    field(DELETE, "indexRef.name", "my-words", "My_Words", "should match '^[a-z]([-a-z0-9]*[a-z0-9])?$'"),
    Case(
        "IndexDelete.externalIDsFrom key",
        DELETE,
        {"externalIDs": None, "externalIDsFrom": SOURCE},
        {"externalIDs": None, "externalIDsFrom": {"configMapKeyRef": {"name": "ids", "key": "a/b"}}},
        "should match '^[-._a-zA-Z0-9]+$'",
    ),
    field(DELETE, "cancel", True, "yes", "must be of type boolean"),
    field(DELETE, "operationID", "team-a/2026:w47_1.0@x", "a b", "should match '^[-._:/@A-Za-z0-9]+$'"),
    field(REBUILD, "operationID", "x" * 128, "x" * 129, "may not be more than 128 bytes"),
    field(DELETE, "dryRun", True, "yes", "must be of type boolean"),
    field(DELETE, "maxDeletePercent", 0, -1, "greater than or equal to 0", note=">=0"),
    field(DELETE, "maxDeletePercent", 100, 101, "less than or equal to 100", note="<=100"),
    field(DELETE, "returnNotFound", True, 1, "must be of type boolean"),
    field(DELETE, "activeDeadlineSeconds", 1, 0, "greater than or equal to 1"),
    field(DELETE, "ttlSecondsAfterFinished", 0, -1, "greater than or equal to 0"),
    field(DELETE, "ttlSecondsAfterFinished", 2**31 - 1, 2**31, "less than or equal to 2147483647", note="<=2^31"),
    Case("IndexDelete has no backoffLimit", DELETE, {}, at("backoffLimit", 1), 'unknown field "spec.backoffLimit"'),
    field(REBUILD, "activeDeadlineSeconds", 2**31 - 1, 0, "greater than or equal to 1"),
    field(REBUILD, "backoffLimit", 0, -1, "greater than or equal to 0", note=">=0"),
    field(OPTIMIZE, "backoffLimit", 20, 21, "less than or equal to 20", note="<=20"),
    field(REBUILD, "indexRef", {"name": "w"}, None, "spec.indexRef: Required value"),
    field(REBUILD, "params.m", 512, 100_000, "less than or equal to 512"),
    field(REBUILD, "params.efConstruction", 400, 0, "greater than or equal to 1"),
    field(REBUILD, "params.efSearch", 10_000, 10_001, "less than or equal to 10000"),
    field(REBUILD, "params.seed", 0, -1, "greater than or equal to 0"),
    field(REBUILD, "verify.samples", 10_000, 0, "greater than or equal to 1"),
    field(REBUILD, "verify.k", 1, 1_001, "less than or equal to 1000"),
    field(REBUILD, "verify.minRecallPercent", 100, 101, "less than or equal to 100"),
    field(OPTIMIZE, "indexRef", {"name": "w"}, None, "spec.indexRef: Required value"),
    field(OPTIMIZE, "verify.samples", 10_000, 10_001, "less than or equal to 10000"),
    field(OPTIMIZE, "cancel", True, "yes", "must be of type boolean"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_rule_takes_the_one_and_refuses_the_other(api: Api, case: Case) -> None:
    create(api, "default", manifest(case.kind, case.good), dry_run=True)

    with pytest.raises(ApiError) as refused:
        create(api, "default", manifest(case.kind, case.bad), dry_run=True)
    assert case.message in refused.value.message


LABEL = "must be a DNS-1035 label of at most 45 characters"


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        pytest.param("w" * 45, "w" * 46, LABEL, id="length"),
        pytest.param("w1", "1w", LABEL, id="first character"),
        pytest.param("my-words", "my.words", LABEL, id="dot"),
        pytest.param("pods", "my-pods", "must not end in '-pods'", id="name of the headless Service"),
    ],
)
def test_names_of_a_vector_index(api: Api, good: str, bad: str, message: str) -> None:
    create(api, "default", manifest(VI, name=good), dry_run=True)

    with pytest.raises(ApiError) as refused:
        create(api, "default", manifest(VI, name=bad), dry_run=True)
    assert message in refused.value.message


def test_defaults(api: Api) -> None:
    index, delete, *builds = (
        create(api, "default", manifest(kind), dry_run=True) for kind in (VI, DELETE, REBUILD, OPTIMIZE)
    )

    assert index["spec"]["maintenance"] == MAINTENANCE
    assert index["spec"]["suspend"] is False
    assert index["spec"]["managed"] == {"replicas": 1, "storage": {"size": "1Gi", "reclaim": "Retain"}}
    assert "hnsw" not in index["spec"]
    assert delete["spec"] == {
        "indexRef": {"name": "words"},
        "externalIDs": ["cat", "dog"],
        "returnNotFound": False,
        "dryRun": False,
        "cancel": False,
    }
    for build in builds:
        assert build["spec"] == {
            "indexRef": {"name": "words"},
            "verify": {"samples": 200, "k": 10},
            "activeDeadlineSeconds": 86_400,
            "backoffLimit": 3,
            "cancel": False,
        }


def test_a_threshold_that_is_set_leaves_the_others_at_their_defaults(api: Api) -> None:
    index = create(api, "default", manifest(VI, at("maintenance.deltaPercent", 30)), dry_run=True)
    assert index["spec"]["maintenance"] == {**MAINTENANCE, "deltaPercent": 30}


@pytest.mark.parametrize("kind", [VI, DELETE, REBUILD, OPTIMIZE])
def test_an_object_that_nobody_has_seen_is_not_taken_for_done(api: Api, kind: str) -> None:
    assert create(api, "default", manifest(kind), dry_run=True)["status"] == {"observedGeneration": -1}
