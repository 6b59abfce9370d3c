"""Values for every field of a kind, made from the schema in its CRD: valid ones, those at its bounds, and invalid ones.

What a value is taken for does not matter: whichever it is, the API server says no, or the operator copes with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
Path = tuple[str, ...]


@dataclass(frozen=True)
class Mutation:
    """A field below ``spec``, and a value for it."""

    path: Path
    value: Any

    def patch(self) -> dict[str, Any]:
        """As a JSON merge patch."""
        return nested(self.path, self.value)

    def __str__(self) -> str:
        text = repr(self.value)
        return f"{'.'.join(self.path)} = {text if len(text) < 60 else f'{text[:50]}… ({len(text)})'}"


def nested(path: Path, value: Any) -> dict[str, Any]:
    for field in reversed(path):
        value = {field: value}
    return dict(value)


def at(value: Any, path: Path) -> Any:
    """What stands there, None where nothing does."""
    for field in path:
        if not isinstance(value, dict) or field not in value:
            return None
        value = value[field]
    return value


def mutations(schema: Schema, path: Path = ()) -> Iterator[Mutation]:
    """For every field of an object with this schema, at any depth; elements of lists as parts of the list."""
    for name, inner in schema.get("properties", {}).items():
        here = (*path, name)
        seen: list[Any] = []
        for value in values(inner):
            if not any(value == other and type(value) is type(other) for other in seen):
                seen.append(value)
                yield Mutation(here, value)
        if inner.get("type") == "object":
            yield from mutations(inner, here)


def values(schema: Schema) -> Iterator[Any]:
    """Of the type and at its bounds, just beyond them, and of other types."""
    if schema.get("x-kubernetes-int-or-string"):
        yield from (1, "500m", "2Gi", "0", "-1", "1e400", "many", "", [1])
        return
    match schema.get("type"):
        case "integer":
            low, high = schema.get("minimum", -(2**31)), schema.get("maximum", 2**31)
            yield from (low, high, low - 1, high + 1, low + (high - low) // 3, 1.5, "1", True)
        case "boolean":
            yield from (True, False, "yes", 1)
        case "string":
            yield from schema.get("enum", ())
            longest = schema.get("maxLength", 1_000)
            yield from ("a", "", "Ünï\n", "a" * longest, "a" * (longest + 1), "no/such:thing", 7, {"a": "b"})
        case "array":
            element = next(values(schema["items"]), None)
            most = schema.get("maxItems", 100)
            yield from ([], [element], [element] * 2, [element] * (most + 1), [7, "a"], "a")
        case "object" if "properties" in schema:
            yield from ({}, {"unheardOf": 1}, "a")
        case "object":
            most = schema.get("maxProperties", 64)
            some = next(values(schema.get("additionalProperties", {"type": "string"})), "a")
            yield from ({}, {"a": some}, {"a/b/c": some}, {"a": 7}, "a", [])
            yield {f"key-{number}": some for number in range(most + 1)}
        case _:
            yield from ({}, {"unheardOf": 1}, "a", 7)
