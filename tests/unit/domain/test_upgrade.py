"""One index at a time is upgraded, and which one."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.unit.domain.given import NOW
from vectorindex.domain.upgrade import PATIENCE, in_the_way

LATELY, LONG_AGO = NOW - timedelta(seconds=5), NOW - PATIENCE
WELL_FIRST = "the indexes whose pods are all ready have been upgraded to this version of the operator"


def at(name: str, since: str) -> str:
    return (
        f"VectorIndex {name} is upgraded and all its pods are ready: this version of the operator reaches one index "
        f"after the other, and there it is since {since}"
    )


@pytest.mark.parametrize(
    ("others", "free_since", "serves", "expected"),
    [
        pytest.param({}, LATELY, True, None, id="nobody else"),
        pytest.param({"a/x": LATELY}, LONG_AGO, True, at("a/x", "2026-01-01T11:59:55Z"), id="another one"),
        pytest.param({"a/x": LATELY}, LONG_AGO, False, at("a/x", "2026-01-01T11:59:55Z"), id="not ready, another one"),
        pytest.param(
            {"a/x": LATELY, "b/y": LONG_AGO},
            LONG_AGO,
            True,
            at("b/y", "2026-01-01T11:59:00Z"),
            id="of several, the one that is longest at it",
        ),
        pytest.param({}, LATELY, False, WELL_FIRST, id="not ready: those that are go first"),
        pytest.param({}, LONG_AGO, False, None, id="not ready, and nobody else wanted it for a while"),
    ],
)
def test_what_an_upgrade_waits_for(
    others: dict[str, datetime], free_since: datetime, serves: bool, expected: str | None
) -> None:
    assert in_the_way(others, free_since, serves, NOW) == expected
