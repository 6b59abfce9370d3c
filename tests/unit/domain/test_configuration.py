"""The configuration that pods get by the spec."""

from __future__ import annotations

import pytest

from tests.unit.domain.given import OWN_PODS, index
from vectorindex.domain.configuration import wanted_configuration


def test_what_the_spec_leaves_unset_is_not_sent() -> None:
    sent = wanted_configuration(index()).to_json()
    assert sent == {"deleted_percent": 20, "delta_percent": 10, "min_items": 1_000}


@pytest.mark.parametrize(
    ("limit", "threads"),
    [("4", 3), ("500m", 1), ("2500m", 1), ("3.9", 2), ("1", 1), ("1k", 256), ("1Ki", 256), ("1e1", 9)],
)
def test_threads_are_the_cpu_limit_less_one(limit: str, threads: int) -> None:
    managed = {"replicas": 1, "storage": {"size": "1Gi"}, "resources": {"limits": {"cpu": limit}}}
    assert wanted_configuration(index(managed=managed)).threads == threads
    own = wanted_configuration(index(managed=managed, maintenance={"threads": 7}))
    assert own.threads == 7


def test_in_pods_of_the_users_own_the_sidecar_knows_its_limit_itself() -> None:
    assert wanted_configuration(index(**OWN_PODS)).threads is None
    assert wanted_configuration(index(**OWN_PODS, maintenance={"threads": 7})).threads == 7
