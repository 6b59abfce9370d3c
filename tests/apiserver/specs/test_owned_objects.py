"""The objects that a VectorIndex owns, against the API server that has to take them."""

from __future__ import annotations

from typing import Any

import pytest

from devcluster.api import Api, ApiError, Object
from vectorindex.api import VectorIndex
from vectorindex.api.common import API_VERSION
from vectorindex.api.names import FIELD_MANAGER
from vectorindex.domain.children import Step, plan
from vectorindex.specs import build_owned_objects
from vectorindex.wire.identity import PublicKey

KEYS = (PublicKey(kid="signs", x="A" * 43),)

IMAGE = "vectorindex:test"
PLURALS = {
    "ConfigMap": "configmaps",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Service": "services",
    "StatefulSet": "statefulsets",
}
LONGEST = "w" * 45
SPEC: Object = {
    "dimensions": 3,
    "metric": "L2",
    "hnsw": {"m": 8},
    "managed": {
        "replicas": 3,
        "resources": {"requests": {"cpu": "0.5"}, "limits": {"cpu": 2, "memory": "1024Mi"}},
        "storage": {"size": "1024Mi", "storageClassName": "standard"},
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [
            {"key": "gpu", "operator": "Exists", "effect": ""},
            {"key": "spot", "value": "true", "effect": "NoExecute", "tolerationSeconds": 60},
        ],
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"vectorindex.io/index": LONGEST}, "matchExpressions": []},
                        "namespaceSelector": {},
                    }
                ]
            }
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"vectorindex.io/index": LONGEST}},
            }
        ],
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"team": "a"},
        "podAnnotations": {"example.com/scrape": "true"},
    },
}


def create_index(api: Api, namespace: str, name: str = LONGEST) -> VectorIndex:
    body = {"apiVersion": API_VERSION, "kind": "VectorIndex", "metadata": {"name": name}, "spec": SPEC}
    return VectorIndex.read(api.create(f"/apis/{API_VERSION}/namespaces/{namespace}/vectorindexes", body))


def apply(api: Api, owned: Object, **query: str) -> Object:
    prefix = "/api/v1" if owned["apiVersion"] == "v1" else f"/apis/{owned['apiVersion']}"
    metadata = owned["metadata"]
    return api.request(
        "PATCH",
        f"{prefix}/namespaces/{metadata['namespace']}/{PLURALS[owned['kind']]}/{metadata['name']}",
        owned,
        query={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict", **query},
        content_type="application/apply-patch+yaml",
    )


def test_they_are_taken_as_they_are_and_applying_them_again_changes_nothing(api: Api, namespace: str) -> None:
    index = create_index(api, namespace)
    objects = build_owned_objects(index, IMAGE, KEYS)
    first = [apply(api, owned) for owned in objects]
    again = [apply(api, owned) for owned in objects]

    def state(stored: Object) -> tuple[str, Any]:
        # Controllers write the status of what has one; the generation counts changes of the spec alone.
        metadata = stored["metadata"]
        return stored["kind"], metadata.get("generation") or metadata["resourceVersion"]

    assert [state(stored) for stored in first] == [state(stored) for stored in again]
    assert {plan(owned, stored).step for stored, owned in zip(again, objects, strict=True)} == {Step.KEEP}


NODE_SELECTOR = {"disk": "fast", "zone": "a"}
BY_LABELS = {"labelSelector": {"matchLabels": {"app": "x", "tier": "y"}}, "topologyKey": "zone"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"nodeSelector": NODE_SELECTOR}, {"nodeSelector": {"disk": "fast"}}, id="a label of the node"),
        pytest.param({"nodeSelector": NODE_SELECTOR}, {"nodeSelector": None}, id="all labels of the node"),
        pytest.param(
            {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [BY_LABELS]}}},
            {
                "affinity": {
                    "podAntiAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {**BY_LABELS, "labelSelector": {"matchLabels": {"app": "x"}}}
                        ]
                    }
                }
            },
            id="within an affinity",
        ),
        pytest.param({"tolerations": [{"key": "a", "operator": "Exists"}]}, {"tolerations": []}, id="a toleration"),
        pytest.param({"podLabels": {"team": "a", "tier": "b"}}, {"podLabels": {"team": "a"}}, id="a label of the pods"),
        pytest.param({"podAnnotations": {"a": "b"}}, {"podAnnotations": None}, id="an annotation"),
        pytest.param({"priorityClassName": "high"}, {"priorityClassName": None}, id="the priority"),
    ],
)
def test_what_is_taken_out_of_the_spec_is_taken_out_of_the_pods(
    api: Api, namespace: str, before: Object, after: Object
) -> None:
    """Also within values that the API server keeps as a whole, of which it remembers no parts."""
    created = create_index(api, namespace)

    def stateful_set(changes: Object) -> Object:
        assert created.spec.managed is not None
        managed = created.spec.managed.to_dict() | changes
        spec = {**created.spec.to_dict(), "managed": {key: each for key, each in managed.items() if each is not None}}
        index = VectorIndex.read({"metadata": created.metadata.to_dict(), "spec": spec})
        return build_owned_objects(index, IMAGE, KEYS)[-1]

    stored = apply(api, stateful_set(before))
    assert plan(stateful_set(before), stored).step is Step.KEEP
    assert plan(stateful_set(after), stored).step is Step.APPLY
    stored = apply(api, stateful_set(after))
    assert plan(stateful_set(after), stored).step is Step.KEEP


def test_fields_of_others_survive_and_ours_are_put_right(api: Api, namespace: str) -> None:
    service = build_owned_objects(create_index(api, namespace), IMAGE, KEYS)[2]
    apply(api, service)
    path = f"/api/v1/namespaces/{namespace}/services/{LONGEST}"
    drift: Any = {"metadata": {"annotations": {"team": "a"}}, "spec": {"selector": {"vectorindex.io/index": "other"}}}
    api.patch(path, drift)

    restored = apply(api, service)
    assert restored["metadata"]["annotations"] == {"team": "a"}
    assert restored["spec"]["selector"] == {"vectorindex.io/index": LONGEST}


def test_the_pods_meet_the_restricted_pod_security_standard(api: Api, namespace: str) -> None:
    api.patch(
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    template = build_owned_objects(create_index(api, namespace), IMAGE, KEYS)[-1]["spec"]["template"]
    volumes = [*template["spec"]["volumes"], {"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}}]
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "words-0", **template["metadata"]},
        "spec": {**template["spec"], "volumes": volumes},
    }
    path = f"/api/v1/namespaces/{namespace}/pods"
    api.request("POST", path, pod, query={"dryRun": "All", "fieldValidation": "Strict"})

    pod["spec"]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api.request("POST", path, pod, query={"dryRun": "All"})


def test_storage_that_the_set_cannot_change_is_refused_by_the_index_already(api: Api, namespace: str) -> None:
    """Otherwise the StatefulSet would refuse it, long after the user has gone."""
    index = create_index(api, namespace)
    with pytest.raises(ApiError, match=r"managed\.storage\.size cannot be changed"):
        api.patch(
            f"/apis/{API_VERSION}/namespaces/{namespace}/vectorindexes/{index.metadata.name}",
            {"spec": {"managed": {"storage": {"size": "2Gi"}}}},
        )
