"""The generator of the CRDs: what it makes of a model, and what it refuses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from vectorindex.api.model import LIST_ATOMIC, ApiModel, Quantity, Rule
from vectorindex.api.schema import SchemaError, structural_schema


class Inner(ApiModel):
    """Something inside."""

    number_id: int = Field(description="A number.", ge=0, le=9)


class Outer(ApiModel):
    rules = (Rule("self.text != ''", "say something", field=".text", forbidden=True),)

    text: Annotated[str, Field(max_length=5)] | None = Field(default=None, description="A text.")
    inner: Inner = Field(default=Inner(number_id=3), description="What is inside.")
    maybe: Inner | None = Field(default=None, description="What may be inside.")
    many: tuple[Inner, ...] = Field(default=(), description="Several.", max_length=4, json_schema_extra=LIST_ATOMIC)
    sizes: Annotated[dict[str, Quantity], Field(max_length=2)] | None = Field(default=None, description="Sizes.")


NUMBER = {"description": "A number.", "type": "integer", "minimum": 0, "maximum": 9}


def inner(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "required": ["numberID"],
        "properties": {"numberID": NUMBER},
    }


def test_a_model_becomes_a_structural_schema() -> None:
    assert structural_schema(Outer) == {
        "type": "object",
        "x-kubernetes-validations": [
            {
                "rule": "self.text != ''",
                "message": "say something",
                "fieldPath": ".text",
                "reason": "FieldValueForbidden",
            }
        ],
        "properties": {
            "text": {"description": "A text.", "type": "string", "maxLength": 5},
            "inner": {**inner("What is inside."), "default": {"numberID": 3}},
            "maybe": inner("What may be inside."),
            "many": {
                "description": "Several.",
                "type": "array",
                "maxItems": 4,
                "x-kubernetes-list-type": "atomic",
                "items": inner("Something inside."),
            },
            "sizes": {
                "description": "Sizes.",
                "type": "object",
                "maxProperties": 2,
                "additionalProperties": {
                    "anyOf": [{"type": "integer"}, {"type": "string"}],
                    "x-kubernetes-int-or-string": True,
                    "maxLength": 32,
                },
            },
        },
    }


def field(annotation: Any, **arguments: Any) -> Any:
    return annotation, Field(**{"description": "A field.", **arguments})


REFUSED = [
    pytest.param(field(int, ge=0, le=9, multiple_of=3), "no rule for the keyword multipleOf", id="unknown keyword"),
    pytest.param(
        field(int, ge=0, le=9, json_schema_extra={"x-other": 1}), "no rule for the keyword x-other", id="extension"
    ),
    pytest.param(field(Literal["a"]), "no rule for the keyword const", id="constant"),
    pytest.param(field(int | bool), "no rule for the keyword anyOf", id="union"),
    pytest.param(field(float, ge=0, le=1), "no rule for the type number", id="float"),
    pytest.param(field(Any), "no rule for the type None", id="anything"),
    pytest.param(field(int, ge=0, le=9, description=None), "has no description", id="no description"),
    pytest.param(field(str), "a value of type string needs maxLength", id="string"),
    pytest.param(field(int, ge=0), "a value of type integer needs maximum", id="integer without a maximum"),
    pytest.param(field(int), "a value of type integer needs minimum and maximum", id="integer"),
    pytest.param(field(list[bool], json_schema_extra=LIST_ATOMIC), "a value of type array needs maxItems", id="list"),
    pytest.param(field(list[bool], max_length=3), "needs x-kubernetes-list-type", id="list of no list type"),
    pytest.param(field(dict[str, bool]), "a value of type object needs maxProperties", id="map"),
]


@pytest.mark.parametrize(("definition", "message"), REFUSED)
def test_what_a_crd_cannot_say_or_must_say_is_an_error_that_names_the_path(definition: Any, message: str) -> None:
    annotation, info = definition
    model = type("Model", (ApiModel,), {"__annotations__": {"some_field": annotation}, "some_field": info})
    with pytest.raises(SchemaError) as error:
        structural_schema(model)
    assert message in str(error.value)
    assert str(error.value).startswith("Model.someField: ")
