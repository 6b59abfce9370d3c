"""A whole cluster for this tier, with the operator installed by Helm; tests work in namespaces of their own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from devcluster import images
from devcluster.cluster import Cluster
from devcluster.errors import DevClusterError
from tests.e2e.support import Namespace, create_namespace, install_by_helm


def start_cluster() -> Cluster:
    """A cluster with the project's image. Where none can run the tests are skipped; in CI that is a failure."""
    try:
        archive = images.operator_image()
        cluster = Cluster().start()
    except DevClusterError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"a whole cluster cannot run here: {error}")
    cluster.load_image(archive)
    return cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of the tier, with the operator installed."""
    cluster = start_cluster()
    try:
        install_by_helm(cluster)
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def bare_cluster() -> Iterator[Cluster]:
    """A second cluster, with the image and nothing installed."""
    cluster = start_cluster()
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """A namespace of the test module's own."""
    created = create_namespace(cluster, f"e2e-{uuid.uuid4().hex[:6]}")
    yield created
    cluster.kubectl("delete", "namespace", created.name, "--ignore-not-found", "--wait=false")
