"""The two Services of an index."""

from __future__ import annotations

from typing import Any

from vectorindex.api import VectorIndex, names
from vectorindex.specs.meta import build_metadata


def build_service(index: VectorIndex) -> dict[str, Any]:
    """For applications: one address, behind it the pods that are ready."""
    return _build(index, names.service(index.metadata.name), {"type": "ClusterIP"})


def build_pods_service(index: VectorIndex) -> dict[str, Any]:
    """Gives each pod a name of its own, also before it is ready: the operator has to reach it then too."""
    return _build(
        index, names.pods_service(index.metadata.name), {"clusterIP": "None", "publishNotReadyAddresses": True}
    )


def _build(index: VectorIndex, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(index, name),
        "spec": {
            **spec,
            "selector": names.selector(index.metadata.name),
            "ports": [
                {"name": names.PORT_NAME, "port": names.PORT, "targetPort": names.PORT_NAME, "protocol": "TCP"},
            ],
        },
    }
