"""One world for each module: its tests share an index, and each uses items of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.api import Api
from tests.apiserver.operator.world import World, new_namespace


@pytest.fixture(scope="module")
def world(api: Api, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with (
        new_namespace(api, f"operator-{uuid.uuid4().hex[:8]}") as namespace,
        World(api, kubeconfig, kubeconfig, namespace, folder) as running,
    ):
        yield running
