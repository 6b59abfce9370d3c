"""The maintenance kinds on three pods of a real cluster, with what a user and a node may do in the middle."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import pytest

from demo import data
from devcluster.cluster import Cluster
from tests.e2e.support import INDEX, LARGE_GRAPH, SYSTEM, Namespace, Object, condition, create_namespace

ITEMS = 6_000
NOUNS = data.load()
DELETED = [name for name, category in zip(NOUNS.ids[:ITEMS], NOUNS.categories, strict=False) if category == "animal"]
KEPT = sorted(set(NOUNS.ids[:ITEMS]) - set(DELETED))


@pytest.fixture(scope="module")
def index(namespace: Namespace) -> Namespace:
    """A loaded index of three pods, from which the animals were deleted by the run `animals`."""
    namespace.create_index()
    namespace.load(ITEMS)
    ids = "\n".join(["n00000000", *DELETED])
    namespace.kubectl("create", "configmap", "animals", f"--from-literal=ids={ids}")
    source = {"configMapKeyRef": {"name": "animals", "key": "ids"}}
    spec = {"indexRef": {"name": INDEX}, "externalIDsFrom": source, "returnNotFound": True}
    namespace.apply("IndexDelete", "animals", spec)
    namespace.kubectl("wait", "--for=condition=Succeeded", "videl/animals", "--timeout=60s")
    return namespace


def check_items(index: Namespace) -> None:
    """On every pod, what was kept is found, and what was deleted is not."""
    for address in index.addresses().values():
        assert sorted(json.loads(index.inside("found", str(ITEMS), address))) == KEPT


def rebuild(index: Namespace, name: str, fault: Callable[[str], object] | None = None) -> Object:
    """Run a rebuild; when the second pod is at work on it, call ``fault`` with that pod's name. Returns the status."""
    index.apply("IndexRebuild", name, {"indexRef": {"name": INDEX}, "params": LARGE_GRAPH})
    if fault is not None:
        index.wait_until("at work on the second pod", "vireb", name, lambda status: progress(status, 1) in range(1, 91))
        fault(f"{INDEX}-1")
    return index.finished("vireb", name)


def progress(status: Object, ordinal: int) -> int:
    pods = status.get("pods", [])
    return int(pods[ordinal].get("progressPercent", 0)) if len(pods) > ordinal else 0


def test_a_delete_reports_what_it_did(index: Namespace) -> None:
    status = index.status("videl", "animals")
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert (status["deletedCount"], status["notFoundCount"]) == (len(DELETED), 1)
    assert status["notFound"] == ["n00000000"]
    assert {pod["name"]: (pod["state"], pod["deletedCount"]) for pod in status["pods"]} == {
        f"{INDEX}-{ordinal}": ("Succeeded", len(DELETED)) for ordinal in range(3)
    }
    check_items(index)


def test_the_index_says_that_it_needs_maintenance(index: Namespace) -> None:
    status = index.wait_until(
        "in need of maintenance", "vi", INDEX, lambda status: condition(status, "MaintenanceNeeded")[0] == "True"
    )
    assert condition(status, "MaintenanceNeeded") == ("True", "DeletedRatio")


def test_an_optimize_repairs_the_graph_and_the_index_needs_no_maintenance(index: Namespace) -> None:
    index.apply("IndexOptimize", "mend", {"indexRef": {"name": INDEX}})
    status = index.finished("viopt", "mend")
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert (status["vectorsAfter"], status["unreachableAfter"]) == (len(KEPT), 0)
    assert status["linksRepaired"] > 0
    assert status["computationsAfter"] < status["computationsBefore"]
    assert float(status["recallAfter"]) > float(status["recallBefore"]) - 0.02
    check_items(index)
    figures = index.wait_until("without tombstones", "vi", INDEX, lambda status: status["deletedVectors"] == 0)
    assert condition(figures, "MaintenanceNeeded") == ("False", "NotNeeded")


def test_a_rebuild_reports_what_it_did(index: Namespace) -> None:
    status = rebuild(index, "plain")
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert (status["vectorsBefore"], status["vectorsAfter"]) == (len(KEPT), len(KEPT))
    assert {key: status["parameters"][key] for key in LARGE_GRAPH} == LARGE_GRAPH
    assert float(status["recallAfter"]) > 0.98
    assert [(pod["state"], pod["restarts"]) for pod in status["pods"]] == [("Succeeded", 0)] * 3
    check_items(index)
    figures = index.wait_until("without tombstones", "vi", INDEX, lambda status: status["deletedVectors"] == 0)
    assert condition(figures, "MaintenanceNeeded")[0] == "False"


def test_a_sidecar_killed_in_the_middle_takes_the_rebuild_up_again(index: Namespace) -> None:
    def kill(pod: str) -> None:
        os.kill(index.cluster.processes(index.name, pod)[0].pid, signal.SIGKILL)

    status = rebuild(index, "sidecar-killed", kill)
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert [pod["restarts"] for pod in status["pods"]] == [0, 1, 0]
    check_items(index)


def test_a_pod_deleted_in_the_middle_comes_back_and_finishes(index: Namespace) -> None:
    status = rebuild(
        index, "pod-deleted", lambda pod: index.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    )
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert [pod["state"] for pod in status["pods"]] == ["Succeeded"] * 3
    assert status["pods"][1]["restarts"] >= 1
    check_items(index)


def test_an_operator_killed_in_the_middle_goes_on_after_its_restart(index: Namespace) -> None:
    def kill(_: str) -> None:
        pods = index.cluster.kubectl(
            "get", "pods", "--namespace", SYSTEM, "--output", "jsonpath={.items[*].metadata.name}"
        )
        os.kill(index.cluster.processes(SYSTEM, pods.split()[0])[0].pid, signal.SIGKILL)

    status = rebuild(index, "operator-killed", kill)
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert [(pod["state"], pod["attempt"], pod["restarts"]) for pod in status["pods"]] == [("Succeeded", 1, 0)] * 3
    check_items(index)


def test_a_run_goes_when_its_time_to_live_is_over(index: Namespace) -> None:
    for kind, short in (("IndexDelete", "videl"), ("IndexRebuild", "vireb"), ("IndexOptimize", "viopt")):
        more = {"externalIDs": [KEPT[0]]} if kind == "IndexDelete" else {}
        spec = {"indexRef": {"name": INDEX}, "cancel": True, "ttlSecondsAfterFinished": 0, **more}
        index.apply(kind, "short-lived", spec)
        index.kubectl("wait", "--for=delete", f"{short}/short-lived", "--timeout=60s")
    check_items(index)


def test_the_operator_has_exactly_the_rights_that_it_uses(index: Namespace, cluster: Cluster) -> None:
    account = f"system:serviceaccount:{SYSTEM}:vectorindex-operator"
    used, denied, withdrawn = set(), [], False
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    for event in sorted(events, key=lambda event: event["requestReceivedTimestamp"]):
        ref = event.get("objectRef")
        if ref is None or event["stage"] != "ResponseComplete":
            continue
        if ref["resource"].endswith("rolebindings") and event["verb"] in ("create", "patch", "delete"):
            # The rights of an operator that is uninstalled go a moment before it has ended.
            withdrawn = event["verb"] == "delete"
        if event["user"]["username"] != account:
            continue
        resource = f"{ref['resource']}/{ref['subresource']}" if "subresource" in ref else ref["resource"]
        used.add((ref.get("apiGroup", ""), resource, event["verb"]))
        # Not the code alone: 403 is also what a namespace answers that is being deleted.
        if event["annotations"]["authorization.k8s.io/decision"] == "forbid" and not withdrawn:
            denied.append((ref, event["verb"]))
    rules = json.loads(cluster.kubectl("get", "clusterrole", "vectorindex-operator", "--output", "json"))["rules"]
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert denied == []
    # An apply of an object that is not there yet counts as a patch for the log, but is authorised as create, too.
    assert {right for right in granted - used if right[2] != "create"} == set()


def test_two_namespaces_do_not_see_each_other(index: Namespace, cluster: Cluster) -> None:
    other = create_namespace(cluster, f"{index.name}-other")
    other.apply("IndexDelete", "elsewhere", {"indexRef": {"name": INDEX}, "externalIDs": [KEPT[0]]})
    status = other.wait_until("seen", "videl", "elsewhere", lambda status: status.get("observedGeneration") == 1)
    assert condition(status, "Succeeded") == ("Unknown", "IndexNotFound")
    check_items(index)
    cluster.kubectl("delete", "namespace", other.name, "--timeout=60s")
