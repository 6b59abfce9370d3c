"""Pods of the user's own that a run has listed, and that are not there any more."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.domain.given import NOW, ago, member
from vectorindex.api.common import PodResult
from vectorindex.domain.members import Member
from vectorindex.domain.missing import VANISHED, dated, until_gone, with_missing


def row(name: str, state: str = "Running", **fields: object) -> PodResult:
    return PodResult.model_validate({"name": name, "state": state, **fields})


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        pytest.param([row("vi-0")], {"vi-0": None}, id="it is there"),
        pytest.param([row("vi-0", missingTime=ago(90))], {"vi-0": None}, id="it is there again"),
        pytest.param([row("a")], {"a": NOW, "vi-0": None}, id="missed for the first time"),
        pytest.param([row("a", "Succeeded")], {"a": NOW, "vi-0": None}, id="it has done its part"),
        pytest.param(
            [row("a", missingTime=ago(59))],
            {"a": NOW - timedelta(seconds=59), "vi-0": None},
            id="for less than a minute",
        ),
        pytest.param([row("a", missingTime=ago(60))], {"vi-0": None}, id="for a minute"),
        pytest.param([row("a", "Gone", missingTime=ago(5))], {"vi-0": None}, id="gone before"),
        pytest.param([row("a", missingTime=ago(-3600))], {"a": NOW, "vi-0": None}, id="by a clock an hour ahead"),
    ],
)
def test_who_is_waited_for(rows: list[PodResult], found: dict[str, object]) -> None:
    group = with_missing([member(0)], rows, NOW)
    assert {each.name: each.missing_since for each in group} == found
    assert all(each.trouble == VANISHED.message for each in group if each.missing_since is not None)


def test_they_stand_in_their_place() -> None:
    rows = [row("vi-2"), row("vi-10"), row("vi-1")]
    assert [each.name for each in with_missing([member(2)], rows, NOW)] == ["vi-1", "vi-2", "vi-10"]


def test_a_row_says_since_when_its_pod_is_missing() -> None:
    before = NOW - timedelta(seconds=9)
    rows = (row("a"), row("b", missingTime=ago(9)), row("c", missingTime=ago(9)), row("d", "Gone", missingTime=ago(99)))
    absent = [Member("a", None, VANISHED, missing_since=NOW), Member("b", None, VANISHED, missing_since=before)]
    members = [*absent, replace(member(0), name="c")]
    assert [each.missing_time for each in dated(rows, members)] == [NOW, before, None, NOW - timedelta(seconds=99)]


def test_when_the_next_one_is_gone() -> None:
    assert until_gone([member(0)], NOW) is None
    since = [NOW - timedelta(seconds=20), NOW]
    assert until_gone([Member(str(each), None, VANISHED, missing_since=each) for each in since], NOW) == 40.0
