"""What all kinds share: how they are served, conditions, references, and the frame of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import Field, ValidationError

from vectorindex.api.model import (
    LIST_MAP_BY_TYPE,
    MAX_INTEGER,
    ApiModel,
    Identifier,
    Message,
    Percent,
    PodMessage,
    PodName,
    Rule,
    Time,
    field_name,
    unchanged,
)

GROUP = "vectorindex.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MAX_PODS = 256
MAX_SECONDS = 2**31 - 1
MAX_INDEX_NAME = 45  # leaves room for what StatefulSets and Services add, within a label's 63
INDEX_NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"  # DNS-1035 label


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; with ``wide`` only of ``-o wide``."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True)
class Scale:
    """Where ``/scale`` finds what it serves; the paths are those of the object."""

    wanted: str
    there: str
    selector: str


@dataclass(frozen=True)
class Kind:
    """How the API server serves a kind."""

    kind: str
    plural: str
    singular: str
    short_name: str
    columns: tuple[Column, ...]
    scale: Scale | None = None
    selectable: tuple[str, ...] = ()
    """Paths of fields that objects can be selected by."""

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"


def condition_path(condition: str, field: str) -> str:
    """The path of a condition's field, for a column."""
    return f'.status.conditions[?(@.type=="{condition}")].{field}'


RUN_FIELDS = (".spec.indexRef.name", ".status.completionTime")
"""What runs can be selected by: those of one index, and those that have not ended, whose completionTime is empty."""

AGE = Column("Age", ".metadata.creationTimestamp", "Time since the object was created.", "date")


class Metadata(ApiModel):
    """The part of ObjectMeta that is read; the API server defines the rest."""

    name: str
    namespace: str
    uid: str
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One aspect of the object's state, as in all of Kubernetes."""

    type: str = Field(description="What the condition is about.", pattern="^[A-Z][A-Za-z]*$", max_length=64)
    status: ConditionStatus = Field(description="True, False, or Unknown while it cannot be told.")
    observed_generation: int = Field(
        description="The metadata.generation that the condition speaks of.", ge=0, le=MAX_INTEGER
    )
    last_transition_time: Time = Field(description="When the status last changed from one value to another.")
    reason: str = Field(description="Why, in one CamelCase word.", pattern="^[A-Z][A-Za-z]*$", max_length=64)
    message: Message = Field(description="Why, for people.")


class Status(ApiModel):
    """What the status of every kind holds."""

    observed_generation: int = Field(
        default=-1,
        description="The metadata.generation that this status speaks of; -1 until the operator has seen the object.",
        ge=-1,
        le=MAX_INTEGER,
    )
    conditions: tuple[Condition, ...] = Field(
        default=(), description="The conditions of the object.", max_length=16, json_schema_extra=LIST_MAP_BY_TYPE
    )

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class Parameters(ApiModel):
    """HNSW parameters as they are wanted; what is unset stays as it is."""

    m: int | None = Field(
        default=None,
        description="Links of an item on each upper layer; twice as many on the lowest. A new index uses 16.",
        ge=2,
        le=512,
    )
    ef_construction: int | None = Field(
        default=None,
        description="Candidates looked at when an item is linked: more is slower to build and finds better. "
        "A new index uses 200.",
        ge=1,
        le=10_000,
    )
    ef_search: int | None = Field(
        default=None,
        description="Candidates looked at by a search: more is slower and finds better. A new index uses 64.",
        ge=1,
        le=10_000,
    )
    seed: int | None = Field(
        default=None,
        description="Seed of the random choice of each item's layer. A new index uses 0.",
        ge=0,
        le=2**31 - 1,
    )


class ParametersInForce(ApiModel):
    """The HNSW parameters that a graph was built with and is searched by."""

    m: int = Field(description="Links of an item on each upper layer.", ge=0, le=MAX_INTEGER)
    ef_construction: int = Field(description="Candidates looked at when an item was linked.", ge=0, le=MAX_INTEGER)
    ef_search: int = Field(description="Candidates looked at by a search.", ge=0, le=MAX_INTEGER)
    seed: int = Field(description="Seed of the random choice of layers.", ge=0, le=MAX_INTEGER)


class IndexReference(ApiModel):
    """Names a VectorIndex in the same namespace."""

    name: str = Field(
        description="Name of the VectorIndex, in the same namespace.",
        min_length=1,
        max_length=MAX_INDEX_NAME,
        pattern=INDEX_NAME_PATTERN,
    )


class RunSpec(ApiModel):
    """The frame of every maintenance kind: one object is one run, so its spec cannot be changed, but for ``cancel``."""

    index_ref: IndexReference = Field(description="The index that the run is for.")
    operation_id: str | None = Field(
        default=None,
        description="Names what is done, beyond the life of this object: a run of the same operationID that has "
        "succeeded on the index changes nothing and ends AlreadyApplied, with the figures of the first one.",
        min_length=1,
        max_length=128,
        pattern="^[-._:/@A-Za-z0-9]+$",
    )
    cancel: bool = Field(
        default=False,
        description="Set to true to stop the run: pods that have done their part keep it, the others stay as they are. "
        "The one field that can be changed, and only from false to true.",
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        description="The run fails when it is not done so long after its startTime; what pods have done by then they "
        "keep. Unset: there is no limit.",
        ge=1,
        le=MAX_SECONDS,
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        description="The operator deletes the object so long after its completionTime. Unset: it stays; leave it unset "
        "where a GitOps tool would create the object again, which is another run.",
        ge=0,
        le=MAX_SECONDS,
    )

    @classmethod
    def all_rules(cls) -> tuple[Rule, ...]:
        fixed = (
            unchanged(field_name(name), optional=not field.is_required())
            for name, field in cls.model_fields.items()
            if name != "cancel"
        )
        return (
            *cls.rules,
            Rule(
                rule=" && ".join(f"({term})" for term in fixed),
                message="the spec of a run cannot be changed, except cancel: create a new object with another name",
                forbidden=True,
            ),
            Rule(
                rule="self.cancel || !oldSelf.cancel",
                message="a cancelled run cannot be taken up again: create a new object with another name",
                field=".cancel",
                forbidden=True,
            ),
        )


class PodState(StrEnum):
    """How far a run is on one pod. ``Gone``: the pod was removed for good before it had done its part."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    UNREACHABLE = "Unreachable"
    GONE = "Gone"


class PodResult(ApiModel):
    """What a run did on one pod."""

    name: PodName = Field(description="Name of the pod.")
    state: PodState = Field(
        description="How far the run is on this pod. Unreachable: it does not answer, and the run waits for it. "
        "Gone: it was removed for good, and the run goes on without it."
    )
    reason: str | None = Field(
        default=None,
        description="Why the pod failed, in one CamelCase word; or AlreadyApplied, which is no failure.",
        pattern="^[A-Z][A-Za-z]*$",
        max_length=64,
    )
    message: PodMessage | None = Field(default=None, description="Why, for people.")
    volume_id: Identifier | None = Field(default=None, description="The volume that the result was given for.")
    missing_time: Time | None = Field(
        default=None,
        description="With podSelector: since when there is no such pod any more. A minute later it is Gone.",
    )


class RunStatus(Status):
    """What the status of every maintenance kind holds, besides its own figures and ``pods``."""

    index_uid: Identifier | None = Field(
        default=None,
        description="UID of the VectorIndex as it was first seen; the run fails if another one takes its name.",
    )
    start_time: Time | None = Field(default=None, description="When the first pod was called.")
    completion_time: Time | None = Field(default=None, description="When the run ended, however it did.")
    progress_percent: Percent | None = Field(
        default=None, description="How much of the work on all pods is done, rounded down."
    )

    @property
    def finished(self) -> bool:
        return self.completion_time is not None


class UnreadableError(ValueError):
    """An object is not valid; the message names the field."""


class ApiObject(ApiModel):
    """An object of one of our kinds, as it is read from the API server."""

    definition: ClassVar[Kind]

    metadata: Metadata

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> Self:
        """The object from its JSON form.

        Raises:
            UnreadableError: it is not valid. The API server refuses such an object, unless it was stored before the
                rule existed, or by another version.
        """
        try:
            return cls.model_validate(manifest)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"])
            raise UnreadableError(f"{path} is not valid: {first['msg']}") from error
