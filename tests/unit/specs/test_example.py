"""The example of pods of the user's own: its sidecar is the one that the operator would run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.specs.indexes import build_index
from vectorindex.api import VectorIndex, names
from vectorindex.specs import build_stateful_set

EXAMPLE = Path(__file__).parents[3] / "examples" / "own-pods"
STATEFUL_SET, SERVICE, BUDGET = yaml.safe_load_all((EXAMPLE / "application.yaml").read_text())
POD = STATEFUL_SET["spec"]["template"]
MANIFEST = yaml.safe_load((EXAMPLE / "vectorindex.yaml").read_text())
INDEX = VectorIndex.read({**MANIFEST, "metadata": {**MANIFEST["metadata"], "namespace": "shop", "uid": "1"}})


def container(pod: dict[str, Any]) -> dict[str, Any]:
    [found] = [each for each in pod["containers"] if each["name"] == names.CONTAINER]
    assert isinstance(found, dict)
    return found


def managed_pod() -> dict[str, Any]:
    managed = build_index().spec.managed
    assert managed is not None
    built = build_stateful_set(INDEX, managed, "image")
    pod: dict[str, Any] = built["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize(
    "field", ["command", "args", "env", "ports", "startupProbe", "livenessProbe", "readinessProbe", "volumeMounts"]
)
def test_the_sidecar_is_that_of_the_operator(field: str) -> None:
    assert container(POD["spec"])[field] == container(managed_pod())[field]


def test_nothing_that_the_operator_gives_its_pods_is_missing() -> None:
    theirs, ours = POD["spec"], managed_pod()
    assert container(theirs).keys() >= container(ours).keys()
    assert theirs["securityContext"] | container(theirs)["securityContext"] == (
        ours["securityContext"] | container(ours)["securityContext"]
    )
    assert theirs["volumes"] == ours["volumes"]
    assert [claim["metadata"]["name"] for claim in STATEFUL_SET["spec"]["volumeClaimTemplates"]] == [names.DATA_VOLUME]
    assert theirs["automountServiceAccountToken"] is theirs["enableServiceLinks"] is False


def test_the_index_selects_the_pods_by_a_label_that_is_watched() -> None:
    assert INDEX.spec.pod_selector is not None
    assert INDEX.spec.pod_selector.to_text() == f"{names.INDEX_LABEL}={POD['metadata']['labels'][names.INDEX_LABEL]}"
    assert INDEX.spec.port == names.PORT


def test_its_other_objects_select_the_pods_too() -> None:
    labels = POD["metadata"]["labels"].items()
    for selector in (SERVICE["spec"]["selector"], BUDGET["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels
