"""The reference page, and the closed list of reasons that it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vectorindex.api import KINDS, ApiObject, reference
from vectorindex.api.crd import build_schema
from vectorindex.api.reasons import ConditionType, Reason

ROOT = Path(__file__).parents[3]
OPERATOR = ROOT / "operator" / "vectorindex"


def test_what_is_committed_is_what_is_generated() -> None:
    assert (ROOT / reference.PATH).read_text() == reference.render(), "run `make generate`"


@pytest.mark.parametrize(
    "row",
    [
        "| `dimensions` | integer | 1 … 65,536 | required | Length of the vectors; cannot be changed. |",
        "| `managed.storage.reclaim` | string | `Retain`, `Delete` | `Retain` | ",
        "| `managed.resources.limits` | map of quantity |  |  | ",
        "| `cancel` | boolean |  | `false` | ",
        "| `externalIDs` | list of string | 1 … 1,000 elements; each 1 … 512 characters; `^\\P{Cc}+$` |  | ",
        "| `verify.minRecallPercent` | integer | 0 … 100 |  | ",
        "| `conditions[].lastTransitionTime` | time |  | required | ",
        "| `vectors` | integer | ≥ 0 |  | ",
    ],
)
def test_a_field_is_one_row(row: str) -> None:
    assert f"\n{row}" in reference.render()


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.definition.kind)
def test_every_field_and_every_rule_of_a_kind_has_its_line(model: type[ApiObject]) -> None:
    _, _, rest = reference.render().partition(f"## {model.definition.kind} (")
    section = rest.partition("\n## ")[0]
    schema = build_schema(model)
    for part in ("spec", "status"):
        for name in schema["properties"][part]["properties"]:
            assert f"| `{name}` |" in section
    for rule in (
        *schema.get("x-kubernetes-validations", ()),
        *schema["properties"]["spec"]["x-kubernetes-validations"],
    ):
        assert section.count(f"- {rule['message']}\n") == 1


def test_the_list_of_reasons_is_closed() -> None:
    """The operator reports no reason that is not listed (the enumeration sees to that), and lists none in vain."""
    sources = [path for path in OPERATOR.rglob("*.py") if path.parent.name != "api"]
    text = "\n".join(path.read_text() for path in sources)
    for enumeration in (Reason, ConditionType):
        used = set(re.findall(rf"\b{enumeration.__name__}\.([A-Z][A-Z_]*)\b", text))
        assert used == set(enumeration.__members__)
