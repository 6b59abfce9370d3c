"""The ConfigMap that tells the pods which index they hold."""

from __future__ import annotations

import json
from typing import Any

from vectorindex.api import VectorIndex, names
from vectorindex.api.common import Parameters
from vectorindex.specs.meta import build_metadata
from vectorindex.wire.identity import GraphParameters, Identity, Metric


def build_identity(index: VectorIndex) -> dict[str, Any]:
    wanted = index.spec.hnsw or Parameters()
    identity = Identity(
        namespace=index.metadata.namespace,
        index=index.metadata.name,
        uid=index.metadata.uid,
        dimensions=index.spec.dimensions,
        metric=Metric(index.spec.metric),
        parameters=GraphParameters(
            m=wanted.m, ef_construction=wanted.ef_construction, ef_search=wanted.ef_search, rng_seed=wanted.seed
        ),
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(index, names.identity(index.metadata.name)),
        "data": {names.IDENTITY_KEY: json.dumps(identity.to_json(), indent=2, sort_keys=True) + "\n"},
    }
