from __future__ import annotations

import json

from tests.unit.specs.indexes import KEYS, build_index
from vectorindex.api import VectorIndex
from vectorindex.specs import build_identity
from vectorindex.wire.identity import GraphParameters, Identity, Metric


def test_the_sidecar_reads_what_the_operator_writes() -> None:
    index = build_index(hnsw={"m": 8, "efConstruction": 400, "efSearch": 50, "seed": 7})
    content = build_identity(index, KEYS)["data"]["identity.json"]
    assert Identity.model_validate_json(content) == Identity(
        namespace="search",
        index="words",
        uid="0f1e",
        dimensions=384,
        metric=Metric.COSINE,
        parameters=GraphParameters(m=8, ef_construction=400, ef_search=50, rng_seed=7),
        public_keys=KEYS,
    )


def test_parameters_that_are_unset_are_left_to_the_sidecar(index: VectorIndex) -> None:
    assert json.loads(build_identity(index, KEYS)["data"]["identity.json"])["parameters"] == {}


def test_replicas_and_thresholds_leave_the_identity_as_it_is(index: VectorIndex) -> None:
    other = build_index(managed={"replicas": 5}, maintenance={"deletedPercent": 50})
    assert build_identity(other, KEYS) == build_identity(index, KEYS)
