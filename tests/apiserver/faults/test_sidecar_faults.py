"""A sidecar killed, paused and cut off at every state of an operation: the run ends as if it had not been.

The faulty pod is the second one, so the run goes on with it after the first; and the operator goes on asking meanwhile.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.apiserver.faults.conftest import IDS, INDEX
from tests.apiserver.faults.stage import Stage, resume
from tests.apiserver.faults.tally import ALL, REPEAT, chosen, tried
from tests.apiserver.operator.world import Object, eventually, thaw
from vectorindex.engine.jobs import PROGRESS_AT, JobKind, Phase
from vectorindex.wire.operations import OperationState

POD = f"{INDEX}-1"
OUTAGE = 2.0
"""Seconds of it: longer than the operator waits between two looks."""
MAX_OUTAGE = 15.0
"""Longer than it waits for an answer."""
STEP = 0.005
"""Seconds that a builder goes on between two looks, so that no state of it is missed on a fast machine."""

BUILDS: dict[str, tuple[JobKind, Object]] = {
    "IndexRebuild": (JobKind.REBUILD, {}),
    "IndexOptimize": (JobKind.OPTIMIZE, {}),
}
unused = itertools.count()


@dataclass(frozen=True)
class Moment:
    """When a fault comes: at this much progress at the least, of an operation in this state; ``unread``: the operator
    has been kept from reading what it answers since it was at work."""

    title: str
    progress: int
    state: OperationState = OperationState.RUNNING
    unread: bool = False


def moments(job: JobKind) -> list[Moment]:
    """Every state of a build, in order."""
    steps = PROGRESS_AT[job]
    last = max(end for _, end in steps.values())
    within = [Moment(f"{percent} % of {Phase.GRAPH}", percent) for percent in (30, 50)]
    return [
        Moment("queued", 0, OperationState.QUEUED),
        *(Moment(str(phase), start) for phase, (start, _) in steps.items()),
        *within,
        Moment("swap", last),
        Moment("done and unread", 100, OperationState.SUCCEEDED, unread=True),
    ]


def kill(stage: Stage, held: int | None) -> None:
    stage.take_down(POD)
    stage.bring_back(POD)


def pause(stage: Stage, held: int | None, seconds: float = OUTAGE) -> None:
    pids = stage.pause(POD)
    time.sleep(seconds)
    resume(pids)


def refuse(stage: Stage, held: int | None, seconds: float = OUTAGE) -> None:
    stage.network.refuse(POD)
    release(held)
    time.sleep(seconds)
    stage.network.mend(POD)


def swallow(stage: Stage, held: int | None, seconds: float = OUTAGE) -> None:
    stage.network.swallow(POD)
    release(held)
    time.sleep(seconds)
    stage.network.mend(POD)


def release(held: int | None) -> None:
    if held is not None:
        with suppress(ProcessLookupError):
            thaw(held)


Fault = Callable[[Stage, int | None], None]
"""Breaks the pod, and mends it again. The builder, if one is held, goes on meanwhile if the fault lets it."""

FAULTS: dict[str, Fault] = {
    "killed": kill,
    "paused": pause,
    "cut off, connections refused": refuse,
    "cut off, nothing answered": swallow,
}
LONG: dict[str, Fault] = {
    "paused for long": lambda stage, held: pause(stage, held, MAX_OUTAGE),
    "cut off for long, nothing answered": lambda stage, held: swallow(stage, held, MAX_OUTAGE),
}


def strike(stage: Stage, uid: str, moment: Moment, fault: Fault) -> bool:
    """Wait for the moment and cause the fault. False: it was over before it could be seen."""
    operation = f"{uid}.1"
    eventually(lambda: operation in stage.operations(POD), "the pod has begun")
    held: int | None = None
    if moment.unread:
        stage.network.swallow(POD)
        eventually(lambda: stage.operations(POD)[operation].state is OperationState.SUCCEEDED, "the pod is done")
    elif moment.state is OperationState.RUNNING:
        sidecar = stage.sidecar(POD)

        def begun() -> bool:
            nonlocal held
            held = sidecar.stop_builder()
            return held is not None or stage.operations(POD)[operation].state.finished

        eventually(begun, "the pod builds")
        if held is None:
            return False
        try:
            while stage.operations(POD)[operation].progress < moment.progress:
                thaw(held)
                time.sleep(STEP)
                os.kill(held, signal.SIGSTOP)
        except ProcessLookupError:
            return False
    fault(stage, held)
    release(held)
    stage.network.mend(POD)
    return True


def build(stage: Stage, kind: str, moment: Moment | None, fault: Fault) -> tuple[Object, bool]:
    name = f"{kind.lower()}-{next(unused)}"
    stage.reason("VectorIndex", INDEX, "AllPodsReady", "Ready")
    made = stage.create(kind, name, {"indexRef": {"name": INDEX}, **BUILDS[kind][1]})
    struck = moment is not None and strike(stage, made["metadata"]["uid"], moment, fault)
    stage.finished(kind, name)
    return {**stage.ended(kind, name), "volumes": stage.volumes(INDEX)}, struck


@pytest.mark.parametrize("kind", BUILDS)
def test_a_build_ends_as_without_the_fault(stage: Stage, kind: str) -> None:
    build(stage, kind, None, kill)
    expected, _ = build(stage, kind, None, kill)
    faults = FAULTS | LONG if ALL else FAULTS
    cases = [(moment, title) for moment in moments(BUILDS[kind][0]) for title in faults] * REPEAT
    for moment, title in chosen(cases, 3):
        found, struck = build(stage, kind, moment, (FAULTS | LONG)[title])
        assert found == expected, f"{title} at {moment.title}"
        if struck:
            tried[f"sidecar {title} at a state of {kind}"] += 1


@pytest.mark.parametrize("title", FAULTS)
def test_a_delete_ends_as_without_the_fault(stage: Stage, ids: Iterator[list[str]], title: str) -> None:
    """The fault is there before the delete, and goes while the operator repeats it."""
    name = f"delete-{next(unused)}"
    before = stage.volumes(INDEX)

    def during(stage: Stage) -> None:
        stage.create("IndexDelete", name, {"indexRef": {"name": INDEX}, "externalIDs": next(ids)})
        eventually(
            lambda: len(stage.get("IndexDelete", name)["status"].get("pods", ())) == 2, "the other pod has answered"
        )

    match title:
        case "killed":
            stage.take_down(POD)
            during(stage)
            stage.bring_back(POD)
        case "paused":
            pids = stage.pause(POD)
            during(stage)
            resume(pids)
        case _:
            (stage.network.refuse if "refused" in title else stage.network.swallow)(POD)
            during(stage)
            stage.network.mend(POD)
    status = stage.finished("IndexDelete", name)
    assert (status["deletedCount"], status["notFoundCount"]) == (5, 0)
    assert [(pod["state"], pod["deletedCount"]) for pod in status["pods"]] == [("Succeeded", 5)] * 2
    after = stage.volumes(INDEX)
    assert [old["live"] - new["live"] for old, new in zip(before, after, strict=True)] == [5, 5]
    tried[f"sidecar {title} at a delete"] += 1


@pytest.fixture(scope="module")
def ids() -> Iterator[list[str]]:
    """Items that no test has deleted so far, five at a time, from the end."""
    return (IDS[start - 5 : start] for start in range(len(IDS), 0, -5))
