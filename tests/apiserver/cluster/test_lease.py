"""The Lease on a real API server: who writes it, and with which rights."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devcluster.api import Api
from devcluster.control_plane import ControlPlane
from tests.apiserver.operator.conftest import grant_rights
from vectorindex.cluster.client import ApiServer
from vectorindex.cluster.errors import ConflictError, NotFoundError, RejectedError
from vectorindex.cluster.lease import LeaseStore
from vectorindex.domain.election import Record, Timing, released, renewed

RECORD = Record("operator-0", 15, acquired=1_790_000_000_123_456, renewed=1_790_000_001_000_001, transitions=2)


@pytest.fixture
async def rights(
    api: Api, control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ApiServer, str]]:
    """A client with the operator's rights, and the name of its Lease."""
    account = grant_rights(api, control_plane.bin / "helm", namespace)
    credentials: Path = control_plane.kubeconfig_for(f"system:serviceaccount:{namespace}:{account}")
    monkeypatch.setenv("KUBECONFIG", str(credentials))
    server = await ApiServer.connect(limit=None)
    yield server, account
    await server.close()


@pytest.fixture
def leases(rights: tuple[ApiServer, str], namespace: str) -> LeaseStore:
    server, name = rights
    return LeaseStore(server, namespace, name)


def path(namespace: str, name: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"


async def test_what_was_written_is_read(leases: LeaseStore) -> None:
    assert await leases.read() is None
    written = await leases.write(RECORD, None)
    read = await leases.read()
    assert read is not None
    assert read.record == written.record == RECORD
    later = renewed(RECORD, RECORD.renewed + 1, RECORD.acquired + 1)
    assert (await leases.write(later, read)).record == later


async def test_one_of_two_creates_it(leases: LeaseStore) -> None:
    await leases.write(RECORD, None)
    with pytest.raises(ConflictError):
        await leases.write(RECORD, None)


async def test_a_version_that_is_not_the_newest_is_not_replaced(leases: LeaseStore, api: Api, namespace: str) -> None:
    first = await leases.write(RECORD, None)
    second = await leases.write(renewed(RECORD, RECORD.renewed + 1, RECORD.acquired), first)
    with pytest.raises(ConflictError):
        await leases.write(renewed(RECORD, RECORD.renewed + 2, RECORD.acquired), first)
    api.delete(path(namespace, second.manifest["metadata"]["name"]))
    with pytest.raises((ConflictError, NotFoundError)):
        await leases.write(renewed(RECORD, RECORD.renewed + 3, RECORD.acquired), second)
    assert await leases.read() is None


async def test_one_that_was_given_back_names_nobody(leases: LeaseStore, api: Api, namespace: str) -> None:
    lease = await leases.write(RECORD, None)
    back = await leases.write(released(RECORD, RECORD.renewed + 1), lease)
    assert back.record.holder == ""
    assert back.record.acquired == RECORD.acquired
    stored = api.get(path(namespace, lease.manifest["metadata"]["name"]))
    assert "holderIdentity" not in stored["spec"]


async def test_what_others_wrote_on_it_stays(leases: LeaseStore, api: Api, namespace: str) -> None:
    name = (await leases.write(RECORD, None)).manifest["metadata"]["name"]
    api.patch(path(namespace, name), {"metadata": {"labels": {"theirs": "1"}}})
    await leases.write(renewed(RECORD, RECORD.renewed + 1, RECORD.acquired), await leases.read())
    assert api.get(path(namespace, name))["metadata"]["labels"] == {"theirs": "1"}


async def test_an_empty_one_is_nobodys(leases: LeaseStore, rights: tuple[ApiServer, str], api: Api) -> None:
    name = rights[1]
    collection = path(leases._namespace, name).rpartition("/")[0]
    api.create(collection, {"metadata": {"name": name}})
    lease = await leases.read()
    assert lease is not None
    assert lease.record == Record("", Timing().duration, 0, 0, 0)
    assert (await leases.write(RECORD, lease)).record == RECORD


async def test_the_rights_are_for_that_lease_alone(rights: tuple[ApiServer, str], namespace: str) -> None:
    other = LeaseStore(rights[0], namespace, f"other-{uuid.uuid4().hex[:6]}")
    for attempt in (other.read(), other.write(RECORD, None)):
        with pytest.raises(RejectedError, match="forbidden"):
            await attempt
