"""The reference of the API in Markdown, from the models: every field, its type, bounds and default, and the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from vectorindex.api import KINDS, ApiObject
from vectorindex.api.common import API_VERSION
from vectorindex.api.crd import CATEGORY, build_schema
from vectorindex.api.documented import DocumentedEnum
from vectorindex.api.model import MAX_INTEGER
from vectorindex.api.reasons import ConditionType, Reason
from vectorindex.api.schema import Schema

PATH = Path("docs/reference/api.md")
INTRODUCTION = f"""<!-- Generated from operator/vectorindex/api by `make generate`. Do not edit. -->

# The Kubernetes API

`{API_VERSION}`, all kinds namespaced. `kubectl get {CATEGORY}` shows the objects of every kind.
"""


def render() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    parts += [_kind(model) for model in KINDS]
    parts.append("## Conditions\n\n" + _meanings("type", ConditionType))
    parts.append(
        "## Reasons\n\nThis list is closed: the operator reports no other reason.\n\n" + _meanings("reason", Reason)
    )
    return "\n".join(parts)


def _kind(model: type[ApiObject]) -> str:
    definition, schema = model.definition, build_schema(model)
    sections = [f"## {definition.kind} (`{definition.short_name}`)\n\n{schema['description']}\n"]
    for name in ("spec", "status"):
        part = schema["properties"][name]
        rows = [("field", "type", "bounds", "default", "meaning"), *_rows(part)]
        sections.append(f"### {definition.kind}.{name}\n\n{part['description']}\n\n{_table(rows)}")
    sections.append("The API server also holds:\n\n" + "".join(f"- {message}\n" for message in _messages(schema)))
    return "\n".join(sections)


def _rows(schema: Schema, prefix: str = "") -> Iterator[tuple[str, ...]]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        default = "required" if name in required else _default(field)
        yield f"`{path}`", _type(field), _bounds(field), default, field["description"]
        if field.get("type") == "array":
            yield from _rows(field["items"], f"{path}[].")
        else:
            yield from _rows(field, f"{path}.")


def _type(field: Schema) -> str:
    if "x-kubernetes-int-or-string" in field:
        return "quantity"
    if field.get("format") == "date-time":
        return "time"
    if "x-kubernetes-preserve-unknown-fields" in field:
        return "object, as of a Pod"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    return str(field["type"])


def _bounds(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    bounds = []
    if "minimum" in field:
        unlimited = field["maximum"] == MAX_INTEGER
        bounds.append(f"≥ {field['minimum']:,}" if unlimited else f"{field['minimum']:,} … {field['maximum']:,}")
    if "items" in field:
        bounds.append(f"{field.get('minItems', 0):,} … {field['maxItems']:,} elements")
        bounds += [f"each {inner}" for inner in [_bounds(field["items"])] if inner]
    if "maxLength" in field and "x-kubernetes-int-or-string" not in field:
        bounds.append(f"{field.get('minLength', 0):,} … {field['maxLength']:,} characters")
    if "pattern" in field:
        bounds.append(f"`{field['pattern']}`")
    return "; ".join(bounds)


def _default(field: Schema) -> str:
    default = field.get("default")
    if default is None or isinstance(default, dict):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _messages(schema: Schema) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule["message"]
    for field in schema.get("properties", {}).values():
        yield from _messages(field)


def _meanings(title: str, members: Iterable[DocumentedEnum]) -> str:
    return _table([(title, "meaning"), *((f"`{member}`", member.meaning) for member in members)])


def _table(rows: list[tuple[str, ...]]) -> str:
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(render(), encoding="utf-8")
