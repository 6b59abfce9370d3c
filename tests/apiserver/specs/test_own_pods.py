"""The example of pods of the user's own, against the API server that has to take it."""

from __future__ import annotations

from pathlib import Path

import yaml

from devcluster.api import Api, Object

EXAMPLE = Path(__file__).parents[3] / "examples" / "own-pods"
COLLECTIONS = {
    "VectorIndex": "/apis/vectorindex.io/v1alpha1/namespaces/{}/vectorindexes",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Service": "/api/v1/namespaces/{}/services",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Pod": "/api/v1/namespaces/{}/pods",
}
STRICT = {"dryRun": "All", "fieldValidation": "Strict"}


def test_the_example_is_valid_and_its_pods_meet_the_restricted_standard(api: Api, namespace: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})
    manifests: list[Object] = [
        each
        for name in ("vectorindex", "application")
        for each in yaml.safe_load_all((EXAMPLE / f"{name}.yaml").read_text())
    ]
    template = next(each for each in manifests if each["kind"] == "StatefulSet")["spec"]["template"]
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data-shop-0"}}
    spec = {**template["spec"], "volumes": [*template["spec"]["volumes"], claim]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop-0", **template["metadata"]}, "spec": spec}
    for manifest in (*manifests, pod):
        api.request("POST", COLLECTIONS[manifest["kind"]].format(namespace), manifest, query=STRICT)
