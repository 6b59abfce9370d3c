"""The base of the models: names, CEL rules, and the types of single values.

The models are the one source of the CRDs (see :mod:`vectorindex.api.crd`): bounds, defaults, descriptions and CEL
rules stand in them and nowhere else. They are immutable, and they ignore fields that they do not know, so that an
older operator can read what a newer one wrote. Attributes are snake_case, the API's fields camelCase.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue

MAX_INTEGER = 2**53  # the largest integer that every JSON reader keeps exact
MAX_MESSAGE = 4_096
MAX_POD_MESSAGE = 512


def field_name(attribute: str) -> str:
    """The API's name of an attribute: camelCase, with initialisms in capitals (``external_ids`` → ``externalIDs``)."""
    initialisms = {"id": "ID", "ids": "IDs", "uid": "UID"}
    first, *rest = attribute.split("_")
    return first + "".join(initialisms.get(word, word.capitalize()) for word in rest)


@dataclass(frozen=True)
class Rule:
    """A CEL rule (``x-kubernetes-validations``). ``field`` is the path that the error names, relative to the model;
    ``forbidden`` makes the API server say "Forbidden" instead of quoting the whole value."""

    rule: str
    message: str
    field: str = ""
    forbidden: bool = False

    def to_schema(self) -> dict[str, str]:
        schema = {"rule": self.rule, "message": self.message}
        if self.field:
            schema["fieldPath"] = self.field
        if self.forbidden:
            schema["reason"] = "FieldValueForbidden"
        return schema


def _add_rules(schema: JsonDict, model: type[ApiModel]) -> None:
    if rules := model.all_rules():
        schema["x-kubernetes-validations"] = [dict(rule.to_schema()) for rule in rules]


class ApiModel(BaseModel):
    """An object of the Kubernetes API."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        alias_generator=field_name,
        json_schema_extra=_add_rules,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def all_rules(cls) -> tuple[Rule, ...]:
        """The CEL rules at this object."""
        return cls.rules

    def to_dict(self) -> dict[str, Any]:
        """The object as the API takes it: by the API's names, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def unchanged(path: str, *, optional: bool) -> str:
    """CEL: the field at ``path`` (relative to ``self``) is what it was. An optional one may be neither added nor
    removed; so the rule must stand at an object that is always there, not at the field."""
    if not optional:
        return f"self.{path} == oldSelf.{path}"
    return f"has(self.{path}) == has(oldSelf.{path}) && (!has(self.{path}) || self.{path} == oldSelf.{path})"


def _shorten(limit: int) -> BeforeValidator:
    """Cuts what is too long, so that the status can be written whatever it has to say."""

    def cut(text: Any) -> Any:
        return text[: limit - 1] + "…" if isinstance(text, str) and len(text) > limit else text

    return BeforeValidator(cut)


def _whole_seconds(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(microsecond=0)


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


_INT_OR_STRING: JsonSchemaValue = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
    "maxLength": 32,
}

Quantity = Annotated[str, BeforeValidator(str), WithJsonSchema(_INT_OR_STRING)]
"""A Kubernetes quantity (``10Gi``, ``500m``, 2), always read as a string."""

Opaque = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": True}),
]
"""An object of the Kubernetes API that is passed on as it is; the API server checks it where it is used."""

Time = Annotated[
    AwareDatetime,
    AfterValidator(_whole_seconds),
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
]
"""A time as the API writes it: UTC, whole seconds."""

Message = Annotated[str, _shorten(MAX_MESSAGE), Field(max_length=MAX_MESSAGE)]
"""Text for people; what is too long is cut."""

PodMessage = Annotated[str, _shorten(MAX_POD_MESSAGE), Field(max_length=MAX_POD_MESSAGE)]
"""Text about one pod: short, since the messages of all pods have to fit into one object."""

Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Percent = Annotated[int, Field(ge=0, le=100)]
Identifier = Annotated[str, Field(max_length=128)]
PodName = Annotated[str, Field(min_length=1, max_length=253)]
Recall = Annotated[str, Field(pattern=r"^[01]\.[0-9]{4}$", max_length=6)]
"""recall@k, 0.0000 to 1.0000, with four decimals."""

LIST_MAP_BY_NAME: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
LIST_MAP_BY_TYPE: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
LIST_ATOMIC: JsonDict = {"x-kubernetes-list-type": "atomic"}
