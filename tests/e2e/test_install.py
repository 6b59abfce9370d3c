"""Installing and removing: by kustomize, by Helm, and in the order in which things hang elsewhere."""

from __future__ import annotations

from devcluster.cluster import Cluster
from tests.e2e.support import INDEX, ROOT, SYSTEM, condition, create_namespace, install_by_helm


def test_apply_k_installs_a_working_operator(bare_cluster: Cluster) -> None:
    bare_cluster.kubectl("apply", "-k", str(ROOT / "manifests"))
    bare_cluster.kubectl("--namespace", SYSTEM, "rollout", "status", "deployment/vectorindex-operator", "--timeout=60s")
    namespace = create_namespace(bare_cluster, "by-kustomize")
    namespace.kubectl("apply", "--filename", str(ROOT / "manifests" / "samples"))
    for kind, name in (
        ("vi", "products"),
        ("videl", "products-recalled"),
        ("videl", "products-discontinued"),
        ("vireb", "products-quarterly"),
    ):
        status = namespace.wait_until("seen", kind, name, lambda status: status["observedGeneration"] == 1)
        assert condition(status, "Stalled")[0] == "False"


def test_the_operator_removed_first_and_then_the_namespace_leaves_nothing_hanging(cluster: Cluster) -> None:
    namespace = create_namespace(cluster, "removed")
    namespace.create_index(replicas=1)
    namespace.apply("IndexDelete", "one", {"indexRef": {"name": INDEX}, "externalIDs": ["nothing"]})
    namespace.finished("videl", "one")
    cluster.run(["helm", "uninstall", "vectorindex-operator", "--namespace", SYSTEM, "--wait"])
    namespace.apply("IndexRebuild", "never-seen", {"indexRef": {"name": INDEX}})

    cluster.kubectl("delete", "namespace", namespace.name, SYSTEM, "--timeout=90s")

    install_by_helm(cluster)
    again = create_namespace(cluster, "again")
    again.create_index(replicas=1)
    cluster.kubectl("delete", "namespace", again.name, "--timeout=90s")
