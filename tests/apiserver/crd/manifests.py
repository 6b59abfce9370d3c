"""The smallest valid object of each kind, and changes to it written as merge patches."""

from __future__ import annotations

import copy
from typing import Any

from devcluster.api import Api
from vectorindex.api import KINDS
from vectorindex.api.common import API_VERSION

Object = dict[str, Any]

PLURALS = {model.definition.kind: model.definition.plural for model in KINDS}

SPECS: dict[str, Object] = {
    "VectorIndex": {"dimensions": 384, "metric": "Cosine", "managed": {"storage": {"size": "1Gi"}}},
    "IndexDelete": {"indexRef": {"name": "words"}, "externalIDs": ["cat", "dog"]},
    "IndexRebuild": {"indexRef": {"name": "words"}},
    "IndexOptimize": {"indexRef": {"name": "words"}},
}


def manifest(kind: str, patch: Object | None = None, name: str = "words") -> Object:
    """A valid object, with ``patch`` merged into its spec."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": merge(copy.deepcopy(SPECS[kind]), patch or {}),
    }


def merge(target: Object, patch: Object) -> Object:
    """RFC 7396: objects are merged, None removes, everything else replaces."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            target[key] = merge(dict(target.get(key) or {}), value)
        else:
            target[key] = value
    return target


def at(path: str, value: object) -> Object:
    """The patch that sets one field: ``at("hnsw.m", 1)`` is ``{"hnsw": {"m": 1}}``."""
    first, _, rest = path.partition(".")
    return {first: at(rest, value) if rest else value}


def collection(kind: str, namespace: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURALS[kind]}"


def create(api: Api, namespace: str, body: Object, *, dry_run: bool = False) -> Object:
    query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
    return api.request("POST", collection(body["kind"], namespace), body, query=query)


def update(api: Api, namespace: str, kind: str, spec_patch: Object, *, dry_run: bool = True) -> Object:
    return api.request(
        "PATCH",
        f"{collection(kind, namespace)}/words",
        {"spec": spec_patch},
        query={"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})},
        content_type="application/merge-patch+json",
    )


def apply_status(api: Api, namespace: str, kind: str, status: Object) -> Object:
    return api.apply(
        f"{collection(kind, namespace)}/words/status",
        {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "words"}, "status": status},
    )
