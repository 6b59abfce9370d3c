"""Writes the CustomResourceDefinitions: ``python -m vectorindex.api.crd [DIRECTORY]``, one file for each kind.

The models are the one source. The files are committed, and the chart includes them as they are; the checks fail when
one differs from what is generated.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vectorindex.api import KINDS, ApiObject
from vectorindex.api.common import GROUP, VERSION, Column, Scale
from vectorindex.api.schema import Schema, structural_schema

DIRECTORY = Path("charts/vectorindex-operator/files/crds")
# Not "vectorindex": kubectl takes the name of a category for all of its kinds, so that `kubectl get vectorindex NAME`
# would be refused and `kubectl delete vectorindex --all` would delete every kind.
CATEGORY = "vectorindex-io"
HEADER = "# Generated from operator/vectorindex/api by `make generate`. Do not edit.\n"


def build_crd(model: type[ApiObject]) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind. Raises SchemaError where the model cannot be said in a CRD."""
    definition = model.definition
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": definition.crd_name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": definition.kind,
                "listKind": f"{definition.kind}List",
                "plural": definition.plural,
                "singular": definition.singular,
                "shortNames": [definition.short_name],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": build_schema(model)},
                    "subresources": {"status": {}, **_scale(definition.scale)},
                    **_selectable(definition.selectable),
                    "additionalPrinterColumns": [_column(column) for column in definition.columns],
                }
            ],
        },
    }


def build_schema(model: type[ApiObject]) -> Schema:
    """The schema of whole objects. The metadata is the API server's; ``status`` has the default by which tools know
    an object that nobody has looked at yet."""
    schema: Schema = {
        "type": "object",
        "description": inspect.getdoc(model),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the API that the object is written in."},
            "kind": {"type": "string", "description": f"Always {model.definition.kind}."},
            "metadata": {"type": "object"},
            "spec": _part(model, "spec"),
            "status": {**_part(model, "status"), "default": {"observedGeneration": -1}},
        },
    }
    if rules := model.all_rules():
        schema["x-kubernetes-validations"] = [rule.to_schema() for rule in rules]
    return schema


def render(model: type[ApiObject]) -> str:
    """The file of a kind: YAML, the same for the same models."""
    return HEADER + yaml.dump(
        build_crd(model), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True, default_flow_style=False
    )


def write(directory: Path) -> list[Path]:
    """One file for each kind; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for model in KINDS:
        path = directory / f"{model.definition.plural}.yaml"
        path.write_text(render(model), encoding="utf-8")
        paths.append(path)
    return paths


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: a CRD is read by people too."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _part(model: type[ApiObject], name: str) -> Schema:
    field = model.model_fields[name]
    assert isinstance(field.annotation, type)
    schema = structural_schema(field.annotation)
    schema.pop("description", None)
    return {"description": field.description, **schema}


def _scale(scale: Scale | None) -> dict[str, Any]:
    if scale is None:
        return {}
    paths = {
        "specReplicasPath": scale.wanted,
        "statusReplicasPath": scale.there,
        "labelSelectorPath": scale.selector,
    }
    return {"scale": paths}


def _selectable(paths: Sequence[str]) -> dict[str, Any]:
    return {"selectableFields": [{"jsonPath": path} for path in paths]} if paths else {}


def _column(column: Column) -> dict[str, Any]:
    result = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }
    return {**result, "priority": 1} if column.wide else result


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY)
