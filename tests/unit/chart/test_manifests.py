"""The installation without Helm: the same objects, up to date, and samples that are what they say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import generate
from tests.unit.chart.rendering import CHART, ROOT, Object, Run, key, objects, one
from vectorindex.api import KINDS

MANIFESTS = ROOT / "manifests"
CLIENT_SIDE_LIMIT = 262_144  # bytes of all annotations: kubectl apply keeps the whole object in one
SAMPLES = [each for path in sorted((MANIFESTS / "samples").glob("*.yaml")) for each in objects(path.read_text())]


@pytest.fixture(scope="module")
def generated(programs: Path) -> dict[Path, str]:
    return generate.generated(programs / "helm")


def test_what_is_generated_is_up_to_date(generated: dict[Path, str]) -> None:
    assert generate.differing(generated) == []


def test_generate_writes_what_differs_removes_what_is_left_over_and_then_finds_nothing(
    generated: dict[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, text in generated.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    changed = Path("manifests/rbac/operator.yaml")
    missing = Path("manifests/operator/deployment.yaml")
    left_over = Path("charts/vectorindex-operator/files/crds") / "indexmirrors.yaml"
    (tmp_path / changed).write_text("kind: Role\n")
    (tmp_path / missing).unlink()
    (tmp_path / left_over).write_text("kind: CustomResourceDefinition\n")

    assert generate.differing(generated) == sorted([changed, missing, left_over])
    assert generate.write(generated) == sorted([changed, missing, left_over])
    assert generate.differing(generated) == []
    assert (tmp_path / changed).read_text() == generated[changed]


def kustomize(programs: Path, folder: Path) -> list[Object]:
    result = subprocess.run([programs / "kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return objects(result.stdout)


def test_kustomize_installs_what_the_chart_does_in_a_restricted_namespace(programs: Path, helm: Run) -> None:
    name, namespace = "vectorindex-operator", "vectorindex-system"
    chart = objects(helm("template", name, CHART, "--namespace", namespace, "--set", "crds.keep=false").stdout)
    kustomized = kustomize(programs, MANIFESTS)
    made = one(kustomized, "Namespace")
    assert made["metadata"]["name"] == namespace
    assert made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    kustomized.remove(made)
    assert sorted(kustomized, key=key) == sorted(chart, key=key)


def test_an_image_that_is_named_once_is_used_everywhere(programs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, folder)
    kustomization = folder / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("newTag: dev", "newName: r.example/vi\n    newTag: '7'"))
    (container,) = one(kustomize(programs, folder), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "r.example/vi:7"
    assert {"name": "VECTORINDEX_IMAGE", "value": "r.example/vi:7"} in container["env"]


def test_plain_kubectl_apply_can_take_every_file() -> None:
    for path in (MANIFESTS / "crds").glob("*.yaml"):
        for part in path.read_text().split("\n---\n"):
            assert len(part.encode()) < CLIENT_SIDE_LIMIT


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda each: each["metadata"]["name"])
def test_samples_are_valid(sample: Object) -> None:
    models = {model.definition.kind: model for model in KINDS}
    if sample["kind"] == "ConfigMap":
        assert sample["data"]["ids.txt"].split()
    else:
        stored = {"metadata": sample["metadata"] | {"namespace": "default", "uid": "1"}, "spec": sample["spec"]}
        models[sample["kind"]].model_validate(stored, extra="forbid")


def test_there_is_a_sample_of_every_kind() -> None:
    assert {model.definition.kind for model in KINDS} <= {each["kind"] for each in SAMPLES}
