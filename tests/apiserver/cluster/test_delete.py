"""The operator's own client deletes the object that was read, and no other one of its name."""

from __future__ import annotations

import pytest

from devcluster.api import Api
from tests.apiserver.crd.manifests import create, manifest
from vectorindex.cluster.cluster import Cluster
from vectorindex.cluster.errors import ConflictError, NotFoundError


async def test_an_object_is_deleted_by_its_uid(api: Api, namespace: str, cluster: Cluster) -> None:
    created = create(api, namespace, manifest("IndexDelete"))
    other = {**created, "metadata": {**created["metadata"], "uid": "of-a-former-one"}}
    with pytest.raises(ConflictError):
        await cluster.delete(other)
    assert await cluster.get("IndexDelete", namespace, "words") is not None
    await cluster.delete(created)
    assert await cluster.get("IndexDelete", namespace, "words") is None
    with pytest.raises(NotFoundError):
        await cluster.delete(created)
