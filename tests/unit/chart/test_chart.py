"""What an administrator gets from each value of the chart."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.chart.rendering import CHART, Object, Render, Run, key, of_kind, one
from vectorindex.api import KINDS
from vectorindex.api.crd import build_crd

NAME = "vi-vectorindex-operator"
DIGEST = "sha256:" + "0123456789abcdef" * 4
BY_DIGEST = f"vectorindex-operator@{DIGEST}"


def container(rendered: list[Object]) -> Object:
    (only,) = one(rendered, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def default_image(rendered: list[Object]) -> str:
    return str(environment(rendered)["VECTORINDEX_IMAGE"]["value"])


def environment(rendered: list[Object]) -> dict[str, Object]:
    return {variable["name"]: variable for variable in container(rendered)["env"]}


def test_defaults_install_crds_rights_and_one_operator(render: Render) -> None:
    crds = [("CustomResourceDefinition", "", model.definition.crd_name) for model in KINDS]
    assert sorted(map(key, render())) == sorted(
        [
            *crds,
            ("ServiceAccount", "operators", NAME),
            ("ClusterRole", "", NAME),
            ("ClusterRoleBinding", "", NAME),
            ("Role", "operators", f"{NAME}-key"),
            ("RoleBinding", "operators", f"{NAME}-key"),
            ("Role", "operators", f"{NAME}-lease"),
            ("RoleBinding", "operators", f"{NAME}-lease"),
            ("ClusterRole", "", f"{NAME}-view"),
            ("ClusterRole", "", f"{NAME}-edit"),
            ("Deployment", "operators", NAME),
        ]
    )


def test_a_release_named_like_the_chart_does_not_repeat_it(helm: Run) -> None:
    assert "name: vectorindex-operator\n" in helm("template", "vectorindex-operator", CHART).stdout


@pytest.mark.parametrize("keep", [True, False])
def test_crds_are_the_generated_ones_and_kept_if_asked(render: Render, keep: bool) -> None:
    rendered = of_kind(render(f"crds.keep={str(keep).lower()}"), "CustomResourceDefinition")
    assert {each["metadata"]["name"]: each["spec"] for each in rendered} == {
        model.definition.crd_name: build_crd(model)["spec"] for model in KINDS
    }
    wanted = {"helm.sh/resource-policy": "keep"} if keep else None
    assert [each["metadata"].get("annotations") for each in rendered] == [wanted] * len(KINDS)


def test_crds_can_be_left_to_somebody_else(render: Render) -> None:
    assert not of_kind(render("crds.enabled=false"), "CustomResourceDefinition")


@pytest.mark.parametrize(
    ("settings", "operator", "sidecar"),
    [
        ([], "vectorindex-operator:dev", "vectorindex-operator:dev"),
        (["image.repository=r.example/vi", "image.tag=1.2.3"], "r.example/vi:1.2.3", "r.example/vi:1.2.3"),
        ([f"image.digest={DIGEST}"], f"vectorindex-operator@{DIGEST}", f"vectorindex-operator@{DIGEST}"),
        (
            [f"image.digest={DIGEST}", "image.tag=1.2.3"],
            f"vectorindex-operator@{DIGEST}",
            f"vectorindex-operator@{DIGEST}",
        ),
        (["sidecar.image=r.example/s:2"], "vectorindex-operator:dev", "r.example/s:2"),
    ],
    ids=["defaults", "repository and tag", "digest", "digest wins over tag", "another sidecar"],
)
def test_images(render: Render, settings: list[str], operator: str, sidecar: str) -> None:
    rendered = render(*settings)
    assert container(rendered)["image"] == operator
    assert default_image(rendered) == sidecar


def test_the_operator_meets_the_restricted_pod_security_standard(render: Render) -> None:
    pod = one(render(), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(render())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"volumes", "hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()


def test_a_new_operator_starts_before_the_old_one_ends(render: Render) -> None:
    spec = one(render(), "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_operators_agree_by_a_lease_of_their_release(render: Render) -> None:
    rendered = render()
    assert f"--lease-name={NAME}" in container(rendered)["args"]
    variables = environment(rendered)
    del variables["VECTORINDEX_IMAGE"]
    paths = {name: each["valueFrom"]["fieldRef"]["fieldPath"] for name, each in variables.items()}
    assert paths == {"POD_NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name", "POD_UID": "metadata.uid"}


@pytest.mark.parametrize("replicas", [0, 1, 2])
def test_several_operators_are_spread_and_not_evicted_together(render: Render, replicas: int) -> None:
    rendered = render(f"replicas={replicas}")
    deployment = one(rendered, "Deployment")
    assert deployment["spec"]["replicas"] == replicas
    pod = deployment["spec"]["template"]["spec"]
    if replicas < 2:
        assert not of_kind(rendered, "PodDisruptionBudget")
        assert "topologySpreadConstraints" not in pod
        return
    selector = deployment["spec"]["selector"]
    budget = one(rendered, "PodDisruptionBudget")
    assert key(budget) == ("PodDisruptionBudget", "operators", NAME)
    assert budget["spec"] == {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector}
    (spread,) = pod["topologySpreadConstraints"]
    assert spread == {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": selector,
    }


def test_probes_ask_the_health_port(render: Render) -> None:
    pod = container(render())
    assert "--health-port=8080" in pod["args"]
    assert pod["ports"] == [{"name": "health", "containerPort": 8080}]
    assert pod["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert pod["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


def test_pod_settings_arrive(render: Render) -> None:
    rendered = render(
        "image.pullPolicy=Always",
        "imagePullSecrets[0].name=registry",
        "resources.limits.memory=1Gi",
        "nodeSelector.disk=fast",
        "tolerations[0].key=only",
        "tolerations[0].operator=Exists",
        "affinity.podAntiAffinity.some=thing",
        "topologySpreadConstraints[0].topologyKey=zone",
        "replicas=3",
        "priorityClassName=system-cluster-critical",
        "podLabels.team=search",
        "podAnnotations.note=yes",
    )
    template = one(rendered, "Deployment")["spec"]["template"]
    pod = template["spec"]
    assert container(rendered)["imagePullPolicy"] == "Always"
    assert container(rendered)["resources"]["limits"] == {"memory": "1Gi"}
    assert one(rendered, "ServiceAccount")["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["tolerations"] == [{"key": "only", "operator": "Exists"}]
    assert pod["topologySpreadConstraints"] == [{"topologyKey": "zone"}]
    assert pod["affinity"] == {"podAntiAffinity": {"some": "thing"}}
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert template["metadata"]["labels"]["team"] == "search"
    assert template["metadata"]["annotations"] == {"note": "yes"}


def test_the_selector_does_not_change_with_version_or_settings(render: Render) -> None:
    deployment = one(render("podLabels.team=search"), "Deployment")
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "vectorindex-operator", "app.kubernetes.io/instance": "vi"}
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("watchNamespace=team-a", "additional properties 'watchNamespace' not allowed"),
        ("image.pullpolicy=Never", "additional properties 'pullpolicy' not allowed"),
        ("image.pullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("image.digest=sha256:12", "does not match pattern"),
        ("image.tag=1 2", "does not match pattern"),
        ("crds.keep=perhaps", "got string, want boolean"),
        ("replicas=many", "got string, want integer"),
        ("replicas=10", "maximum: got 10, want 9"),
        ("watchNamespaces[0]=Team_A", "does not match pattern"),
        ("watchNamespaces=team-a", "got string, want array"),
        ("resources.limit.cpu=1", "additional properties 'limit' not allowed"),
        ("tolerations[0].efect=NoExecute", "additional properties 'efect' not allowed"),
    ],
)
def test_a_value_that_is_wrong_is_refused_with_its_name(helm: Run, setting: str, message: str) -> None:
    result = helm("template", "vi", CHART, "--set", setting)
    assert result.returncode != 0
    assert message in result.stderr
    assert setting.split(".")[0].split("[")[0].split("=")[0] in result.stderr


def test_the_schema_knows_exactly_the_values() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert schema["properties"].keys() - {"global"} == values.keys()
    for name in ("image", "sidecar", "crds", "rbac"):
        assert schema["properties"][name]["properties"].keys() == values[name].keys()


def test_the_chart_works_as_a_dependency(helm: Run, tmp_path: Path) -> None:
    parent = {"apiVersion": "v2", "name": "platform", "version": "1.0.0"}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(parent))
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / CHART.name).symlink_to(CHART)
    result = helm("template", "vi", tmp_path, "--set", "global.region=here")
    assert result.returncode == 0, result.stderr
    assert "kind: Deployment" in result.stdout


def test_lint_finds_nothing(helm: Run) -> None:
    result = helm("lint", "--strict", CHART)
    assert result.returncode == 0, result.stdout + result.stderr
