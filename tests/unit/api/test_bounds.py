"""What the API server takes, the sidecar takes too: the same fields are bounded alike in the API and on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from vectorindex.api.builds import Verify
from vectorindex.api.common import Parameters
from vectorindex.api.indexdelete import IndexDeleteSpec
from vectorindex.api.schema import structural_schema
from vectorindex.api.vectorindex import Maintenance, Metric, VectorIndexSpec
from vectorindex.wire.identity import GraphParameters, Identity
from vectorindex.wire.identity import Metric as WireMetric
from vectorindex.wire.operations import DeleteRequest, Verification
from vectorindex.wire.state import Configuration

PAIRS = [
    (Parameters, "m", GraphParameters, "M"),
    (Parameters, "efConstruction", GraphParameters, "ef_construction"),
    (Parameters, "efSearch", GraphParameters, "ef_search"),
    (Parameters, "seed", GraphParameters, "rng_seed"),
    (Parameters, "m", Configuration, "desired_m"),
    (Parameters, "efConstruction", Configuration, "desired_ef_construction"),
    (Parameters, "efSearch", Configuration, "ef_search"),
    (Maintenance, "deletedPercent", Configuration, "deleted_percent"),
    (Maintenance, "deltaPercent", Configuration, "delta_percent"),
    (Maintenance, "threads", Configuration, "threads"),
    (Verify, "samples", Verification, "samples"),
    (Verify, "k", Verification, "k"),
    (Verify, "minRecallPercent", Verification, "min_recall_percent"),
    (IndexDeleteSpec, "maxDeletePercent", DeleteRequest, "max_delete_percent"),
    (VectorIndexSpec, "dimensions", Identity, "dimensions"),
]


def bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """Minimum, maximum and default; of ``X | None``, those of X."""
    schema = {**schema, **next((inner for inner in schema.get("anyOf", ()) if inner["type"] != "null"), {})}
    return {key: schema.get(key) for key in ("minimum", "maximum", "default")}


@pytest.mark.parametrize(
    ("model", "field", "wire_model", "wire_field"),
    [pytest.param(*pair, id=f"{pair[1]} {pair[2].__name__}.{pair[3]}") for pair in PAIRS],
)
def test_bounds(model: type[BaseModel], field: str, wire_model: type[BaseModel], wire_field: str) -> None:
    ours = bounds(structural_schema(model)["properties"][field])
    theirs = bounds(wire_model.model_json_schema()["properties"][wire_field])
    if wire_model is Configuration:  # it has no defaults: the operator sends what the spec says
        ours["default"] = None
    assert ours == theirs


def test_metrics() -> None:
    assert {metric.value for metric in Metric} == {metric.value for metric in WireMetric}
