"""When an index needs a rebuild."""

from __future__ import annotations

import pytest

from vectorindex.engine.params import Parameters
from vectorindex.engine.policy import Counts, DesiredParameters, RebuildReason, Thresholds, rebuild_reasons

DELETED, DELTA, CHANGED = RebuildReason
DEFAULT = Thresholds()
NO_MINIMUM = Thresholds(min_items=0)
UNSET = DesiredParameters()


@pytest.mark.parametrize(
    ("counts", "thresholds", "desired", "expected"),
    [
        pytest.param(Counts(8_000, 2_000, 0), DEFAULT, UNSET, (DELETED,), id="deleted-reaches-20-percent"),
        pytest.param(Counts(8_001, 1_999, 0), DEFAULT, UNSET, (), id="deleted-just-below"),
        pytest.param(Counts(0, 999, 0), DEFAULT, UNSET, (), id="all-deleted-but-too-few-to-matter"),
        pytest.param(Counts(0, 1_000, 0), DEFAULT, UNSET, (DELETED,), id="all-deleted"),
        pytest.param(Counts(10_000, 0, 1_000), DEFAULT, UNSET, (DELTA,), id="delta-reaches-10-percent"),
        pytest.param(Counts(10_001, 0, 1_000), DEFAULT, UNSET, (), id="delta-just-below"),
        pytest.param(Counts(10, 0, 5), DEFAULT, UNSET, (), id="small-delta"),
        pytest.param(Counts(4, 1, 1), NO_MINIMUM, UNSET, (DELETED, DELTA), id="no-minimum"),
        pytest.param(Counts(5, 0, 0), NO_MINIMUM, UNSET, (), id="nothing-deleted-is-never-a-reason"),
        pytest.param(Counts(5, 0, 0), DEFAULT, DesiredParameters(m=16), (), id="desired-m-in-force"),
        pytest.param(Counts(5, 0, 0), DEFAULT, DesiredParameters(m=24), (CHANGED,), id="desired-m-differs"),
        pytest.param(Counts(5, 0, 0), DEFAULT, DesiredParameters(None, 400), (CHANGED,), id="ef-construction-differs"),
        pytest.param(Counts(0, 0, 0), NO_MINIMUM, DesiredParameters(m=24), (), id="empty-index-needs-nothing"),
    ],
)
def test_reasons(
    counts: Counts, thresholds: Thresholds, desired: DesiredParameters, expected: tuple[RebuildReason, ...]
) -> None:
    assert rebuild_reasons(counts, Parameters(), thresholds, desired) == expected
