"""Which pods an index should have, and whose answers count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.domain.given import OWN_PODS, UID, index, pod_of, state
from vectorindex.domain.members import (
    NO_POD,
    NoAnswer,
    Pod,
    WrongIdentity,
    judge,
    label_selector,
    members,
    place,
    read_pods,
    troubles,
)
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.state import IndexState, PodIdentity

OURS = PodIdentity(namespace="default", index="vi", uid=UID, pod="vi-0")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"identity": None}, "without an identity", id="started by hand"),
        pytest.param({"identity": OURS.model_copy(update={"namespace": "x"})}, "namespace is 'x'", id="namespace"),
        pytest.param({"identity": OURS.model_copy(update={"index": "x"})}, "index is 'x', not 'vi'", id="index"),
        pytest.param({"identity": OURS.model_copy(update={"pod": "vi-1"})}, "pod is 'vi-1'", id="another pod"),
        pytest.param({"identity": OURS.model_copy(update={"pod": ""})}, "set POD_NAME", id="it does not know its pod"),
        pytest.param({"dimensions": 9}, "9 dimensions and metric L2, not 8 and L2", id="dimensions"),
        pytest.param({"metric": "Cosine"}, "8 dimensions and metric Cosine", id="metric"),
    ],
)
def test_an_answer_of_another_one_does_not_count(changes: dict[str, Any], words: str) -> None:
    answer = judge(index(), "vi-0", state(**changes))
    assert isinstance(answer, WrongIdentity)
    assert words in answer.message


def test_a_pod_of_the_deleted_index_of_that_name_does_not_count_but_is_not_a_wrong_one() -> None:
    answer = judge(index(), "vi-0", state(identity=OURS.model_copy(update={"uid": "x"})))
    assert answer == NoAnswer(
        "still answers as a deleted VectorIndex of this name; if it does for minutes, delete the pod"
    )


def test_our_own_answer_counts() -> None:
    assert isinstance(judge(index(), "vi-0", state()), IndexState)


def pod(name: str, **changes: Any) -> dict[str, Any]:
    status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": "u", **changes.pop("metadata", {})},
        "status": {**status, **changes},
    }


@pytest.mark.parametrize(
    ("manifest", "address", "ready"),
    [
        pytest.param(pod("p"), "10.0.0.1", True, id="ready"),
        pytest.param(pod("p", phase="Pending"), None, True, id="not running"),
        pytest.param(pod("p", conditions=[{"type": "Ready", "status": "False"}]), "10.0.0.1", False, id="not ready"),
        pytest.param(pod("p", metadata={"deletionTimestamp": "t"}), "10.0.0.1", False, id="going away"),
        pytest.param({"metadata": {"name": "p", "namespace": "default", "uid": "u"}}, None, False, id="just created"),
    ],
)
def test_what_is_read_of_a_pod(manifest: dict[str, Any], address: str | None, ready: bool) -> None:
    read = Pod.read(manifest, "vi")
    assert read.endpoint == (None if address is None else Endpoint("default", "vi", "p", address, 8080))
    assert read.ready == ready


def container(name: str, **state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": name, "state": state}]}


@pytest.mark.parametrize(
    ("manifest", "trouble"),
    [
        pytest.param(pod("vi-0", phase="Pending"), "does not run yet", id="just created"),
        pytest.param(
            pod("vi-0", phase="Pending", **container("sidecar", waiting={"reason": "ImagePullBackOff"})),
            "does not run: ImagePullBackOff",
            id="no such image",
        ),
        pytest.param(
            pod("vi-0", **container("sidecar", waiting={"reason": "CrashLoopBackOff"})),
            "does not run: CrashLoopBackOff",
            id="it crashes",
        ),
        pytest.param(
            pod(
                "vi-0",
                phase="Pending",
                conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes have enough memory"}],
            ),
            "does not run: 0/3 nodes have enough memory",
            id="no node takes it",
        ),
        pytest.param(pod("vi-0", **container("sidecar", running={})), None, id="it runs"),
        pytest.param(pod("vi-0", **container("other", waiting={"reason": "x"})), None, id="another container waits"),
    ],
)
def test_why_a_pod_does_not_run(manifest: dict[str, Any], trouble: str | None) -> None:
    [first, *_] = members(index(), [Pod.read(manifest, "vi")], {"vi-0": state("vi-0")})
    assert first.trouble == trouble


def test_members_are_the_ordinals_below_replicas() -> None:
    names = ("vi-0", "vi-1", "vi-3", "vi-01", "other-2")
    pods = [replace(pod_of(name), endpoint=None) if name == "vi-1" else pod_of(name) for name in names]
    found = members(index(), pods, {name: state(name) for name in names})
    assert [(member.name, member.endpoint) for member in found] == [
        ("vi-0", pod_of("vi-0").endpoint),
        ("vi-1", None),
        ("vi-2", None),
    ]
    assert troubles(found) == ("vi-1 does not run yet", "vi-2 does not exist")


def test_a_pod_that_does_not_answer_is_not_called() -> None:
    [first, *_] = members(index(), [pod_of("vi-0")], {"vi-0": NoAnswer("connection refused")})
    assert first.endpoint is None
    assert first.trouble == "connection refused"


def names(found: Iterable[Pod]) -> list[str]:
    return [each.name for each in found]


def test_own_pods_are_those_that_match_less_those_that_have_ended() -> None:
    manifests = [
        pod("app-10"),
        pod("app-2", phase="Failed", reason="Evicted"),
        pod("app-1", phase="Pending"),
        pod("job-x", phase="Succeeded"),
        pod("app-3", metadata={"deletionTimestamp": "t"}),
    ]
    found = read_pods(index(**OWN_PODS, port=9000), manifests)
    assert names(found) == ["app-1", "app-3", "app-10"]
    assert [each.endpoint and each.endpoint.port for each in found] == [None, 9000, 9000]
    group = members(index(**OWN_PODS), found, {name: state(name) for name in ("app-3", "app-10")})
    assert [(each.name, each.leaving) for each in group] == [("app-1", False), ("app-3", True), ("app-10", False)]
    assert troubles(group) == ("app-1 does not run yet", "app-3 is being removed")


def test_an_index_without_pods_says_so() -> None:
    assert troubles(members(index(**OWN_PODS), (), {})) == (NO_POD,)


def test_none_is_called_of_more_pods_than_an_index_can_have() -> None:
    """They match by mistake; and those that are left out would not be told of a delete."""
    found = read_pods(index(**OWN_PODS), [pod(f"app-{number}") for number in range(257)])
    group = members(index(**OWN_PODS), found, {})
    assert len(group) == 256
    assert {each.endpoint for each in group} == {None}
    assert troubles(group)[0] == "app-0 is one of 257 pods that match spec.podSelector"
    assert read_pods(index(**OWN_PODS), [pod("app-0")] * 256)[0].endpoint is not None


def test_what_pods_are_found_by() -> None:
    assert label_selector(index()) == "vectorindex.io/index=vi"
    assert label_selector(index(**OWN_PODS)) == "app=shop"


def test_the_order_of_pods() -> None:
    names = ["b-0", "app-10", "app-x7", "b", "app-\u00b2", "app-2"]
    assert sorted(names, key=place) == ["app-2", "app-10", "app-x7", "app-\u00b2", "b", "b-0"]


def test_a_sidecar_may_be_an_init_container_that_goes_on() -> None:
    waiting = {"name": "sidecar", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    [found] = read_pods(index(**OWN_PODS), [pod("app-0", phase="Pending", initContainerStatuses=[waiting])])
    assert found.held_by == "does not run: CrashLoopBackOff"
