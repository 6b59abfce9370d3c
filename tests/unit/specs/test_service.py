from __future__ import annotations

from vectorindex.api import VectorIndex
from vectorindex.specs import build_pods_service, build_service

PORTS = [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}]


def test_applications_reach_the_pods_that_are_ready(index: VectorIndex) -> None:
    service = build_service(index)
    assert service["metadata"]["name"] == "words"
    assert service["spec"] == {"type": "ClusterIP", "selector": {"vectorindex.io/index": "words"}, "ports": PORTS}


def test_the_operator_reaches_every_pod_by_name_also_before_it_is_ready(index: VectorIndex) -> None:
    service = build_pods_service(index)
    assert service["metadata"]["name"] == "words-pods"
    assert service["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"vectorindex.io/index": "words"},
        "ports": PORTS,
    }
