"""The chart as Helm renders it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from devcluster import build
from tests.unit.chart.rendering import CHART, Object, Render, Run, objects


@pytest.fixture(scope="session")
def programs() -> Path:
    """Folder of helm and kubectl; elsewhere than in CI these tests do not wait minutes for their build."""
    if not (build.folder() / "helm").exists() and not os.environ.get("CI"):
        pytest.skip("helm is not built yet: `make test` with the apiserver tier builds it")
    return build.control_plane()


@pytest.fixture(scope="session")
def helm(programs: Path) -> Run:
    """Runs helm: `helm(*arguments)`."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([programs / "helm", *arguments], capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def render(helm: Run) -> Render:
    """The objects of a release `vi` in namespace `operators`: `render("name=value", …)`."""

    def render(*settings: str) -> list[Object]:
        flags = [flag for setting in settings for flag in ("--set", setting)]
        result = helm("template", "vi", CHART, "--namespace", "operators", *flags)
        assert result.returncode == 0, result.stderr
        return objects(result.stdout)

    return render
