"""Two operators of one release: where the one that works is gone at once, the other goes on with what was under way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from devcluster.cluster import Cluster
from tests.apiserver.faults.tally import ALL, tried
from tests.e2e.support import CHART, INDEX, LARGE_GRAPH, SYSTEM, Namespace, condition, wait_for

ITEMS = 3_000
TAKEN_OVER = 45
"""Seconds, more than the 20 s for which a Lease counts."""


def upgrade(cluster: Cluster, replicas: int) -> None:
    values = ["--reuse-values", "--set", f"replicas={replicas}"]
    cluster.run(
        ["helm", "upgrade", "vectorindex-operator", CHART, "--namespace", SYSTEM, "--wait", "--timeout=2m", *values]
    )


@pytest.fixture
def two_operators(cluster: Cluster) -> Iterator[Cluster]:
    upgrade(cluster, replicas=2)
    yield cluster
    upgrade(cluster, replicas=1)


def leader(cluster: Cluster) -> str:
    """The pod that works."""
    lease = json.loads(
        cluster.kubectl("--namespace", SYSTEM, "get", "lease", "vectorindex-operator", "--output", "json")
    )
    pod, _, _ = lease["spec"]["holderIdentity"].partition("_")
    return str(pod)


@pytest.mark.skipif(not ALL, reason="it takes minutes: `make faults` runs it")
def test_the_second_operator_goes_on_with_a_rebuild(namespace: Namespace, two_operators: Cluster) -> None:
    namespace.create_index(replicas=1)
    namespace.load(ITEMS)
    first = leader(two_operators)
    namespace.apply("IndexRebuild", "larger", {"indexRef": {"name": INDEX}, "params": LARGE_GRAPH})
    namespace.wait_until("at work", "vireb", "larger", lambda status: status.get("progressPercent", 0) >= 1)
    two_operators.kubectl("--namespace", SYSTEM, "delete", "pod", first, "--grace-period=0", "--force")
    wait_for("another operator leads", lambda: leader(two_operators) not in (first, ""), TAKEN_OVER)
    status = namespace.finished("vireb", "larger")
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert [(pod["state"], pod["attempt"], pod["restarts"]) for pod in status["pods"]] == [("Succeeded", 1, 0)]
    namespace.apply("IndexDelete", "after", {"indexRef": {"name": INDEX}, "externalIDs": ["nobody"]})
    assert condition(namespace.finished("videl", "after"), "Succeeded") == ("True", "Completed")
    tried["cluster: the leader of two operators gone in mid-rebuild"] += 1
