"""One world for each module: its tests share an index, and each uses items of its own."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.api import Api
from devcluster.control_plane import ControlPlane
from tests.apiserver.operator.processes import Operator
from tests.apiserver.operator.world import World, new_namespace

CHART = Path(__file__).parents[3] / "charts" / "vectorindex-operator"
COLLECTIONS = {
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}


@pytest.fixture(scope="module")
def operator_options() -> tuple[str, ...]:
    """Further options of the operator, for a module that has its own."""
    return ()


@pytest.fixture(scope="module")
def world(
    api: Api,
    control_plane: ControlPlane,
    kubeconfig: Path,
    tmp_path_factory: pytest.TempPathFactory,
    operator_options: tuple[str, ...],
) -> Iterator[World]:
    """The operator has the rights that the chart gives it, and no others."""
    folder = tmp_path_factory.mktemp("world")
    with new_namespace(api, f"operator-{uuid.uuid4().hex[:8]}") as namespace:
        account = grant_rights(api, control_plane.bin / "helm", namespace)
        credentials = control_plane.kubeconfig_for(f"system:serviceaccount:{namespace}:{account}")
        log = folder / "operator.log"
        operator = Operator(credentials, namespace, log, lease=account, options=operator_options)
        with World(api, kubeconfig, operator, folder) as running:
            yield running


def grant_rights(api: Api, helm: Path, namespace: str) -> str:
    """Create the chart's service account and roles for one namespace; returns the account's name, which is its Lease's
    too."""
    watched = ["--namespace", namespace, "--set", f"watchNamespaces={{{namespace}}}"]
    command = [str(helm), "template", "operator", str(CHART), *watched]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    account = ""
    for manifest in yaml.safe_load_all(rendered):
        if manifest and manifest["kind"] in COLLECTIONS:
            api.create(COLLECTIONS[manifest["kind"]].format(namespace=manifest["metadata"]["namespace"]), manifest)
            if manifest["kind"] == "ServiceAccount":
                account = manifest["metadata"]["name"]
    assert account
    return account
