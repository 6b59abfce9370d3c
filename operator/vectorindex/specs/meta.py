"""The metadata of every owned object."""

from __future__ import annotations

from typing import Any

from vectorindex.api import VectorIndex, names
from vectorindex.api.common import API_VERSION


def build_owner_reference(index: VectorIndex) -> dict[str, Any]:
    """The reference by which Kubernetes deletes an object after its VectorIndex. It does not block the deletion of its
    owner: that would need a right on finalizers, and could hang."""
    return {
        "apiVersion": API_VERSION,
        "kind": index.definition.kind,
        "name": index.metadata.name,
        "uid": index.metadata.uid,
        "controller": True,
    }


def build_metadata(index: VectorIndex, name: str) -> dict[str, Any]:
    """Our own labels only: labels of the VectorIndex are not copied, since GitOps tools take what carries theirs for
    an object of their own, and prune it."""
    return {
        "name": name,
        "namespace": index.metadata.namespace,
        "labels": names.labels(index.metadata.name),
        "ownerReferences": [build_owner_reference(index)],
    }
