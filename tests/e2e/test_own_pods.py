"""The example of pods of the user's own, on a real cluster: kubelet, volumes and rollouts are what they are there."""

from __future__ import annotations

import json

import pytest
import yaml

from demo import data
from tests.e2e.support import INDEX, ROOT, Namespace, Object, condition

EXAMPLE = ROOT / "examples" / "own-pods"
ITEMS = 6_000
IDS = data.load().ids[:ITEMS]
IMAGE = "vectorindex-operator:dev"


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
