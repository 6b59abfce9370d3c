"""The stage of this folder, and what was tried on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.api import Api
from devcluster.control_plane import ControlPlane
from tests.apiserver.faults.stage import Stage
from tests.apiserver.faults.tally import pytest_terminal_summary
from tests.apiserver.operator.conftest import grant_rights
from tests.apiserver.operator.processes import Operator
from tests.apiserver.operator.world import new_namespace, random_items

__all__ = ["pytest_terminal_summary"]

INDEX = "words"
IDS, VECTORS = random_items(1_000)


@pytest.fixture(scope="package")
def stage(
    api: Api, control_plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """An operator with the rights of the chart, behind proxies, and an index of two pods."""
    with new_namespace(api, f"faults-{uuid.uuid4().hex[:8]}") as namespace:
        account = grant_rights(api, control_plane.bin / "helm", namespace)
        credentials = control_plane.kubeconfig_for(f"system:serviceaccount:{namespace}:{account}")
        folder = tmp_path_factory.mktemp("stage")
        operator = Operator(credentials, namespace, folder / "operator.log", lease=account)
        with Stage(api, kubeconfig, operator, folder) as running:
            running.index(INDEX, replicas=2)
            running.load(INDEX, IDS, VECTORS)
            yield running
