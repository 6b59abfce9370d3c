"""What is done about an owned object: the one that should be and the one that is go in, the step comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from vectorindex.domain.children import Step, plan

DESIRED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {
        "name": "vi",
        "namespace": "default",
        "labels": {"a": "1"},
        "ownerReferences": [{"kind": "VectorIndex", "name": "vi", "uid": "ours", "controller": True}],
    },
    "spec": {
        "replicas": 3,
        "template": {
            "metadata": {"annotations": {"vectorindex.io/requested": "asked"}},
            "spec": {
                "containers": [{"name": "sidecar", "args": ["x", "y"], "ports": [{"containerPort": 1}]}],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    },
}
OWNED = {
    "f:metadata": {"f:labels": {"f:a": {}}, "f:ownerReferences": {'k:{"uid":"ours"}': {}}},
    "f:spec": {
        "f:replicas": {},
        "f:template": {
            "f:metadata": {"f:annotations": {"f:vectorindex.io/requested": {}}},
            "f:spec": {
                "f:containers": {
                    'k:{"name":"sidecar"}': {
                        ".": {},
                        "f:name": {},
                        "f:args": {},
                        "f:ports": {'k:{"containerPort":1,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                    }
                },
                "f:volumes": {'k:{"name":"tmp"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
            },
        },
    },
}


def live(change: Callable[[dict[str, Any]], object] = lambda live: None, **owned: Any) -> dict[str, Any]:
    """The object as the API server keeps it, with defaults; then changed."""
    found = copy.deepcopy(DESIRED)
    found["metadata"]["resourceVersion"] = "7"
    found["metadata"]["managedFields"] = [
        {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {}},
        {"manager": "vectorindex-operator", "operation": "Apply", "fieldsV1": {**OWNED, **owned}},
    ]
    found["spec"]["revisionHistoryLimit"] = 10
    container(found)["ports"][0]["protocol"] = "TCP"
    container(found)["imagePullPolicy"] = "Always"
    change(found)
    return found


def container(found: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = found["spec"]["template"]["spec"]["containers"][0]
    return first


def test_what_does_not_exist_is_applied() -> None:
    assert plan(DESIRED, None).step is Step.APPLY


def test_defaults_and_foreign_fields_are_no_difference() -> None:
    def foreign(found: dict[str, Any]) -> None:
        found["metadata"]["labels"]["theirs"] = "2"
        found["spec"]["template"]["spec"]["containers"].insert(0, {"name": "injected"})

    assert plan(DESIRED, live()).step is Step.KEEP
    assert plan(DESIRED, live(foreign)).step is Step.KEEP


@pytest.mark.parametrize(
    ("wanted", "stored", "step"),
    [
        pytest.param("0.5", "500m", Step.KEEP, id="CPU"),
        pytest.param("1024Mi", "1Gi", Step.KEEP, id="memory"),
        pytest.param("1Gi", "1G", Step.APPLY, id="another amount"),
        pytest.param("1Gi", None, Step.APPLY, id="not there"),
    ],
)
def test_an_amount_that_is_written_in_another_way_is_no_difference(wanted: str, stored: str | None, step: Step) -> None:
    desired = copy.deepcopy(DESIRED)
    container(desired)["resources"] = {"limits": {"example.com/x": wanted}}
    held = {} if stored is None else {"example.com/x": stored}
    assert plan(desired, live(lambda found: container(found).update(resources={"limits": held}))).step is step


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        pytest.param(lambda found: found["spec"].update(replicas=5), ".spec.replicas", id="a value"),
        pytest.param(lambda found: found["metadata"]["labels"].clear(), ".metadata.labels.a", id="a field is gone"),
        pytest.param(lambda found: container(found)["args"].reverse(), ".spec.template.spec.containers", id="an order"),
        pytest.param(
            lambda found: found["spec"]["template"]["spec"]["volumes"].clear(),
            ".spec.template.spec.volumes",
            id="an element is gone",
        ),
    ],
)
def test_drift_of_what_we_own_is_reverted(change: Callable[[dict[str, Any]], object], difference: str) -> None:
    child = plan(DESIRED, live(change))
    assert (child.step, child.difference, child.version) == (Step.APPLY, difference, "7")


@pytest.mark.parametrize(
    ("owned", "difference"),
    [
        pytest.param({"f:spec": {"f:paused": {}}}, ".spec.paused", id="a field"),
        pytest.param(
            {"f:metadata": {"f:ownerReferences": {'k:{"uid":"old"}': {}}}},
            '.metadata.ownerReferences[{"uid":"old"}]',
            id="an element",
        ),
        pytest.param({"f:metadata": {"f:labels": {'v:"x"': {}}}}, '.metadata.labels["x"]', id="a value of a set"),
    ],
)
def test_what_we_applied_and_no_longer_want_is_removed(owned: dict[str, Any], difference: str) -> None:
    child = plan(DESIRED, live(**owned))
    assert (child.step, child.difference) == (Step.APPLY, difference)


@pytest.mark.parametrize(
    ("owners", "step"),
    [
        pytest.param([], Step.CONFLICT, id="nobody's"),
        pytest.param([{"kind": "Deployment", "name": "vi", "uid": "x"}], Step.CONFLICT, id="somebody else's"),
        pytest.param([{"kind": "VectorIndex", "name": "other", "uid": "x"}], Step.CONFLICT, id="another index's"),
        pytest.param(
            [{"kind": "VectorIndex", "name": "vi", "uid": "x"}], Step.AWAIT_REMOVAL, id="the index of that name before"
        ),
    ],
)
def test_what_is_not_ours_is_left_alone(owners: list[dict[str, str]], step: Step) -> None:
    assert plan(DESIRED, live(lambda found: found["metadata"].update(ownerReferences=owners))).step is step


NODE_SELECTOR: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {}}}}}


@pytest.mark.parametrize(
    ("found", "replaces"),
    [
        pytest.param(live(lambda it: it["spec"].update(replicas=2)), False, id="scaled"),
        pytest.param(live(lambda it: it["spec"]["template"]["spec"].update(volumes=[])), True, id="another template"),
        pytest.param(
            live(lambda it: (it["spec"].update(replicas=2), it["spec"]["template"]["spec"].update(volumes=[]))),
            True,
            id="both",
        ),
        pytest.param(
            live(**NODE_SELECTOR),
            True,
            id="something of the template is no longer wanted",
        ),
        pytest.param(None, False, id="there are no pods yet"),
    ],
)
def test_only_another_template_replaces_pods(found: dict[str, Any] | None, replaces: bool) -> None:
    child = plan(DESIRED, found)
    assert (child.step, child.replaces_pods) == (Step.APPLY, replaces)


def ask(digest: str | None) -> Callable[[dict[str, Any]], object]:
    """Pods of another image, made when the VectorIndex asked for this."""

    def change(found: dict[str, Any]) -> None:
        found["spec"]["template"]["metadata"] = {"annotations": {"vectorindex.io/requested": digest}} if digest else {}
        container(found)["args"] = ["x"]

    return change


@pytest.mark.parametrize(
    ("digest", "upgrade"),
    [
        pytest.param("asked", True, id="the user asks for the same"),
        pytest.param("another", False, id="the user asks for something else"),
        pytest.param(None, True, id="nobody wrote down what was asked for"),
    ],
)
def test_an_upgrade_is_told_from_a_change_of_the_users(digest: str | None, upgrade: bool) -> None:
    child = plan(DESIRED, live(ask(digest)))
    assert (child.replaces_pods, child.is_upgrade) == (True, upgrade)


def test_while_the_pods_stay_as_they_are_the_rest_is_applied_with_the_template_that_was_applied_last() -> None:
    def scaled_with_another_template(found: dict[str, Any]) -> None:
        ask("asked")(found)
        found["spec"]["replicas"] = 2
        found["spec"]["template"]["metadata"]["annotations"]["somebody/elses"] = "1"

    meanwhile = plan(DESIRED, live(scaled_with_another_template)).meanwhile
    assert meanwhile is not None
    assert (meanwhile.difference, meanwhile.version) == (".spec.replicas", "7")
    assert meanwhile.desired["spec"]["replicas"] == 3
    ports = [{"containerPort": 1, "protocol": "TCP"}]
    assert meanwhile.desired["spec"]["template"] == {
        "metadata": {"annotations": {"vectorindex.io/requested": "asked"}},
        "spec": {
            "containers": [{"name": "sidecar", "args": ["x"], "ports": ports}],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def test_while_the_pods_stay_as_they_are_nothing_else_is_to_be_done() -> None:
    assert plan(DESIRED, live(ask("asked"))).meanwhile is None
