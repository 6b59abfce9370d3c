"""The operator's keys where real kubelets bring identity files up to date, as SECURITY.md and http.md describe them."""

from __future__ import annotations

import json
import sys

import pytest

from demo import data
from devcluster.cluster import Cluster
from tests.e2e.support import INDEX, SYSTEM, Namespace, condition, wait_for
from vectorindex.domain.keyring import SECRET

NOUNS = data.load()
ARRIVED = 170
"""Seconds, less than the 3 minutes after which a pod without the key is something to look into."""


@pytest.fixture(scope="module")
def index(namespace: Namespace) -> Namespace:
    namespace.create_index()
    namespace.load(1_000)
    return namespace


def in_system(cluster: Cluster, *arguments: str) -> str:
    return cluster.kubectl("--namespace", SYSTEM, *arguments)


def stored(cluster: Cluster) -> dict[str, str]:
    """What the Secret holds; empty while there is none."""
    found = in_system(cluster, "get", "secret", SECRET, "--ignore-not-found", "--output", "json")
    return dict(json.loads(found)["data"]) if found else {}


def delete_one(index: Namespace, name: str, item: str) -> None:
    index.apply("IndexDelete", name, {"indexRef": {"name": INDEX}, "externalIDs": [item]})


def pods(index: Namespace) -> dict[str, int]:
    """The pods by UID, and how often their sidecars were restarted."""
    found = index.get("pods", "--selector", f"vectorindex.io/index={INDEX}")["items"]
    return {each["metadata"]["uid"]: each["status"]["containerStatuses"][0]["restartCount"] for each in found}


def waited_for_keys(index: Namespace, name: str) -> bool:
    events = index.get("events", "--field-selector", f"reason=KeyPending,involvedObject.name={name}")["items"]
    return bool(events)


def test_a_token_for_use_by_hand(index: Namespace, cluster: Cluster) -> None:
    pod, address = next(iter(index.addresses().items()))
    command = ("vectorindex-operator", "token", "--index", f"{index.name}/{INDEX}", "--pod", pod)
    token = in_system(cluster, "exec", "deploy/vectorindex-operator", "--", *command).strip()
    ask = (
        "import sys, urllib.request as r; "
        "print(r.urlopen(r.Request(sys.argv[1], headers={'Authorization': 'Bearer ' + sys.argv[2]})).read().decode())"
    )
    url = f"http://{address}:8080/v1/indexes/{INDEX}/state"
    state = json.loads(cluster.run([sys.executable, "-c", ask, url, token]).stdout)
    assert (state["identity"]["pod"], state["counts"]["live"]) == (pod, 1_000)


def test_a_rotation_is_noticed_by_nobody(index: Namespace, cluster: Cluster) -> None:
    before, running = stored(cluster), pods(index)
    removal = json.dumps([{"op": "remove", "path": "/data/current.pem"}])
    in_system(cluster, "patch", "secret", SECRET, "--type", "json", "--patch", removal)
    wait_for("the next key signs", lambda: stored(cluster).get("current.pem") == before["next.pem"])
    delete_one(index, "rotated", NOUNS.ids[0])
    assert condition(index.finished("videl", "rotated"), "Succeeded") == ("True", "Completed")
    assert not waited_for_keys(index, "rotated")
    assert pods(index) == running


def test_keys_that_are_lost_delay_a_run_until_the_kubelets_have_brought_new_ones(
    index: Namespace, cluster: Cluster
) -> None:
    before, running = stored(cluster), pods(index)
    in_system(cluster, "delete", "secret", SECRET)
    wait_for("a new Secret", lambda: stored(cluster).get("current.pem") not in (None, before["current.pem"]))
    delete_one(index, "lost", NOUNS.ids[1])
    status = index.finished("videl", "lost", within=ARRIVED)
    assert condition(status, "Succeeded") == ("True", "Completed")
    index.kubectl("wait", "--for=condition=Ready", f"vi/{INDEX}", "--timeout=60s")
    assert pods(index) == running
