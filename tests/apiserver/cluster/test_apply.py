"""Server-side apply by the operator's own client."""

from __future__ import annotations

import pytest

from devcluster.api import Api
from tests.apiserver.crd.manifests import create, manifest
from tests.apiserver.crd.test_status import DELETE
from vectorindex.api import IndexDelete
from vectorindex.cluster.cluster import Cluster


@pytest.mark.parametrize("external_id", ["cat", "Käse", "語", "🐍", 'a "quoted" \\ one', "a: b # c", "\u2028"])
async def test_a_status_is_written_whatever_the_items_are_called(
    api: Api, namespace: str, cluster: Cluster, external_id: str
) -> None:
    """The API server reads an apply as YAML, which takes less than JSON does."""
    created = create(api, namespace, manifest("IndexDelete"))
    await cluster.apply_status(created, DELETE.model_copy(update={"not_found": (external_id,)}).to_dict())

    stored = await cluster.get("IndexDelete", namespace, "words")
    assert stored is not None
    assert IndexDelete.read(stored).status.not_found == (external_id,)
