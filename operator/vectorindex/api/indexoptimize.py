"""IndexOptimize: takes deleted items out of an index's graphs and mends the gaps, on every pod, once."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vectorindex.api.builds import HOW_FAR, BuildSpec, BuildStatus
from vectorindex.api.common import AGE, RUN_FIELDS, ApiObject, Column, Kind, condition_path
from vectorindex.api.reasons import ConditionType


class IndexOptimize(ApiObject):
    """Takes the deleted items out of an index's graphs and links their neighbours anew, on every pod, one after the
    other. It takes a fraction of a rebuild's time; it changes no parameter, and items outside the main graph stay
    there. One object is one run."""

    definition: ClassVar = Kind(
        kind="IndexOptimize",
        plural="indexoptimizes",
        singular="indexoptimize",
        short_name="viopt",
        selectable=RUN_FIELDS,
        columns=(
            *HOW_FAR,
            Column("Repaired", ".status.linksRepaired", "Links that were put across the gaps.", "integer"),
            Column("Recall", ".status.recallAfter", "recall@k of the repaired graph."),
            Column("Reclaimed", ".status.bytesReclaimed", "Bytes that the run freed.", "integer"),
            AGE,
            Column("Message", condition_path(ConditionType.SUCCEEDED, "message"), "Why, for people.", wide=True),
        ),
    )

    spec: BuildSpec = Field(description="The index, and how its repaired graph is judged.")
    status: BuildStatus = Field(default=BuildStatus(), description="How far the run is, and its result.")
