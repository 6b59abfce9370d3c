"""Server-side apply by the operator's own client."""

from __future__ import annotations

import pytest

from devcluster.api import Api
from tests.apiserver.crd.manifests import create, manifest
from tests.apiserver.crd.test_status import DELETE
from vectorindex.api import IndexDelete
from vectorindex.cluster.cluster import Cluster
from vectorindex.cluster.errors import ConflictError, NotFoundError, OutdatedError


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


async def test_a_status_that_was_decided_by_an_older_version_is_not_written(
    api: Api, namespace: str, cluster: Cluster
) -> None:
    """Or what a former leader had under way would replace what its successor has written."""
    created = create(api, namespace, manifest("IndexDelete"))
    newer = DELETE.model_copy(update={"not_found": ("newer",)})
    await cluster.apply_status(created, newer.to_dict())
    with pytest.raises(OutdatedError):
        await cluster.apply_status(created, DELETE.to_dict())
    stored = await cluster.get("IndexDelete", namespace, "words")
    assert stored is not None
    assert IndexDelete.read(stored).status.not_found == ("newer",)
    await cluster.apply_status(stored, DELETE.to_dict())


async def test_the_status_of_one_that_is_gone_or_was_created_again_is_not_written(
    api: Api, namespace: str, cluster: Cluster
) -> None:
    created = create(api, namespace, manifest("IndexDelete"))
    await cluster.delete(created)
    with pytest.raises(NotFoundError):
        await cluster.apply_status(created, DELETE.to_dict())
    create(api, namespace, manifest("IndexDelete"))
    with pytest.raises(ConflictError):
        await cluster.apply_status(created, DELETE.to_dict())
