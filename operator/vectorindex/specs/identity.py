"""The ConfigMap that tells the pods which index they hold, and whose calls they may trust. Pods read it again when it
changes, so nothing of it is in the pod template, and no change of it replaces a pod."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vectorindex.api import VectorIndex, names
from vectorindex.api.common import Parameters
from vectorindex.specs.meta import build_metadata
from vectorindex.wire.identity import GraphParameters, Identity, Metric, PublicKey


def build_identity(index: VectorIndex, public_keys: Sequence[PublicKey]) -> dict[str, Any]:
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
        public_keys=tuple(public_keys),
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(index, names.identity(index.metadata.name)),
        "data": {names.IDENTITY_KEY: json.dumps(identity.to_json(), indent=2, sort_keys=True) + "\n"},
    }
