"""The StatefulSet of an index: one sidecar and one volume in each pod.

The pods meet the restricted Pod Security Standard and hold no credentials of the Kubernetes API.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vectorindex.api import VectorIndex, names
from vectorindex.api.vectorindex import Managed, Resources, Storage
from vectorindex.domain.quantities import amount
from vectorindex.specs.meta import build_metadata
from vectorindex.wire import environment

USER = 65_532  # the image's own user, which is not root


def build_stateful_set(index: VectorIndex, managed: Managed, default_image: str) -> dict[str, Any]:
    """``managed``: the index's; ``default_image``: the sidecar's image where it names none."""
    name = index.metadata.name
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": build_metadata(index, names.stateful_set(name)),
        "spec": {
            "replicas": managed.replicas,
            "serviceName": names.pods_service(name),
            # One after the other, a pod that never becomes ready would keep the corrected template from its place.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": managed.storage.reclaim.value,
                "whenScaled": "Delete",
            },
            "selector": {"matchLabels": names.selector(name)},
            "template": {
                "metadata": _build_pod_metadata(name, managed),
                "spec": _build_pod(name, managed, default_image),
            },
            "volumeClaimTemplates": [_build_volume_claim(managed.storage)],
        },
    }


def _build_pod_metadata(index: str, managed: Managed) -> dict[str, Any]:
    return {
        "labels": {**(managed.pod_labels or {}), **names.labels(index)},
        "annotations": {**(managed.pod_annotations or {}), names.REQUESTED_ANNOTATION: _requested(managed)},
    }


def _requested(managed: Managed) -> str:
    """The digest of all that the user says of the pods, and of nothing that the operator adds: so an upgrade of the
    operator, and a default that it brings, leaves it as it is."""
    asked = {
        "image": managed.image,
        "resources": _amounts(managed.resources),
        "scheduling": _build_scheduling(managed),
        "labels": managed.pod_labels,
        "annotations": managed.pod_annotations,
    }
    text = json.dumps({field: value for field, value in asked.items() if value}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _amounts(resources: Resources | None) -> Any:
    """With each quantity as a number: pods are not replaced because it is written in another way."""
    stated = {} if resources is None else resources.to_dict()
    return {
        kind: {name: format(amount(str(each)).normalize(), "f") for name, each in listed.items()}
        for kind, listed in stated.items()
    }


def _build_pod(index: str, managed: Managed, default_image: str) -> dict[str, Any]:
    return {
        **_build_scheduling(managed),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # Otherwise the owner of every file is set at each start, which takes long on a large volume.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_build_container(managed, default_image)],
        "volumes": [
            {"name": names.IDENTITY_VOLUME, "configMap": {"name": names.identity(index)}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _build_scheduling(managed: Managed) -> dict[str, Any]:
    """Where the pods may run, in the user's words. What is empty is left out, as the API server leaves it out: it would
    be missed in what is there otherwise, and applied again and again."""
    wanted = {
        "imagePullSecrets": [secret.to_dict() for secret in managed.image_pull_secrets],
        "nodeSelector": managed.node_selector,
        "tolerations": [without_unset(toleration) for toleration in managed.tolerations],
        "affinity": without_unset(managed.affinity),
        "topologySpreadConstraints": [without_unset(each) for each in managed.topology_spread_constraints],
        "priorityClassName": managed.priority_class_name,
    }
    return {field: value for field, value in wanted.items() if value}


def without_unset(value: Any) -> Any:
    """Without null, empty strings and empty lists, which mean that a field is unset. An empty object may mean all."""
    if isinstance(value, dict):
        kept = {field: without_unset(inner) for field, inner in value.items()}
        return {field: inner for field, inner in kept.items() if inner is not None and inner not in ("", [])}
    if isinstance(value, list):
        return [without_unset(inner) for inner in value]
    return value


def _build_container(managed: Managed, default_image: str) -> dict[str, Any]:
    container = {
        "name": names.CONTAINER,
        "image": managed.image or default_image,
        "command": ["vectorindex-sidecar"],
        "args": [
            *("--data-dir", names.DATA_PATH),
            *("--host", "0.0.0.0"),  # noqa: S104 - the pod's own network: Services reach it from outside
            *("--port", str(names.PORT)),
            *("--identity", f"{names.IDENTITY_DIRECTORY}/{names.IDENTITY_KEY}"),
        ],
        "env": [
            {"name": environment.POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            _limit(environment.MEMORY_LIMIT, "limits.memory", "1"),
            _limit(environment.CPU_LIMIT, "limits.cpu", "1m"),
        ],
        "ports": [{"name": names.PORT_NAME, "containerPort": names.PORT, "protocol": "TCP"}],
        # Alive long before it is ready: the server answers first and loads its graphs then, however long it takes.
        # It listens after a second; a probe before that would put a warning into the pod's events.
        "startupProbe": _probe("/healthz", period=1, timeout=3, failures=120) | {"initialDelaySeconds": 2},
        "livenessProbe": _probe("/healthz", period=10, timeout=5, failures=6),
        "readinessProbe": _probe("/readyz", period=2, timeout=3, failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": names.DATA_VOLUME, "mountPath": names.DATA_PATH},
            {"name": names.IDENTITY_VOLUME, "mountPath": names.IDENTITY_DIRECTORY, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own, and the only other place to write
        ],
    }
    if managed.resources is not None:
        container["resources"] = managed.resources.to_dict()
    return container


def _limit(name: str, resource: str, divisor: str) -> dict[str, Any]:
    """A limit of this container in units of ``divisor``, also one that the namespace's LimitRange sets."""
    reference = {"containerName": names.CONTAINER, "resource": resource, "divisor": divisor}
    return {"name": name, "valueFrom": {"resourceFieldRef": reference}}


def _probe(path: str, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": names.PORT_NAME},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _build_volume_claim(storage: Storage) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {"metadata": {"name": names.DATA_VOLUME}, "spec": spec}
