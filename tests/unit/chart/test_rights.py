"""The operator gets exactly the rights that its code uses, where it was told to work."""

from __future__ import annotations

import pytest

from tests.unit.chart.rendering import Object, Render, of_kind

NAME = "vi-vectorindex-operator"
OURS = ("indexdeletes", "indexoptimizes", "indexrebuilds", "vectorindexes")
APPLY = {"get", "list", "watch", "create", "patch"}

RIGHTS: dict[tuple[str, str], set[str]] = {
    **{("vectorindex.io", kind): {"get", "list", "watch", "delete"} for kind in OURS},
    ("vectorindex.io", "vectorindexes"): {"get", "list", "watch"},
    **{("vectorindex.io", f"{kind}/status"): {"patch"} for kind in OURS},
    ("", "pods"): {"list", "watch"},
    ("", "configmaps"): APPLY,
    ("", "services"): APPLY,
    ("apps", "statefulsets"): APPLY,
    ("policy", "poddisruptionbudgets"): APPLY,
    ("events.k8s.io", "events"): {"create"},
}
"""(API group, resource) → verbs."""
LEASE = {("coordination.k8s.io", f"leases/{NAME}"): {"get", "create", "update"}}
KEY = {("", "secrets/vectorindex-operator-key"): {"get", "create", "patch"}}
"""In the namespace of the release, and each for this one object."""


def rights(role: Object) -> dict[tuple[str, str], set[str]]:
    """A role's rules, spelled out. Each must be of this plain form: no URLs, nothing given twice."""
    result: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        if "resourceNames" in rule:
            (resource,), (name,) = rule["resources"], rule.pop("resourceNames")
            rule["resources"] = [f"{resource}/{name}"]
        assert rule.keys() == {"apiGroups", "resources", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                assert (group, resource) not in result
                result[group, resource] = set(rule["verbs"])
    return result


def test_the_whole_cluster_by_one_cluster_role(render: Render) -> None:
    rendered = render()
    (role,) = [each for each in of_kind(rendered, "ClusterRole") if each["metadata"]["name"] == NAME]
    assert rights(role) == RIGHTS
    (binding,) = of_kind(rendered, "ClusterRoleBinding")
    assert_binds(binding, "ClusterRole")
    assert [rights(each) for each in of_kind(rendered, "Role")] == [KEY, LEASE]
    assert len(of_kind(rendered, "RoleBinding")) == 2
    assert not [argument for argument in deployment_arguments(rendered) if argument.startswith("--namespace")]


@pytest.mark.parametrize("namespaces", [["team-a"], ["team-a", "team-b"]], ids=len)
def test_some_namespaces_by_roles_and_nothing_cluster_wide(render: Render, namespaces: list[str]) -> None:
    rendered = render(f"watchNamespaces={{{','.join(namespaces)}}}")
    roles = [each for each in of_kind(rendered, "Role") if each["metadata"]["name"] == NAME]
    assert [each["metadata"]["namespace"] for each in roles] == namespaces
    assert all(rights(each) == RIGHTS for each in roles)
    bindings = [each for each in of_kind(rendered, "RoleBinding") if each["metadata"]["name"] == NAME]
    assert [each["metadata"]["namespace"] for each in bindings] == namespaces
    for binding in bindings:
        assert_binds(binding, "Role")
    assert not of_kind(rendered, "ClusterRole", "ClusterRoleBinding")
    watched = [argument for argument in deployment_arguments(rendered) if argument.startswith("--namespace")]
    assert watched == [f"--namespace={namespace}" for namespace in namespaces]


@pytest.mark.parametrize("setting", ["crds.enabled=true", "watchNamespaces={operators,team-a}"])
@pytest.mark.parametrize(("name", "wanted"), [(f"{NAME}-lease", LEASE), (f"{NAME}-key", KEY)], ids=["lease", "key"])
def test_its_lease_and_its_key_and_no_others_where_it_runs(
    render: Render, setting: str, name: str, wanted: dict[tuple[str, str], set[str]]
) -> None:
    rendered = render(setting)
    (role,) = [each for each in of_kind(rendered, "Role") if each["metadata"]["name"] == name]
    (binding,) = [each for each in of_kind(rendered, "RoleBinding") if each["metadata"]["name"] == name]
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "operators"
    assert rights(role) == wanted
    assert_binds(binding, "Role", name)


def test_no_wildcard_no_secret_no_exec_whatever_is_set(render: Render) -> None:
    for settings in ([], ["watchNamespaces={team-a}"], ["rbac.aggregate=false"]):
        for role in of_kind(render(*settings), "Role", "ClusterRole"):
            for (group, resource), verbs in rights(role).items():
                assert "*" not in {group, resource} | verbs
                assert resource not in {"secrets", "pods/exec", "nodes/proxy", "serviceaccounts/token"}
                assert not verbs & {"escalate", "bind", "impersonate"}


def test_users_get_our_kinds_through_the_built_in_roles(render: Render) -> None:
    roles = {each["metadata"]["name"]: each for each in of_kind(render(), "ClusterRole")}
    view, edit = roles[f"{NAME}-view"], roles[f"{NAME}-edit"]
    scale = ("vectorindex.io", "vectorindexes/scale")
    assert rights(view) == {("vectorindex.io", kind): {"get", "list", "watch"} for kind in OURS} | {scale: {"get"}}
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    assert rights(edit) == {("vectorindex.io", kind): writes for kind in OURS} | {scale: {"update", "patch"}}
    assert aggregated_to(view) == {"view", "edit", "admin"}
    assert aggregated_to(edit) == {"edit", "admin"}


@pytest.mark.parametrize("setting", ["rbac.aggregate=false", "watchNamespaces={team-a}"])
def test_the_built_in_roles_are_left_alone(render: Render, setting: str) -> None:
    assert not [each for each in of_kind(render(setting), "ClusterRole") if each["metadata"]["name"] != NAME]


def test_only_the_operators_pod_gets_a_token(render: Render) -> None:
    (account,) = of_kind(render(), "ServiceAccount")
    (deployment,) = of_kind(render(), "Deployment")
    assert account["automountServiceAccountToken"] is False
    assert deployment["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def assert_binds(binding: Object, kind: str, name: str = NAME) -> None:
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": "operators"}]


def aggregated_to(role: Object) -> set[str]:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    return {
        label.removeprefix(prefix)
        for label, value in role["metadata"]["labels"].items()
        if label.startswith(prefix) and value == "true"
    }


def deployment_arguments(rendered: list[Object]) -> list[str]:
    (deployment,) = of_kind(rendered, "Deployment")
    arguments: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments
