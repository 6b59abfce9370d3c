"""IndexRebuild: builds an index's graph anew from its live items, on every pod, once."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vectorindex.api.builds import HOW_FAR, BuildSpec, BuildStatus
from vectorindex.api.common import AGE, RUN_FIELDS, ApiObject, Column, Kind, Parameters, condition_path
from vectorindex.api.reasons import ConditionType


class IndexRebuildSpec(BuildSpec):
    params: Parameters | None = Field(
        default=None,
        description="Parameters of the new graph. What is unset stays as it is; what the VectorIndex sets in spec.hnsw "
        "cannot be set here to another value.",
    )


class IndexRebuildStatus(BuildStatus):
    index_parameters: Parameters | None = Field(
        default=None,
        description="m, efConstruction and seed of the VectorIndex's spec.hnsw when the run began. The new graph has "
        "them on every pod, where spec.params sets nothing else, whatever spec.hnsw is changed to meanwhile.",
    )


class IndexRebuild(ApiObject):
    """Builds an index's graph anew from its live items, on every pod, one after the other. One object is one run."""

    definition: ClassVar = Kind(
        kind="IndexRebuild",
        plural="indexrebuilds",
        singular="indexrebuild",
        short_name="vireb",
        selectable=RUN_FIELDS,
        columns=(
            *HOW_FAR,
            Column("Vectors", ".status.vectorsAfter", "Items in the new graph.", "integer"),
            Column("Recall", ".status.recallAfter", "recall@k of the new graph."),
            Column("Reclaimed", ".status.bytesReclaimed", "Bytes that the rebuild freed.", "integer"),
            AGE,
            Column("Message", condition_path(ConditionType.SUCCEEDED, "message"), "Why, for people.", wide=True),
        ),
    )

    spec: IndexRebuildSpec = Field(description="The graph that is wanted.")
    status: IndexRebuildStatus = Field(default=IndexRebuildStatus(), description="How far the run is, and its result.")
