"""Objects out of YAML, and how to find one among them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "vectorindex-operator"

Object = dict[str, Any]
Run = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[Object]]


def objects(text: str) -> list[Object]:
    """The objects of some YAML."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(rendered: list[Object], *kinds: str) -> list[Object]:
    return [each for each in rendered if each["kind"] in kinds]


def one(rendered: list[Object], kind: str) -> Object:
    (found,) = of_kind(rendered, kind)
    return found


def key(each: Object) -> tuple[str, str, str]:
    return each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]
