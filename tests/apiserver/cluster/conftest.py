"""The operator's own client, in the administrator's name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vectorindex.cluster.client import ApiServer
from vectorindex.cluster.cluster import Cluster
from vectorindex.cluster.limits import RequestLimit


@pytest.fixture
async def cluster(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    server = await ApiServer.connect(RequestLimit())
    yield Cluster(server, "test")
    await server.close()
