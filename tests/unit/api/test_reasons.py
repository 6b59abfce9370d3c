"""The list of reasons is closed on both sides: each of them is reported by some code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vectorindex
from vectorindex.api.reasons import ConditionType, Reason

SOURCES = "\n".join(path.read_text() for path in sorted(Path(vectorindex.__path__[0]).glob("*/*.py")))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_reported_by_some_code(reason: Reason) -> None:
    assert re.search(rf"\bReason\.{reason.name}\b", SOURCES)


@pytest.mark.parametrize("kind", ConditionType)
def test_every_condition_is_reported_by_some_code(kind: ConditionType) -> None:
    assert f"ConditionType.{kind.name}" in SOURCES
