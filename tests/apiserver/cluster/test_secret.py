"""The rights that the operator needs for the Secret of its keys, as the API server judges them."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster.api import Api, ApiError
from devcluster.control_plane import ControlPlane
from vectorindex.cluster.client import ApiServer
from vectorindex.cluster.cluster import Cluster
from vectorindex.cluster.errors import ConflictError, RejectedError
from vectorindex.domain.keyring import SECRET, KeyRing, SigningKey, build_secret

RING = KeyRing(SigningKey.generate(), SigningKey.generate())
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/{}"


def grant(api: Api, plane: ControlPlane, namespace: str, verbs: list[str]) -> Path:
    """The kubeconfig file of a user who may do this with that one Secret."""
    user = f"keeper-of-{namespace}-{'-'.join(verbs)}"
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [SECRET], "verbs": verbs}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "keeper"}}
    api.create(RBAC.format(namespace, "roles"), {**role, "rules": [rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "keeper"}
    subjects = [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]
    binding = {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": subjects}
    api.create(RBAC.format(namespace, "rolebindings"), binding)
    return plane.kubeconfig_for(user)


async def connect(path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    monkeypatch.setenv("KUBECONFIG", str(path))
    return await ApiServer.connect(None)


@pytest.mark.parametrize(
    ("verbs", "enough"),
    [
        pytest.param(["create", "patch"], True, id="create and patch"),
        pytest.param(["patch"], False, id="without create"),
        pytest.param(["create"], False, id="without patch"),
    ],
)
async def test_a_secret_is_made_by_an_apply_with_rights_by_its_name(
    api: Api,
    control_plane: ControlPlane,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    verbs: list[str],
    enough: bool,
) -> None:
    server = await connect(grant(api, control_plane, namespace, verbs), monkeypatch)
    cluster = Cluster(server, "test")
    try:
        if enough:
            await cluster.apply(build_secret(RING, namespace, None))
        else:
            with pytest.raises(RejectedError, match="forbidden"):
                await cluster.apply(build_secret(RING, namespace, None))
        another = build_secret(RING, namespace, None)
        another["metadata"]["name"] = "another"
        with pytest.raises(RejectedError, match="forbidden"):
            await cluster.apply(another)
        with pytest.raises(RejectedError, match="forbidden"):
            await server.request("POST", f"/api/v1/namespaces/{namespace}/secrets", body=another)
    finally:
        await server.close()
    names = [each["metadata"]["name"] for each in api.get(f"/api/v1/namespaces/{namespace}/secrets")["items"]]
    assert names == ([SECRET] if enough else [])


async def test_what_was_changed_meanwhile_is_not_overwritten(api: Api, namespace: str, cluster: Cluster) -> None:
    first = await cluster.apply(build_secret(RING, namespace, None))
    path = f"/api/v1/namespaces/{namespace}/secrets/{SECRET}"
    changed = api.patch(path, {"data": {"current.pem": None}})
    with pytest.raises(ConflictError):
        await cluster.apply(build_secret(RING, namespace, first))
    assert set(api.get(path)["data"]) == {"next.pem"}
    await cluster.apply(build_secret(RING, namespace, changed))
    api.delete(path)
    with pytest.raises(ConflictError):
        await cluster.apply(build_secret(RING, namespace, changed))
    with pytest.raises(ApiError, match="404"):
        api.get(path)
