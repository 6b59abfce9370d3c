"""The example of pods of the user's own, on a real cluster: kubelet, volumes and rollouts are what they are there."""

from __future__ import annotations

import json

import pytest
import yaml

from demo import data
from tests.apiserver.faults.tally import ALL, tried
from tests.e2e.support import INDEX, ROOT, Namespace, Object, condition

EXAMPLE = ROOT / "examples" / "own-pods"
ITEMS = 6_000
IDS = data.load().ids[:ITEMS]
IMAGE = "vectorindex-operator:dev"
LARGER_GRAPH = {"m": 32, "efConstruction": 400}
ROLLOUT_SECONDS = 400
"""Two pods that end, start and load, one after the other, on a node that does other things too."""


def example() -> list[Object]:
    """Its objects, for the index of the demo's data; a web server that the image has stands for the application."""
    text = "\n---\n".join((EXAMPLE / name).read_text() for name in ("vectorindex.yaml", "application.yaml"))
    objects = list(yaml.safe_load_all(text.replace("products", INDEX).replace("10Gi", "1Gi")))
    template = next(each for each in objects if each["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    application, sidecar = template["containers"]
    application |= {"image": IMAGE, "command": ["python3", "-m", "http.server", "3000"], "workingDir": "/etc/ssl"}
    sidecar |= {"image": IMAGE, "resources": {"limits": {"memory": "1Gi"}}}
    return objects


@pytest.fixture(scope="module")
def shop(namespace: Namespace) -> Namespace:
    """The example, loaded."""
    namespace.kubectl("apply", "--filename", "-", stdin="\n---\n".join(map(json.dumps, example())))
    namespace.kubectl("wait", "--for=condition=Ready", f"vi/{INDEX}", "--timeout=120s")
    namespace.load(ITEMS)
    return namespace


def found(shop: Namespace) -> list[list[str]]:
    """What each pod finds of the items by their own vectors."""
    return [sorted(json.loads(shop.inside("found", str(ITEMS), address))) for address in shop.addresses().values()]


def test_the_pods_of_the_example_hold_the_index(shop: Namespace) -> None:
    status = shop.wait_until("loaded", "vi", INDEX, lambda status: status.get("vectors") == ITEMS)
    assert [pod["name"] for pod in status["pods"]] == ["shop-0", "shop-1"]
    assert condition(status, "Ready") == ("True", "AllPodsReady")
    assert found(shop) == [sorted(IDS)] * 2


@pytest.mark.skipif(not ALL, reason="it takes minutes: `make faults` runs it")
def test_a_rebuild_goes_on_over_a_rollout_of_the_users(shop: Namespace) -> None:
    shop.apply("IndexRebuild", "larger", {"indexRef": {"name": INDEX}, "params": LARGER_GRAPH})
    shop.wait_until(
        "at work", "vireb", "larger", lambda status: any(pod["state"] == "Running" for pod in status.get("pods", ()))
    )
    shop.kubectl("rollout", "restart", "statefulset/shop")
    shop.apply("IndexDelete", "meanwhile", {"indexRef": {"name": INDEX}, "externalIDs": list(IDS[:10])})
    status = shop.finished("vireb", "larger", ROLLOUT_SECONDS)
    assert condition(status, "Succeeded") == ("True", "Completed")
    assert {pod["name"]: pod["parameters"]["m"] for pod in status["pods"]} == {"shop-0": 32, "shop-1": 32}
    status = shop.finished("videl", "meanwhile")
    assert [pod["deletedCount"] for pod in status["pods"]] == [10, 10]
    shop.kubectl("rollout", "status", "statefulset/shop", f"--timeout={ROLLOUT_SECONDS}s")
    shop.kubectl("wait", "--for=condition=Ready", f"vi/{INDEX}", "--timeout=60s")
    assert found(shop) == [sorted(IDS[10:])] * 2
    tried["cluster: pods of the user's own rolled in mid-rebuild"] += 1
