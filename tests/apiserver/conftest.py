"""A real API server for every test of this tier: one control plane for the session, with our CRDs installed.

Tests share it, so each works in a namespace of its own.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.api import Api, Object
from devcluster.control_plane import ControlPlane
from devcluster.errors import DevClusterError
from vectorindex.api import KINDS
from vectorindex.api.crd import build_crd

ESTABLISHED_SECONDS = 30


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, API server and controller manager. Where they cannot run, the tier is skipped; in CI that is a failure."""
    plane = ControlPlane()
    try:
        plane.start()
    except DevClusterError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the control plane cannot run here: {error}")
    try:
        install_crds(plane.api())
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def kubeconfig(control_plane: ControlPlane) -> Path:
    """The administrator's kubeconfig file."""
    return control_plane.kubeconfig


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Api:
    """A small client, in the administrator's name."""
    return control_plane.api()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


def install_crds(api: Api) -> None:
    """Apply the CRDs and wait until the API server serves them."""
    base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    for model in KINDS:
        api.apply(f"{base}/{model.definition.crd_name}", build_crd(model))
    for model in KINDS:
        while not _established(api.get(f"{base}/{model.definition.crd_name}")):
            assert time.monotonic() < deadline, f"{model.definition.crd_name} is not served"
            time.sleep(0.05)


def _established(crd: Object) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []  # null until the API server has looked at it
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)
