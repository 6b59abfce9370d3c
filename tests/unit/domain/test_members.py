"""Which pods an index should have, and whose answers count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.domain.given import UID, index, pod_of, state
from vectorindex.domain.members import NoAnswer, Pod, WrongIdentity, judge, members, troubles
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
    assert answer == NoAnswer("belongs to a deleted VectorIndex of this name; if it stays, delete the pod")


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
