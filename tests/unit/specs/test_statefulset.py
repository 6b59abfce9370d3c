from __future__ import annotations

from typing import Any

import pytest

from tests.unit.specs.indexes import build_index
from vectorindex.api import VectorIndex
from vectorindex.specs import build_stateful_set


def spec(index: VectorIndex) -> dict[str, Any]:
    assert index.spec.managed is not None
    result: dict[str, Any] = build_stateful_set(index, index.spec.managed, "sidecar:1")["spec"]
    return result


def pod(index: VectorIndex) -> dict[str, Any]:
    result: dict[str, Any] = spec(index)["template"]["spec"]
    return result


def container(index: VectorIndex) -> dict[str, Any]:
    [result] = pod(index)["containers"]
    assert isinstance(result, dict)
    return result


def test_the_set(index: VectorIndex) -> None:
    result = spec(index)
    assert result["replicas"] == 3
    assert result["serviceName"] == "words-pods"
    assert result["podManagementPolicy"] == "Parallel"
    assert result["selector"]["matchLabels"].items() <= result["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("storage", "when_deleted"),
    [({}, "Retain"), ({"reclaim": "Retain"}, "Retain"), ({"reclaim": "Delete"}, "Delete")],
    ids=["default", "Retain", "Delete"],
)
def test_volumes_go_with_the_pods_that_go_and_with_the_index_only_if_asked(
    storage: dict[str, str], when_deleted: str
) -> None:
    index = build_index(managed={"storage": {"size": "1Gi", **storage}})
    assert spec(index)["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": when_deleted,
        "whenScaled": "Delete",
    }


@pytest.mark.parametrize(
    ("storage", "claim"),
    [
        pytest.param({"size": "10Gi"}, {"resources": {"requests": {"storage": "10Gi"}}}, id="default class"),
        pytest.param(
            {"size": "10Gi", "storageClassName": "fast"},
            {"resources": {"requests": {"storage": "10Gi"}}, "storageClassName": "fast"},
            id="class",
        ),
    ],
)
def test_the_volume_of_each_pod(storage: dict[str, str], claim: dict[str, Any]) -> None:
    assert spec(build_index(managed={"storage": storage}))["volumeClaimTemplates"] == [
        {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], **claim}}
    ]


@pytest.mark.parametrize(
    ("managed", "image"),
    [({}, "sidecar:1"), ({"image": "mine@sha256:0"}, "mine@sha256:0")],
    ids=["the operator's", "its own"],
)
def test_the_image(managed: dict[str, str], image: str) -> None:
    assert container(build_index(managed=managed))["image"] == image


def test_the_sidecar_is_started_for_its_index(index: VectorIndex) -> None:
    result = container(index)
    assert result["command"] == ["vectorindex-sidecar"]
    assert result["args"] == [
        *("--data-dir", "/data"),
        *("--host", "0.0.0.0"),
        *("--port", "8080"),
        *("--identity", "/etc/vectorindex/identity.json"),
    ]
    sources = {variable["name"]: variable["valueFrom"] for variable in result["env"]}
    assert sources["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert {name: source["resourceFieldRef"] for name, source in sources.items() if name != "POD_NAME"} == {
        "MEMORY_LIMIT_BYTES": {"containerName": "sidecar", "resource": "limits.memory", "divisor": "1"},
        "CPU_LIMIT_MILLICORES": {"containerName": "sidecar", "resource": "limits.cpu", "divisor": "1m"},
    }
    assert {mount["name"]: mount["mountPath"] for mount in result["volumeMounts"]} == {
        "data": "/data",
        "identity": "/etc/vectorindex",
        "tmp": "/tmp",
    }


def test_every_mount_has_its_volume(index: VectorIndex) -> None:
    volumes = {volume["name"] for volume in pod(index)["volumes"]}
    claims = {claim["metadata"]["name"] for claim in spec(index)["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container(index)["volumeMounts"]} == volumes | claims
    assert {"name": "identity", "configMap": {"name": "words-identity"}} in pod(index)["volumes"]


def test_a_pod_is_alive_before_it_is_ready(index: VectorIndex) -> None:
    probes = {name: container(index)[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: probe["httpGet"] for name, probe in probes.items()} == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }
    patience = {name: probe["periodSeconds"] * probe["failureThreshold"] for name, probe in probes.items()}
    assert patience["readinessProbe"] < patience["livenessProbe"] <= patience["startupProbe"]


def test_the_pod_has_no_rights_that_it_does_not_need(index: VectorIndex) -> None:
    assert pod(index)["automountServiceAccountToken"] is False
    assert pod(index)["enableServiceLinks"] is False
    assert pod(index)["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65_532,
        "runAsGroup": 65_532,
        "fsGroup": 65_532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(index)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_resources_are_passed_on() -> None:
    resources = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert container(build_index(managed={"resources": resources}))["resources"] == resources
    assert "resources" not in container(build_index())


def test_where_the_pods_may_run_is_passed_on() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    managed = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}},
        "topologySpreadConstraints": [spread],
        "priorityClassName": "search",
    }
    built = pod(build_index(managed=managed))
    assert {field: built[field] for field in managed} == managed
    assert not pod(build_index()).keys() & managed.keys()


def test_what_is_empty_is_left_out_but_for_objects_which_may_mean_all() -> None:
    term: dict[str, Any] = {"labelSelector": {"matchExpressions": []}, "namespaces": None, "topologyKey": ""}
    managed = {
        "tolerations": [{"key": "gpu", "effect": ""}],
        "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
        "nodeSelector": {},
    }
    built = pod(build_index(managed=managed))
    assert built["tolerations"] == [{"key": "gpu"}]
    assert built["affinity"]["podAffinity"] == {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]
    }
    assert "nodeSelector" not in built


def test_the_pods_have_the_users_labels_beside_ours() -> None:
    managed = {"podLabels": {"team": "a", "vectorindex.io/index": "other"}, "podAnnotations": {"a/b": "c"}}
    metadata = spec(build_index(managed=managed))["template"]["metadata"]
    assert metadata["labels"]["team"] == "a"
    assert metadata["labels"]["vectorindex.io/index"] == "words"
    assert metadata["annotations"].keys() == {"a/b", "vectorindex.io/requested"}


def requested(default_image: str = "default", **managed: Any) -> str:
    index = build_index(managed=managed)
    assert index.spec.managed is not None
    template = build_stateful_set(index, index.spec.managed, default_image)["spec"]["template"]
    digest: str = template["metadata"]["annotations"]["vectorindex.io/requested"]
    return digest


@pytest.mark.parametrize(
    "managed",
    [
        {"image": "mine"},
        {"podLabels": {"a": "b"}},
        {"podAnnotations": {"a": "b"}},
        {"nodeSelector": {"a": "b"}},
        {"tolerations": [{"key": "a"}]},
        {"resources": {"limits": {"memory": "1Gi"}}},
    ],
    ids=lambda managed: next(iter(managed)),
)
def test_what_the_user_asks_of_the_pods_is_told_from_what_the_operator_adds(managed: dict[str, Any]) -> None:
    assert requested(**managed) != requested()
    assert requested(**managed) == requested("another", replicas=7, **managed)


def test_the_same_amount_in_other_words_is_asking_for_the_same() -> None:
    one, other = (requested(resources={"limits": {"memory": memory}}) for memory in ("1024Mi", "1Gi"))
    assert one == other


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"managed": {"replicas": 5}}, id="replicas"),
        pytest.param({"managed": {"storage": {"size": "1Gi", "reclaim": "Delete"}}}, id="reclaim"),
        pytest.param({"hnsw": {"m": 32, "efSearch": 100}}, id="hnsw"),
        pytest.param({"maintenance": {"deletedPercent": 50, "threads": 4}}, id="maintenance"),
    ],
)
def test_what_needs_no_restart_leaves_the_pods_as_they_are(index: VectorIndex, changes: dict[str, Any]) -> None:
    assert spec(build_index(**changes))["template"] == spec(index)["template"]
