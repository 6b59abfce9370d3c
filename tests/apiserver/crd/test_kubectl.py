"""How our kinds read in a terminal."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from devcluster.api import Api, ApiError
from devcluster.control_plane import ControlPlane
from tests.apiserver.crd.manifests import apply_status, collection, create, manifest
from tests.apiserver.crd.test_status import DELETE, INDEX, OPTIMIZE, REBUILD
from vectorindex.api import KINDS, ApiObject

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Kubectl:
    def run(*arguments: str) -> str:
        command = [str(control_plane.bin / "kubectl"), f"--kubeconfig={control_plane.kubeconfig}", "-n", namespace]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def objects(api: Api, namespace: str) -> None:
    """One object of each kind, all of the name ``words``, with a status."""
    for kind, status in (
        ("VectorIndex", INDEX),
        ("IndexDelete", DELETE),
        ("IndexRebuild", REBUILD),
        ("IndexOptimize", OPTIMIZE),
    ):
        create(api, namespace, manifest(kind))
        apply_status(api, namespace, kind, status.to_dict())


def table(text: str) -> list[list[str]]:
    """The cells of the table without the last column, the age."""
    return [line.split()[:-1] for line in text.splitlines()]


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize(
    ("short_name", "columns", "cells"),
    [
        ("vi", "NAME READY PODS VECTORS DELETED MAINTENANCE", "words True 3 4500 1500 DeletedRatio"),
        (
            "videl",
            "NAME INDEX SUCCEEDED REASON PROGRESS DELETED NOTFOUND",
            "words words True Completed 100 1500 1",
        ),
        (
            "vireb",
            "NAME INDEX SUCCEEDED REASON PROGRESS VECTORS RECALL RECLAIMED",
            "words words Unknown Running 42 4500 1.0000 -3",
        ),
        (
            "viopt",
            "NAME INDEX SUCCEEDED REASON PROGRESS REPAIRED RECALL RECLAIMED",
            "words words Unknown Running 42 1234 1.0000 -3",
        ),
    ],
)
def test_get(kubectl: Kubectl, short_name: str, columns: str, cells: str) -> None:
    assert table(kubectl("get", short_name)) == [columns.split(), cells.split()]


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.definition.kind)
def test_every_name_of_a_kind_finds_its_object(kubectl: Kubectl, model: type[ApiObject]) -> None:
    """A category of the same name would take its place."""
    definition = model.definition
    for name in (definition.short_name, definition.singular, definition.plural, definition.crd_name):
        assert kubectl("get", name, "words", "-o", "name").strip() == f"{definition.singular}.vectorindex.io/words"


@pytest.mark.usefixtures("objects")
def test_one_name_shows_all_kinds(kubectl: Kubectl) -> None:
    found = kubectl("get", "vectorindex-io", "-o", "name").split()
    assert sorted(found) == sorted(f"{model.definition.singular}.vectorindex.io/words" for model in KINDS)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("vi.spec.managed.storage.reclaim", "What happens to the volumes when the VectorIndex is deleted"),
        ("vi.spec.podSelector", "The pods are your own, in the same namespace"),
        ("vi.spec.podSelector.matchExpressions.operator", "In or NotIn: the label has, or has not, one of the values"),
        ("vi.spec.port", "Port of the sidecar in the pods of podSelector"),
        ("vi.spec.hnsw.efConstruction", "Candidates looked at when an item is linked"),
        ("videl.spec.externalIDsFrom.configMapKeyRef.key", "Key whose value is a JSON array of strings, or one ID a"),
        ("vireb.spec.verify.minRecallPercent", "The new graph is refused when its recall is below both this and"),
        ("vireb.status.pods.restarts", "How often the sidecar was restarted"),
    ],
)
def test_explain(kubectl: Kubectl, path: str, text: str) -> None:
    assert text in kubectl("explain", path)


def test_an_index_of_own_pods_cannot_be_scaled(api: Api, namespace: str, kubectl: Kubectl) -> None:
    """``/scale`` would have to lie: how many pods there are is not said by the VectorIndex."""
    create(api, namespace, manifest("VectorIndex", {"managed": None, "podSelector": {"matchLabels": {"app": "shop"}}}))
    path = f"{collection('VectorIndex', namespace)}/words"
    with pytest.raises(ApiError, match=r"the spec replicas field \\?\".spec.managed.replicas\\?\" does not exist"):
        api.get(f"{path}/scale")
    with pytest.raises(AssertionError, match=r"spec\.managed\.storage: Required value"):
        kubectl("scale", "vi/words", "--replicas=2")
    assert "managed" not in api.get(path)["spec"]


@pytest.mark.usefixtures("objects")
def test_wait_returns_on_the_condition(kubectl: Kubectl) -> None:
    assert "condition met" in kubectl("wait", "--for=condition=Succeeded", "videl/words", "--timeout=5s")
    assert "condition met" in kubectl("wait", "--for=jsonpath={.status.completionTime}", "videl/words", "--timeout=5s")
