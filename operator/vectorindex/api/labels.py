"""Labels of pods, and what selects pods by them."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from vectorindex.api.model import LIST_ATOMIC, ApiModel, Rule
from vectorindex.api.names import INDEX_LABEL

_LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"


def _label_key(key: str) -> str:
    """Keys of a map have no schema, and a CEL rule for keys of any length would cost too much."""
    if not re.fullmatch(_LABEL_KEY, key):
        raise ValueError(f"{key[:80]!r} is no name of a label")
    return key


LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, Field(max_length=63, pattern="^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
Labels = Annotated[dict[str, LabelValue], Field(max_length=64)]


class LabelOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelRequirement(ApiModel):
    """What a label of the pods must be."""

    key: str = Field(description="The label.", min_length=1, max_length=317, pattern=_LABEL_KEY)
    operator: LabelOperator = Field(
        description="In or NotIn: the label has, or has not, one of the values. Exists or DoesNotExist: it is there, "
        "or not, whatever its value."
    )
    values: tuple[LabelValue, ...] = Field(
        default=(), description="The values of In and NotIn.", max_length=64, json_schema_extra=LIST_ATOMIC
    )

    rules: ClassVar = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "In and NotIn need values, Exists and DoesNotExist have none",
            field=".values",
        ),
    )

    def to_text(self) -> str:
        """As query parameters have it: ``tier in (a,b)``."""
        values = f"({','.join(self.values)})"
        match self.operator:
            case LabelOperator.IN:
                return f"{self.key} in {values}"
            case LabelOperator.NOT_IN:
                return f"{self.key} notin {values}"
            case LabelOperator.EXISTS:
                return self.key
            case LabelOperator.DOES_NOT_EXIST:
                return f"!{self.key}"


class PodSelector(ApiModel):
    """Finds pods by their labels; all that is asked for must hold."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] | None = Field(
        default=None,
        description=f"Labels that the pods have. Choose {INDEX_LABEL} with the name of the VectorIndex: such pods are "
        "watched, others are looked at now and then.",
    )
    match_expressions: tuple[LabelRequirement, ...] = Field(
        default=(),
        description="More that is asked of the labels of the pods.",
        max_length=16,
        json_schema_extra=LIST_ATOMIC,
    )

    rules: ClassVar = (
        Rule(
            "(has(self.matchLabels) && self.matchLabels.size() > 0) || "
            "(has(self.matchExpressions) && self.matchExpressions.size() > 0)",
            "podSelector must not be empty: it would take every pod of the namespace",
        ),
    )

    def to_text(self) -> str:
        """As query parameters have it: ``app=shop,tier in (a,b)``."""
        labels = (f"{key}={value}" for key, value in (self.match_labels or {}).items())
        return ",".join((*labels, *(each.to_text() for each in self.match_expressions)))
