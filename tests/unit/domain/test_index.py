"""A VectorIndex: what its conditions say, and when its status is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.domain.given import (
    MEMBERS,
    NOW,
    OWN_PODS,
    begun,
    index,
    member,
    missing,
    parameters,
    rebuild_run,
    state,
)
from vectorindex.api.vectorindex import VectorIndexStatus
from vectorindex.domain.children import Child, Step
from vectorindex.domain.index import Applied, IndexSnapshot, decide, summarize
from vectorindex.domain.members import Member, NoAnswer, TooManyPods, WrongIdentity
from vectorindex.domain.rollout import Rollout
from vectorindex.wire.state import Configuration


def child(step: Step, kind: str = "Service", name: str = "vi") -> Child:
    return Child({"kind": kind, "metadata": {"name": name, "namespace": "default"}}, step)


def snapshot(**changes: Any) -> IndexSnapshot:
    fields: dict[str, Any] = {
        "now": NOW,
        "index": index(),
        "children": (child(Step.KEEP),),
        "rollout": Rollout(replicas=3),
        "members": MEMBERS,
    }
    return IndexSnapshot(**fields | changes)


def stated(status: VectorIndexStatus) -> dict[str, str]:
    return {condition.type: f"{condition.status.value}/{condition.reason}" for condition in status.conditions}


MISMATCH = WrongIdentity("answers as another one")


@pytest.mark.parametrize(
    ("changes", "applied", "ready", "reconciling", "stalled"),
    [
        pytest.param({}, Applied(), "True/AllPodsReady", "False/UpToDate", "False/NotStalled", id="all is well"),
        pytest.param(
            {"members": (member(0), member(1, ready=False), missing(2))},
            Applied(),
            "False/PodsNotReady",
            "True/Progressing",
            "False/NotStalled",
            id="pods are starting",
        ),
        pytest.param(
            {"members": (member(0), member(1), member(2, NoAnswer("connection refused")))},
            Applied(),
            "False/PodsNotReady",
            "True/Progressing",
            "False/NotStalled",
            id="a ready pod does not answer",
        ),
        pytest.param(
            {},
            Applied(changed=("StatefulSet vi",)),
            "True/AllPodsReady",
            "True/Progressing",
            "False/NotStalled",
            id="an object was applied",
        ),
        pytest.param(
            {"rollout": Rollout(rolling=True)},
            Applied(),
            "True/AllPodsReady",
            "True/RolloutInProgress",
            "False/NotStalled",
            id="a rollout",
        ),
        pytest.param(
            {"rollout": Rollout(pending=True)},
            Applied(),
            "True/AllPodsReady",
            "True/Progressing",
            "False/NotStalled",
            id="scaling",
        ),
        pytest.param(
            {"children": (child(Step.CONFLICT),)},
            Applied(),
            "False/NameConflict",
            "False/NameConflict",
            "True/NameConflict",
            id="an object of the name is another's",
        ),
        pytest.param(
            {"children": (child(Step.AWAIT_REMOVAL),), "members": (missing(0),)},
            Applied(),
            "False/PodsNotReady",
            "True/Progressing",
            "False/NotStalled",
            id="the index of that name before is still going away",
        ),
        pytest.param(
            {"members": (member(0), member(1, MISMATCH), member(2))},
            Applied(),
            "False/IdentityMismatch",
            "False/IdentityMismatch",
            "True/IdentityMismatch",
            id="a pod answers as another index",
        ),
        pytest.param(
            {},
            Applied(rejected={"StatefulSet vi": "size is invalid"}),
            "True/AllPodsReady",
            "False/InvalidSpec",
            "True/InvalidSpec",
            id="the API server refuses an object: what runs goes on",
        ),
    ],
)
def test_conditions(changes: dict[str, Any], applied: Applied, ready: str, reconciling: str, stalled: str) -> None:
    status = summarize(snapshot(**changes), applied).status
    conditions = stated(status)
    assert (conditions["Ready"], conditions["Reconciling"], conditions["Stalled"]) == (ready, reconciling, stalled)


@pytest.mark.parametrize(
    ("changes", "applied", "condition", "message"),
    [
        pytest.param({}, Applied(), "Ready", "3 pods ready", id="ready"),
        pytest.param(
            {"members": (member(0), missing(1), member(2, ready=False))},
            Applied(),
            "Ready",
            "1 of 3 pods ready: vi-1 does not exist, vi-2 is not ready",
            id="not ready",
        ),
        pytest.param(
            {"children": (child(Step.CONFLICT, "ConfigMap", "vi-identity"),)},
            Applied(),
            "Stalled",
            "ConfigMap vi-identity exists already and does not belong to this VectorIndex: remove it, or create a "
            "VectorIndex with another name",
            id="conflict",
        ),
        pytest.param(
            {"members": (member(0, MISMATCH),)}, Applied(), "Stalled", "pod vi-0 answers as another one", id="identity"
        ),
        pytest.param(
            {},
            Applied(rejected={"Service vi": "no"}),
            "Stalled",
            "the API server refuses Service vi: no",
            id="rejected",
        ),
    ],
)
def test_messages(changes: dict[str, Any], applied: Applied, condition: str, message: str) -> None:
    found = summarize(snapshot(**changes), applied).status.condition(condition)
    assert found is not None
    assert found.message == message


NEW_TEMPLATE = Child(child(Step.APPLY, "StatefulSet").desired, Step.APPLY, replaces_pods=True)
BUILDING = rebuild_run(begun(), name="weekly")


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        pytest.param({"building": BUILDING}, True, id="a build is at work"),
        pytest.param({}, False, id="no build is at work"),
        pytest.param(
            {"building": BUILDING, "members": (member(0), member(1, ready=False))}, False, id="it may be the repair"
        ),
    ],
)
def test_a_new_template_waits_for_a_build(changes: dict[str, Any], held: bool) -> None:
    seen = snapshot(children=(child(Step.APPLY), NEW_TEMPLATE), **changes)
    applied = [each.title for each in decide(seen).apply]
    assert applied == ["Service vi", *([] if held else ["StatefulSet vi"])]
    condition = summarize(seen, Applied()).status.condition("Reconciling")
    assert condition is not None
    words = "the new pod template of StatefulSet vi waits until IndexRebuild weekly is done"
    assert (condition.reason == "RolloutPending", condition.message == words) == (held, held)


LEAVING = replace(member(2, ready=False), leaving=True)


@pytest.mark.parametrize(
    ("members", "ready", "message", "replicas"),
    [
        pytest.param(MEMBERS, "True/AllPodsReady", "3 pods ready", 3, id="all that match are ready"),
        pytest.param(
            (member(0), member(1, ready=False)),
            "False/PodsNotReady",
            "1 of 2 pods ready: vi-1 is not ready",
            2,
            id="one is not ready",
        ),
        pytest.param((), "False/PodsNotReady", "no pod matches spec.podSelector", 0, id="there is none"),
        pytest.param(
            (member(0), LEAVING), "True/AllPodsReady", "1 pod ready", 1, id="one that goes away is not waited for"
        ),
        pytest.param((LEAVING,), "False/PodsNotReady", "no pod matches spec.podSelector", 0, id="the last one goes"),
    ],
)
def test_an_index_of_own_pods(members: tuple[Member, ...], ready: str, message: str, replicas: int) -> None:
    seen = snapshot(index=index(**OWN_PODS), members=members, rollout=Rollout())
    status = summarize(seen, Applied()).status
    condition = status.condition("Ready")
    assert condition is not None
    assert (stated(status)["Ready"], condition.message) == (ready, message)
    assert (status.replicas, status.selector) == (replicas, None)
    assert [pod.name for pod in status.pods] == [member.name for member in members]


UPGRADE = replace(NEW_TEMPLATE, is_upgrade=True)


@pytest.mark.parametrize(
    ("new", "changes", "held"),
    [
        pytest.param(UPGRADE, {"ahead": "vi-2 is upgraded"}, True, id="an upgrade waits for its turn"),
        pytest.param(UPGRADE, {}, False, id="it is its turn"),
        pytest.param(NEW_TEMPLATE, {"ahead": "vi-2 is upgraded"}, False, id="the user's own change does not wait"),
        pytest.param(
            UPGRADE,
            {"ahead": "vi-2 is upgraded", "members": (member(0), member(1, ready=False))},
            True,
            id="it waits though it may be the repair",
        ),
    ],
)
def test_one_index_at_a_time_is_upgraded(new: Child, changes: dict[str, Any], held: bool) -> None:
    seen = snapshot(children=(new,), **changes)
    assert bool(decide(seen).apply) is not held
    condition = summarize(seen, Applied()).status.condition("Reconciling")
    assert condition is not None
    words = "the new pod template of StatefulSet vi waits until vi-2 is upgraded"
    assert (condition.reason == "RolloutPending", condition.message == words) == (held, held)


def test_a_template_that_waits_holds_nothing_else_back() -> None:
    scaled = Child({**NEW_TEMPLATE.desired, "spec": {"replicas": 5}}, Step.APPLY)
    seen = snapshot(children=(replace(UPGRADE, meanwhile=scaled),), ahead="vi-2 is upgraded")
    assert decide(seen).apply == (scaled,)


def test_whom_an_upgrade_waits_for_is_written_as_rarely_as_figures() -> None:
    """Every index that waits would be written each time that another one's turn comes."""
    waits = {"children": (UPGRADE,), "ahead": "vi-2 is upgraded"}
    before = summarize(snapshot(**waits), Applied()).status
    for seconds, write in ((5, False), (60, True)):
        later = snapshot(
            index=index(before.to_dict()), **{**waits, "ahead": "vi-3 is"}, last_write=NOW - timedelta(seconds=seconds)
        )
        assert summarize(later, Applied()).write is write


def test_a_selector_that_matches_too_many_pods_is_to_be_repaired() -> None:
    too_many = TooManyPods("is one of 300 pods that match spec.podSelector")
    status = summarize(snapshot(index=index(**OWN_PODS), members=(member(0, too_many),)), Applied()).status
    assert (stated(status)["Ready"], stated(status)["Stalled"]) == ("False/PodsNotReady", "True/InvalidSpec")
    condition = status.condition("Stalled")
    assert condition is not None
    words = "pod vi-0 is one of 300 pods that match spec.podSelector: an index has 256 at most; ask for more labels"
    assert condition.message == words


def test_the_pods_that_exist_are_told_from_those_that_are_wanted() -> None:
    """``/scale`` reports them, and who scales by a measure divides by them."""
    status = summarize(snapshot(rollout=Rollout(pending=True, replicas=2)), Applied()).status
    assert status.replicas == 2


def test_totals_over_pods() -> None:
    answers = [
        state("vi-0", live=100, deleted=5, delta=1),
        state("vi-1", live=90, deleted=9, delta=3, parameters=parameters(m=32)),
    ]
    status = summarize(snapshot(members=tuple(map(member, range(2), answers))), Applied()).status
    assert (status.vectors, status.deleted_vectors, status.delta_vectors) == (100, 9, 3)
    assert status.bytes == 2_000
    assert status.parameters is None  # the pods differ
    assert (status.replicas, status.ready_replicas) == (3, 2)


def test_a_pod_that_does_not_answer_keeps_its_last_figures() -> None:
    before = summarize(snapshot(), Applied()).status
    members = (member(0), member(1, NoAnswer("connection refused")), member(2))
    status = summarize(snapshot(index=index(before.to_dict()), members=members), Applied()).status
    row = status.pods[1]
    assert (row.ready, row.message, row.vectors, row.boot_id) == (False, "connection refused", 100, "boot")


def test_before_any_pod_has_answered_nobody_knows_whether_maintenance_is_needed() -> None:
    status = summarize(snapshot(members=(missing(0),)), Applied()).status
    assert stated(status)["MaintenanceNeeded"] == "Unknown/PodsNotReady"
    assert status.vectors is None


def test_every_pod_gets_the_configuration_that_it_does_not_have() -> None:
    wanted = index(hnsw={"m": 32, "efSearch": 100}, maintenance={"deletedPercent": 30, "threads": 2})
    done = Configuration(
        ef_search=100, deleted_percent=30, delta_percent=10, min_items=1_000, threads=2, desired_m=32, serve=True
    )
    members = (member(0), member(1, state("vi-1", configuration=done)), member(2, NoAnswer("connection refused")))
    configure = decide(snapshot(index=wanted, members=members)).configure
    assert [(each.endpoint.pod, each.configuration) for each in configure] == [("vi-0", done)]
    unset = index(hnsw={"efSearch": 100}, maintenance={"deletedPercent": 30, "threads": 2})
    [_, second] = decide(snapshot(index=unset, members=members)).configure
    assert second.configuration == done.model_copy(update={"desired_m": None})


@pytest.mark.parametrize(
    ("steps", "applied"),
    [
        pytest.param((Step.APPLY, Step.KEEP, Step.APPLY), [0, 2], id="what is missing or differs"),
        pytest.param((Step.APPLY, Step.AWAIT_REMOVAL, Step.APPLY), [0], id="an object of a deleted index goes first"),
        pytest.param((Step.CONFLICT, Step.APPLY, Step.APPLY), [], id="an object of somebody else's goes first"),
    ],
)
def test_objects_are_applied_in_order(steps: tuple[Step, ...], applied: list[int]) -> None:
    children = tuple(child(step, name=str(place)) for place, step in enumerate(steps))
    assert decide(snapshot(children=children)).apply == tuple(children[place] for place in applied)


WRITTEN = summarize(snapshot(), Applied()).status
MORE = (member(0, state("vi-0", live=200)), member(1), member(2))
LESS_READY = (member(0), member(1), member(2, ready=False))


@pytest.mark.parametrize(
    ("changes", "write"),
    [
        pytest.param({}, False, id="nothing changed"),
        pytest.param({"last_write": NOW - timedelta(hours=1)}, False, id="nothing changed for an hour"),
        pytest.param({"members": MORE, "last_write": NOW - timedelta(seconds=59)}, False, id="figures after 59 s"),
        pytest.param({"members": MORE, "last_write": NOW - timedelta(seconds=60)}, True, id="figures after 60 s"),
        pytest.param(
            {"members": MORE, "last_write": NOW - timedelta(seconds=5), "run_ended": NOW - timedelta(seconds=1)},
            True,
            id="figures when a run has ended",
        ),
        pytest.param(
            {"members": MORE, "last_write": NOW - timedelta(seconds=5), "run_ended": NOW - timedelta(seconds=9)},
            False,
            id="a run that ended before the last write",
        ),
        pytest.param(
            {"members": MORE, "last_write": NOW + timedelta(hours=1)}, True, id="the API server is an hour ahead"
        ),
        pytest.param(
            {"members": MORE, "last_write": NOW - timedelta(seconds=5), "run_ended": NOW + timedelta(hours=1)},
            False,
            id="a run that ended by a clock an hour ahead",
        ),
        pytest.param({"members": LESS_READY, "last_write": NOW}, True, id="a condition at once"),
    ],
)
def test_when_the_status_is_written(changes: dict[str, Any], write: bool) -> None:
    fields = {"index": index(WRITTEN.to_dict()), "last_write": NOW, **changes}
    assert summarize(snapshot(**fields), Applied()).write is write


@pytest.mark.parametrize(
    ("quiet", "again"), [(0, 2.0), (10, 2.0), (100, 10.0), (10_000, 300.0)], ids=["now", "10 s", "100 s", "hours"]
)
def test_pods_are_asked_less_often_the_longer_nothing_happens(quiet: float, again: float) -> None:
    long_ago = NOW - timedelta(seconds=quiet)
    assert summarize(snapshot(last_write=long_ago), Applied()).again == again
    watched = {"managed": None, "podSelector": {"matchLabels": {"vectorindex.io/index": "vi"}}}
    assert summarize(snapshot(last_write=long_ago, index=index(**watched)), Applied()).again == again
    assert summarize(snapshot(last_write=long_ago, index=index(**OWN_PODS)), Applied()).again == min(again, 30.0)
    troubled = (member(0), member(1, ready=False), member(2))
    assert summarize(snapshot(last_write=long_ago, members=troubled), Applied()).again == min(again, 30.0)
    new = state("vi-1").model_copy(update={"configuration": Configuration()})
    for answer in (NoAnswer("connection refused"), new):
        starting = (member(0), member(1, answer, ready=False), member(2))
        soon = min(30.0, max(0.5, quiet / 10))
        assert summarize(snapshot(last_write=long_ago, members=starting), Applied()).again == soon
