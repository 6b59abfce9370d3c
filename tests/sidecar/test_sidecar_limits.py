"""What a container may use: by the downward API, otherwise by its cgroup, version 1 or 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vectorindex.sidecar import limits
from vectorindex.sidecar.container import ContainerLimits, container_limits
from vectorindex.sidecar.errors import StartRefused
from vectorindex.sidecar.memory import Allowance

CPUS = 8
MiB = 2**20
UNLIMITED_V1 = str(2**63 - 4096)


@pytest.fixture(autouse=True)
def cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CPUS)))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The cgroup of this process, as the kernel says it."""
    file = tmp_path / "cgroup"
    file.write_text("3:cpu,cpuacct:/pods/mine\n2:memory:/pods/mine\n0::/slice/mine\n")
    return file


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, ContainerLimits(8.0, None), id="nothing-is-mounted"),
        pytest.param({"cpu.max": "max 100000", "memory.max": "max"}, ContainerLimits(8.0, None), id="v2-no-limits"),
        pytest.param(
            {"cpu.max": "250000 100000", "memory.max": "536870912"},
            ContainerLimits(2.5, 512 * MiB),
            id="v2-in-a-container",
        ),
        pytest.param(
            {"slice/mine/memory.max": "max", "slice/memory.max": "1048576", "slice/mine/cpu.max": "50000 100000"},
            ContainerLimits(0.5, MiB),
            id="v2-an-ancestor-is-tighter",
        ),
        pytest.param({"cpu.max": "6400000 100000"}, ContainerLimits(8.0, None), id="more-than-the-machine-has"),
        pytest.param(
            {
                "memory/memory.limit_in_bytes": UNLIMITED_V1,
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            ContainerLimits(8.0, None),
            id="v1-no-limits",
        ),
        pytest.param(
            {
                "memory/memory.limit_in_bytes": UNLIMITED_V1,
                "memory/pods/mine/memory.limit_in_bytes": str(300 * MiB),
                "cpu/pods/mine/cpu.cfs_quota_us": "150000",
                "cpu/pods/mine/cpu.cfs_period_us": "100000",
            },
            ContainerLimits(1.5, 300 * MiB),
            id="v1-limits",
        ),
    ],
)
def test_limits_of_a_cgroup(tmp_path: Path, own: Path, files: dict[str, str], expected: ContainerLimits) -> None:
    assert container_limits({}, write(tmp_path / "mount", files), own) == expected


def test_what_the_downward_api_says_counts_alone(tmp_path: Path, own: Path) -> None:
    root = write(tmp_path / "mount", {"cpu.max": "100000 100000", "memory.max": str(64 * MiB)})
    environ = {"MEMORY_LIMIT_BYTES": str(512 * MiB), "CPU_LIMIT_MILLICORES": "2500"}
    assert container_limits(environ, root, own) == ContainerLimits(2.5, 512 * MiB)
    empty = {"MEMORY_LIMIT_BYTES": "", "CPU_LIMIT_MILLICORES": "0"}
    assert container_limits(empty, root, own) == ContainerLimits(1.0, 64 * MiB)


def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, own: Path) -> None:
    with pytest.raises(StartRefused, match="MEMORY_LIMIT_BYTES is '512Mi'"):
        container_limits({"MEMORY_LIMIT_BYTES": "512Mi"}, tmp_path, own)


@pytest.mark.parametrize(
    ("millicores", "builder", "searcher"),
    [("8000", 7, 8), ("4000", 3, 4), ("2500", 1, 2), ("500", 1, 2), ("64000", 7, 8)],
)
def test_threads_by_quota(monkeypatch: pytest.MonkeyPatch, millicores: str, builder: int, searcher: int) -> None:
    monkeypatch.setenv("CPU_LIMIT_MILLICORES", millicores)
    assert (limits.builder_threads(), limits.search_threads()) == (builder, searcher)


@pytest.mark.parametrize(
    ("limit", "reserve"), [(100 * MiB, 16 * MiB), (512 * MiB, 32 * MiB), (64 * 1024 * MiB, 256 * MiB)]
)
def test_a_build_leaves_a_reserve_and_is_ended_when_a_part_of_it_is_gone(limit: int, reserve: int) -> None:
    allowed = Allowance.of(limit)
    assert allowed.free(0) == limit - reserve
    assert allowed.free(limit - reserve - 5) == 5
    assert allowed.free(limit) == 0
    for part in (0.25, 0.5):
        assert not allowed.eaten(limit - reserve, part)
        edge = limit - int((1 - part) * reserve)
        assert not allowed.eaten(edge, part)
        assert allowed.eaten(edge + 1, part)
