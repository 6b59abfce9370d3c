"""How many cores a container may use, as its cgroup says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vectorindex.sidecar import limits

CPUS = 8


@pytest.mark.parametrize(
    ("quota", "cores", "builder", "searcher"),
    [
        pytest.param("max 100000", 8.0, 7, 8, id="no-quota"),
        pytest.param("400000 100000", 4.0, 3, 4, id="whole-cores"),
        pytest.param("250000 100000", 2.5, 1, 2, id="part-of-a-core-more"),
        pytest.param("50000 100000", 0.5, 1, 2, id="half-a-core"),
        pytest.param("6400000 100000", 8.0, 7, 8, id="more-than-the-machine-has"),
    ],
)
def test_threads_by_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cores: float, builder: int, searcher: int
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota + "\n")
    monkeypatch.setattr(limits, "_CGROUP_V2", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CPUS)))
    assert (limits.cpu_quota(), limits.builder_threads(), limits.search_threads()) == (cores, builder, searcher)


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8.0), ("150000", 1.5)], ids=["no-quota", "quota"])
def test_the_first_version_of_cgroups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cores: float
) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu.cfs_period_us").write_text("100000")
    monkeypatch.setattr(limits, "_CGROUP_V2", tmp_path / "missing")
    monkeypatch.setattr(limits, "_CGROUP_V1", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CPUS)))
    assert limits.cpu_quota() == cores
