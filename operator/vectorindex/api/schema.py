"""From pydantic's JSON schema to the structural OpenAPI v3 schema of a CRD.

Invariant: nothing is lost on the way. A keyword that is not listed here is an error, not left out; so is a property
without a description and a value without a bound, because the API server has to refuse what we could not handle, and
estimates the cost of CEL rules from the bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

# All that a structural schema may hold, in the order in which it is written.
_KEYWORDS = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "anyOf",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
    "items",
    "additionalProperties",
    "properties",
)
_DROPPED = frozenset({"title", "$defs"})
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_NULL = {"type": "null"}


class SchemaError(Exception):
    """A model says something that a CRD cannot say, or leaves out what a CRD must say."""


def structural_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a model.

    References are put in place, ``X | None`` becomes an optional ``X``, and defaults of None or of an empty list are
    left out: unset is unset. Raises SchemaError, naming the path.
    """
    schema = model.model_json_schema(mode="validation")
    return _convert(schema, schema.get("$defs", {}), model.__name__)


def _convert(schema: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    schema = _plain(schema, definitions, path)
    result: Schema = {}
    for keyword, value in schema.items():
        if keyword in _DROPPED:
            continue
        if keyword == "properties":
            result[keyword] = {name: _property(inner, definitions, f"{path}.{name}") for name, inner in value.items()}
        elif keyword == "items":
            result[keyword] = _convert(value, definitions, f"{path}[]")
        elif keyword == "additionalProperties" and isinstance(value, dict):
            result[keyword] = _convert(value, definitions, f"{path}{{}}")
        elif keyword == "default":
            if (default := _without_unset(value)) not in (None, [], {}):
                result[keyword] = default
        elif keyword not in _KEYWORDS or (keyword == "anyOf" and value != _INT_OR_STRING):
            raise SchemaError(f"{path}: no rule for the keyword {keyword}: {value!r}")
        else:
            result[keyword] = value
    _check_bounded(result, path)
    return {keyword: result[keyword] for keyword in _KEYWORDS if keyword in result}


def _property(schema: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    result = _convert(schema, definitions, path)
    if not result.get("description"):
        raise SchemaError(f"{path}: the property has no description")
    return result


def _plain(schema: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    """Without ``$ref`` and without an alternative of null. What stands beside a reference overrides what it names."""
    schema = dict(schema)
    while True:
        if "$ref" in schema:
            target = schema.pop("$ref").removeprefix("#/$defs/")
            if target not in definitions:
                raise SchemaError(f"{path}: a reference to something unknown: {target}")
            schema = {**definitions[target], **schema}
        elif _NULL in (alternatives := schema.get("anyOf", [])):
            rest = [alternative for alternative in alternatives if alternative != _NULL]
            schema.pop("anyOf")
            schema = {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **schema}
        else:
            return schema


def _without_unset(default: Any) -> Any:
    if isinstance(default, dict):
        return {name: value for name, value in default.items() if value is not None}
    return default


def _check_bounded(schema: Schema, path: str) -> None:
    needed: Mapping[str, tuple[str, ...]] = {
        "integer": ("minimum", "maximum"),
        "array": ("maxItems", "x-kubernetes-list-type"),
        "boolean": (),
        "string": () if "enum" in schema or schema.get("format") == "date-time" else ("maxLength",),
        "object": ("maxProperties",) if "additionalProperties" in schema else ("properties",),
        "int-or-string": ("maxLength",),
        "any object": ("maxProperties",),
    }
    kind = str(schema.get("type"))
    if "x-kubernetes-int-or-string" in schema:
        kind = "int-or-string"
    elif "x-kubernetes-preserve-unknown-fields" in schema:
        kind = "any object"
    if kind not in needed:
        raise SchemaError(f"{path}: no rule for the type {kind}")
    if missing := [keyword for keyword in needed[kind] if keyword not in schema]:
        raise SchemaError(f"{path}: a value of type {kind} needs {' and '.join(missing)}")
