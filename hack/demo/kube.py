"""kubectl, as the demo uses it: shown to the reader, or quietly to look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from demo.terminal import command

NAMESPACE = "demo"


def kubectl(*arguments: str) -> str:
    """Run kubectl in the demo's namespace; show it and what it prints."""
    return command(["kubectl", "--namespace", NAMESPACE, *arguments])


def read(*arguments: str) -> dict[str, Any]:
    """What `kubectl get … -o json` gives, without a word."""
    argv: Sequence[str] = ["kubectl", "--namespace", NAMESPACE, "get", *arguments, "--output", "json"]
    return dict(json.loads(command(argv, show=False)))


def pods() -> dict[str, str]:
    """The IP address of each pod of the index, by name."""
    items = read("pods", "--selector", "vectorindex.io/index=nouns")["items"]
    return {item["metadata"]["name"]: item["status"]["podIP"] for item in items}


def service_address() -> str:
    """The cluster IP of the Service that applications use."""
    return str(read("service", "nouns")["spec"]["clusterIP"])


def condition(manifest: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an object's status by its type; empty when it is not there."""
    conditions = manifest.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})
