"""The CRDs as they are generated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vectorindex.api import KINDS, ApiObject, IndexDelete, IndexOptimize, IndexRebuild
from vectorindex.api.common import RunSpec
from vectorindex.api.crd import DIRECTORY, build_crd, build_schema, render, write
from vectorindex.api.model import field_name

ROOT = Path(__file__).parents[3]

each_kind = pytest.mark.parametrize("model", KINDS, ids=lambda model: model.definition.kind)
each_run = pytest.mark.parametrize(
    "model", [IndexDelete, IndexRebuild, IndexOptimize], ids=lambda model: model.definition.kind
)


def properties(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from properties(inner, f"{path}.{name}")
    if "items" in schema:
        yield from properties(schema["items"], f"{path}[]")


@each_kind
def test_what_is_committed_is_what_is_generated(model: type[ApiObject]) -> None:
    committed = ROOT / DIRECTORY / f"{model.definition.plural}.yaml"
    assert committed.read_text() == render(model), "run `make generate`"


def test_every_kind_is_written_as_one_yaml_document(tmp_path: Path) -> None:
    documents = [yaml.safe_load(path.read_text()) for path in write(tmp_path / "crds")]
    assert documents == [build_crd(model) for model in KINDS]


@each_kind
def test_a_crd_is_far_below_the_limit_of_an_object(model: type[ApiObject]) -> None:
    assert len(render(model).encode()) < 200_000


@each_kind
def test_every_property_is_described(model: type[ApiObject]) -> None:
    undescribed = [path for path, schema in properties(build_schema(model)) if not schema.get("description")]
    assert undescribed == [".metadata"]


@each_kind
def test_no_number_is_a_float(model: type[ApiObject]) -> None:
    assert {schema.get("type") for _, schema in properties(build_schema(model))}.isdisjoint({"number"})


@each_kind
def test_an_object_starts_with_a_status_that_no_generation_equals(model: type[ApiObject]) -> None:
    assert build_schema(model)["properties"]["status"]["default"] == {"observedGeneration": -1}


@each_kind
def test_every_column_shows_a_field_that_exists(model: type[ApiObject]) -> None:
    known = {path for path, _ in properties(build_schema(model))} | {".metadata.creationTimestamp"}
    for column in model.definition.columns:
        path = column.path
        if path.startswith(".status.conditions[?"):
            path = ".status.conditions[]." + path.rpartition(".")[2]
        assert path in known, column.name


@each_kind
def test_the_category_is_no_name_of_a_kind(model: type[ApiObject]) -> None:
    """kubectl would take it for the category, and refuse `kubectl get vectorindex NAME`."""
    names = build_crd(model)["spec"]["names"]
    own = {names["plural"], names["singular"], *names["shortNames"]}
    taken = {name for other in KINDS for name in build_crd(other)["spec"]["names"]["categories"]}
    assert own.isdisjoint(taken)


def immutable(model: type[ApiObject]) -> str:
    rules = [rule.rule for rule in run_spec(model).all_rules() if "create a new object" in rule.message]
    assert len(rules) == 2
    return rules[0]


def run_spec(model: type[ApiObject]) -> type[RunSpec]:
    annotation = model.model_fields["spec"].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, RunSpec)
    return annotation


@each_run
def test_one_rule_fixes_every_field_of_a_run_but_cancel(model: type[ApiObject]) -> None:
    rule = immutable(model)
    for name, info in run_spec(model).model_fields.items():
        path = field_name(name)
        same = f"self.{path} == oldSelf.{path}"
        assert (same in rule) == (name != "cancel")
        if name != "cancel" and not info.is_required():
            assert f"has(self.{path}) == has(oldSelf.{path})" in rule


@each_run
def test_common_fields_of_runs_read_the_same(model: type[ApiObject]) -> None:
    columns = [column.name for column in model.definition.columns]
    assert columns[:4] == ["Index", "Succeeded", "Reason", "Progress"]
    assert columns[-2:] == ["Age", "Message"]
