"""IndexDelete: takes items out of an index, on every pod, once."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vectorindex.api.common import (
    AGE,
    MAX_PODS,
    RUN_FIELDS,
    ApiObject,
    Column,
    Kind,
    PodResult,
    RunSpec,
    RunStatus,
    condition_path,
)
from vectorindex.api.model import LIST_ATOMIC, LIST_MAP_BY_NAME, ApiModel, Count, Percent, Rule, Time
from vectorindex.api.reasons import ConditionType

MAX_INLINE_IDS = 1_000
MAX_CONFIG_MAP_IDS = 100_000
MAX_NOT_FOUND = 100  # IDs listed in the status
MAX_ID_LENGTH = 512

ExternalID = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^\P{Cc}+$")]
"""An item's name: no control characters, at most 512 bytes of UTF-8 (the schema can count characters only)."""


class ConfigMapKeyReference(ApiModel):
    """A key of a ConfigMap in the same namespace."""

    name: str = Field(description="Name of the ConfigMap, in the same namespace.", min_length=1, max_length=253)
    key: str = Field(
        description="Key whose value is a JSON array of strings, or one ID a line.",
        min_length=1,
        max_length=253,
        pattern="^[-._a-zA-Z0-9]+$",
    )


class ExternalIDSource(ApiModel):
    """Where the IDs are read from."""

    config_map_key_ref: ConfigMapKeyReference = Field(
        description=f"The key of a ConfigMap that holds at most {MAX_CONFIG_MAP_IDS} IDs."
    )


class IndexDeleteSpec(RunSpec):
    external_ids: Annotated[tuple[ExternalID, ...], Field(min_length=1, max_length=MAX_INLINE_IDS)] | None = Field(
        default=None,
        description=f"The IDs of the items to delete, 1 to {MAX_INLINE_IDS}. One that is given twice counts once.",
        json_schema_extra=LIST_ATOMIC,
    )
    external_ids_from: ExternalIDSource | None = Field(
        default=None, description="Where to read the IDs from, instead of externalIDs."
    )
    return_not_found: bool = Field(
        default=False, description=f"List in status.notFound the IDs that no pod had, {MAX_NOT_FOUND} at most."
    )

    dry_run: bool = Field(
        default=False,
        description="Ask every pod what would go, and delete nothing. The figures of the status are those of the "
        "delete as it would be.",
    )
    max_delete_percent: Percent | None = Field(
        default=None,
        description="Delete nothing if more than so many percent of the items of any pod would go. Every pod is asked "
        "before the first one deletes, and looks again when it does.",
    )

    rules: ClassVar = (
        Rule(
            "has(self.externalIDs) != has(self.externalIDsFrom)",
            "give exactly one of externalIDs and externalIDsFrom",
        ),
    )


class DeletePodResult(PodResult):
    """What the delete did on one pod."""

    deleted_count: Count | None = Field(default=None, description="Distinct IDs that this pod deleted.")
    not_found_count: Count | None = Field(default=None, description="Distinct IDs that this pod did not have.")


class IndexDeleteStatus(RunStatus):
    request_digest: str | None = Field(
        default=None,
        description="SHA-256 of the IDs, written before the first pod was called.",
        pattern="^[0-9a-f]{64}$",
        max_length=64,
    )
    preview_time: Time | None = Field(
        default=None,
        description="When every pod had said what would go, and it was within spec.maxDeletePercent; the pods delete "
        "from then on.",
    )
    deleted_count: Count | None = Field(
        default=None,
        description="Distinct IDs that at least one pod deleted: items, not copies. Where a run was stopped, and a pod "
        "that had deleted gave no answer at the end, it is the least that it can be, and the message says so.",
    )
    not_found_count: Count | None = Field(default=None, description="Distinct IDs that no pod had.")
    not_found: tuple[ExternalID, ...] | None = Field(
        default=None,
        description=f"IDs that no pod had, the first {MAX_NOT_FOUND}, if spec.returnNotFound is true.",
        max_length=MAX_NOT_FOUND,
        json_schema_extra=LIST_ATOMIC,
    )
    not_found_truncated: bool | None = Field(
        default=None, description=f"There are more than the {MAX_NOT_FOUND} that notFound lists."
    )
    pods: tuple[DeletePodResult, ...] = Field(
        default=(),
        description="What the delete did on each pod.",
        max_length=MAX_PODS,
        json_schema_extra=LIST_MAP_BY_NAME,
    )


class IndexDelete(ApiObject):
    """Takes items out of an index, on every pod. One object is one run."""

    definition: ClassVar = Kind(
        kind="IndexDelete",
        plural="indexdeletes",
        singular="indexdelete",
        short_name="videl",
        selectable=RUN_FIELDS,
        columns=(
            Column("Index", ".spec.indexRef.name", "The index."),
            Column("Succeeded", condition_path(ConditionType.SUCCEEDED, "status"), "Unknown until the run has ended."),
            Column("Reason", condition_path(ConditionType.SUCCEEDED, "reason"), "Why."),
            Column("Progress", ".status.progressPercent", "Percent of the work that is done.", "integer"),
            Column("Deleted", ".status.deletedCount", "Items deleted.", "integer"),
            Column("NotFound", ".status.notFoundCount", "IDs that no pod had.", "integer"),
            AGE,
            Column("Message", condition_path(ConditionType.SUCCEEDED, "message"), "Why, for people.", wide=True),
        ),
    )

    spec: IndexDeleteSpec = Field(description="What to delete.")
    status: IndexDeleteStatus = Field(default=IndexDeleteStatus(), description="How far the run is, and its result.")
