"""A fault at each request of a run in turn, and watches that break: what users see is as without the fault.

Here each kind of fault meets some requests of each kind of run, drawn by a fixed seed; `make faults` meets all of them.
"""

from __future__ import annotations

import copy
import os
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devcluster.api import Api
from devcluster.control_plane import ControlPlane
from tests.apiserver.operator.conftest import grant_rights
from tests.apiserver.operator.fault_proxy import Asked, Fault, FaultProxy, WatchFault
from tests.apiserver.operator.processes import Operator
from tests.apiserver.operator.world import (
    Object,
    World,
    eventually,
    new_namespace,
    random_items,
    thaw,
)
from vectorindex.api import KINDS

INDEX, PODS = "faulty", 2
ALL = os.environ.get("FAULTS") == "all"
REPEATED = 3
SOME = 2
"""Requests of a run that each kind of fault meets, unless all are asked for."""
IDS, VECTORS = random_items(3_000)
TIMES = {"startTime", "completionTime", "durationSeconds", "lastTransitionTime", "indexUID", "erasedBefore"}
MEASURED = {"recallBefore", "recallAfter", "computationsBefore", "computationsAfter", "linksRepaired", "bytesReclaimed"}
VARYING = TIMES | MEASURED | {"bytesBefore", "bytesAfter", "vectorsBefore", "vectorsAfter", "requestDigest"}
"""What differs between two runs without any fault."""


@dataclass
class Faulty:
    """A world whose operator asks the API server by way of a proxy. Each run deletes items of its own."""

    world: World
    proxy: FaultProxy
    _used: int = 0
    _runs: int = 0
    _expected: dict[str, tuple[Object, list[int]]] = field(default_factory=dict)

    def create(self, kind: str, name: str | None = None, **spec: Any) -> str:
        """Returns the name."""
        self._runs += 1
        name = name or f"run-{self._runs}"
        if kind == "IndexDelete":
            ids = IDS[self._used : self._used + 2]
            self._used += 2
            spec = {"externalIDs": [*ids, "nobody"], "returnNotFound": True, **spec}
        self.world.create(kind, name, {"indexRef": {"name": INDEX}, **spec})
        return name

    def done(self, kind: str, name: str) -> Object:
        """What came of a run that has ended, without what is different each time; each pod has done it once."""
        status = self.world.finished(kind, name)
        uid = self.world.get(kind, name)["metadata"]["uid"]
        operation = uid if kind == "IndexDelete" else f"{uid}.1"
        for ordinal in range(PODS):
            operations = self.world.operations(f"{INDEX}-{ordinal}")
            of_the_run = [each for each in operations.values() if each.id.startswith(uid)]
            assert [(each.id, each.state.value, each.restarts) for each in of_the_run] == [(operation, "Succeeded", 0)]
        return _steady(status)

    def expected(self, kind: str) -> tuple[Object, list[int]]:
        """What comes of a run without a fault, and which of the operator's requests are to meet one: all, but of those
        that are asked again and again only the first few."""
        if kind not in self._expected:
            self.proxy.arm()
            came_of_it = self.done(kind, self.create(kind))
            times, positions = Counter[Asked](), []
            for position, asked in enumerate(each for each in self.proxy.asked if not each.watch):
                times[asked] += 1
                if asked.method != "GET" or times[asked] <= REPEATED:
                    positions.append(position)
            self._expected[kind] = (came_of_it, positions)
        return self._expected[kind]


def _steady(status: Object) -> Object:
    status = copy.deepcopy(status)
    for part in (status, *status["pods"], *status["conditions"]):
        for name in VARYING & part.keys():
            del part[name]
    for condition in status["conditions"]:
        condition["message"] = condition["message"].partition("; recall")[0]
    return status


@pytest.fixture(scope="module")
def faulty(
    api: Api, control_plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Faulty]:
    folder = tmp_path_factory.mktemp("faulty")
    with new_namespace(api, f"faulty-{uuid.uuid4().hex[:8]}") as namespace, FaultProxy(control_plane) as proxy:
        account = grant_rights(api, control_plane.bin / "helm", namespace)
        direct = control_plane.kubeconfig_for(f"system:serviceaccount:{namespace}:{account}")
        through = proxy.kubeconfig(direct, folder / "kubeconfig")
        operator = Operator(through, namespace, folder / "operator.log", lease=account)
        with World(api, kubeconfig, operator, folder) as world:
            world.index(INDEX, replicas=PODS)
            world.load(INDEX, IDS, VECTORS)
            yield Faulty(world, proxy)


RUNS = ("IndexDelete", "IndexRebuild", "IndexOptimize")


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: str(fault.value))
def test_a_fault_at_a_request_changes_nothing(faulty: Faulty, kind: str, fault: Fault) -> None:
    expected, positions = faulty.expected(kind)
    for position in positions if ALL else sorted(random.Random(f"{kind} {fault}").sample(positions, SOME)):
        faulty.proxy.arm(fault, position)
        name = faulty.create(kind)
        assert faulty.done(kind, name) == expected, f"{fault} at {faulty.proxy.met} ({position})"


PASSING = (WatchFault.CLOSED, WatchFault.GONE, WatchFault.ERROR)


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: str(fault.value))
def test_a_watch_that_breaks_is_opened_again_and_misses_nothing(faulty: Faulty, fault: WatchFault) -> None:
    expected, _ = faulty.expected("IndexDelete")
    positions = range(5 + len(KINDS))  # a watch of each kind: pods, four that an index owns, and ours
    for position in positions if ALL else random.Random(fault.value).sample(positions, SOME):
        faulty.proxy.arm(fault, position)
        faulty.proxy.cut_watches()
        first = faulty.create("IndexDelete")
        eventually(
            lambda: not faulty.proxy.armed, "the watch is opened again", lambda: faulty.world.operator.log[-900:]
        )
        second = faulty.create("IndexDelete")
        for name in (first, second):
            assert faulty.done("IndexDelete", name) == expected, faulty.proxy.asked


def test_a_watch_that_is_refused_for_good_ends_the_operator_which_is_started_again(faulty: Faulty) -> None:
    expected, _ = faulty.expected("IndexDelete")
    operator = faulty.world.operator
    faulty.proxy.arm(WatchFault.REFUSED)
    faulty.proxy.cut_watches()
    assert operator.ended() == 1
    assert "vectorindex-operator: Watcher for " in operator.log
    operator.forget_log()  # kopf's own complaints, with tracebacks
    name = faulty.create("IndexDelete")
    operator.start()
    assert faulty.done("IndexDelete", name) == expected


@pytest.mark.parametrize("silent", [True, False], ids=["silent and cut", "late"])
def test_an_object_that_is_created_again_while_no_event_comes_is_another_one(faulty: Faulty, silent: bool) -> None:
    expected, _ = faulty.expected("IndexDelete")
    name = faulty.create("IndexDelete")
    assert faulty.done("IndexDelete", name) == expected
    no_events: Callable[[], Any] = faulty.proxy.silence if silent else faulty.proxy.delay
    with no_events():
        faulty.world.delete("IndexDelete", name)
        faulty.create("IndexDelete", name)
    assert faulty.done("IndexDelete", name) == expected


@pytest.mark.parametrize("silent", [True, False], ids=["silent and cut", "late"])
def test_a_rebuild_that_is_created_again_while_no_event_comes_takes_the_place_of_the_first(
    faulty: Faulty, silent: bool
) -> None:
    expected, _ = faulty.expected("IndexRebuild")
    world = faulty.world
    name = faulty.create("IndexRebuild")
    old = world.get("IndexRebuild", name)["metadata"]["uid"]
    builder = world.sidecar(f"{INDEX}-0").freeze_builder()
    no_events: Callable[[], Any] = faulty.proxy.silence if silent else faulty.proxy.delay
    with no_events():
        world.delete("IndexRebuild", name)
        faulty.create("IndexRebuild", name)
    first = f"{INDEX}-0"
    eventually(lambda: world.operations(first)[f"{old}.1"].state.value == "Cancelled", "the first one is cancelled")
    thaw(builder)
    assert faulty.done("IndexRebuild", name) == expected
    assert not any(each.startswith(old) for each in world.operations(f"{INDEX}-1"))


def test_what_changed_while_the_operator_was_down_is_all_seen(faulty: Faulty) -> None:
    expected, _ = faulty.expected("IndexDelete")
    world = faulty.world
    replaced = faulty.create("IndexDelete")
    assert faulty.done("IndexDelete", replaced) == expected
    rebuild = faulty.create("IndexRebuild")
    builder = world.sidecar(f"{INDEX}-0").freeze_builder()
    uid = world.get("IndexRebuild", rebuild)["metadata"]["uid"]
    world.operator.kill()
    world.delete("IndexRebuild", rebuild)
    world.delete("IndexDelete", replaced)
    faulty.create("IndexDelete", replaced)
    deletes = [replaced, faulty.create("IndexDelete"), faulty.create("IndexDelete")]
    world.patch("VectorIndex", INDEX, {"hnsw": {"efSearch": 99}})
    world.api.delete(f"/api/v1/namespaces/{world.namespace}/services/{INDEX}")
    world.operator.start()
    for name in deletes:
        assert faulty.done("IndexDelete", name) == expected
    operation = f"{uid}.1"
    first = f"{INDEX}-0"
    eventually(lambda: world.operations(first)[operation].state.value == "Cancelled", "its operation is cancelled")
    thaw(builder)
    world.wait(
        "VectorIndex", INDEX, lambda status: status.get("parameters", {}).get("efSearch") == 99, "efSearch applied"
    )
    service = f"/api/v1/namespaces/{world.namespace}/services/{INDEX}"
    eventually(lambda: world.exists(service), "the Service is there again")


@pytest.mark.skipif(not ALL, reason="it takes the 70 s after which a silent watch is given up: `make faults` runs it")
def test_a_watch_that_stays_silent_is_given_up(faulty: Faulty) -> None:
    expected, _ = faulty.expected("IndexDelete")
    faulty.proxy.arm()
    faulty.proxy.mute()
    name = faulty.create("IndexDelete")
    eventually(lambda: any(asked.watch for asked in faulty.proxy.asked), "watches are opened again", seconds=100.0)
    assert faulty.done("IndexDelete", name) == expected
