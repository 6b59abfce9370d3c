"""A VectorIndex as the API server sends it."""

from __future__ import annotations

from typing import Any

from vectorindex.api import VectorIndex
from vectorindex.wire.identity import PublicKey

KEYS = (PublicKey(kid="signs", x="A" * 43), PublicKey(kid="will-sign", x="B" * 43))


def build_index(managed: dict[str, Any] | None = None, **spec: Any) -> VectorIndex:
    """The index ``search/words``; ``managed`` and ``spec`` add to its fields or replace them. With ``podSelector`` in
    place of ``managed``."""
    pods = {"managed": {"replicas": 3, "storage": {"size": "1Gi"}, **(managed or {})}}
    return VectorIndex.read(
        {
            "metadata": {
                "name": "words",
                "namespace": "search",
                "uid": "0f1e",
                "labels": {"app.kubernetes.io/instance": "of-a-git-ops-tool", "team": "a"},
            },
            "spec": {
                "dimensions": 384,
                "metric": "Cosine",
                **({} if "podSelector" in spec else pods),
                **spec,
            },
        }
    )
