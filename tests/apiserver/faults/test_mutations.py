"""Every field of every kind with valid, boundary and invalid values: the API server says no, or the object says how it
goes; and the operator lives on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from devcluster.api import ApiError
from tests.apiserver.faults.mutations import Mutation, Schema, at, mutations, nested
from tests.apiserver.faults.stage import Stage
from tests.apiserver.faults.tally import chosen, tried
from tests.apiserver.operator.world import PLURALS, Object, conditions, eventually, random_items
from vectorindex.api import KINDS, IndexDelete, IndexOptimize, IndexRebuild, VectorIndex
from vectorindex.api.common import API_VERSION
from vectorindex.api.crd import build_crd

NAME = "mutated"
IDS, VECTORS = random_items(200)
SPECS: dict[str, Object] = {
    "IndexDelete": {"externalIDs": ["item-0", "nobody"]},
    "IndexRebuild": {},
    "IndexOptimize": {},
}
BLAMELESS = {"Completed", "DryRun", "AlreadyApplied"}
WAITING = {"IndexNotFound", "ConfigMapNotFound"}
TOO_MANY_PODS = 3
unused = itertools.count()


def schema(kind: str) -> Schema:
    model = next(model for model in KINDS if model.definition.kind == kind)
    version = build_crd(model)["spec"]["versions"][0]
    found: Schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def test_there_are_values_for_every_field() -> None:
    for kind in (VectorIndex, IndexDelete, IndexRebuild, IndexOptimize):
        found = list(mutations(schema(kind.definition.kind)))
        assert len({each.path for each in found}) >= 8
        assert len(found) > 5 * len({each.path for each in found})


@pytest.fixture(scope="module")
def index(stage: Stage) -> Iterator[str]:
    stage.index(NAME, replicas=1)
    stage.load(NAME, IDS, VECTORS)
    yield NAME
    stage.delete("VectorIndex", NAME)


def test_an_index_copes_with_any_value_and_is_as_before_when_it_is_taken_back(stage: Stage, index: str) -> None:
    pid = stage.operator.pid
    eventually(lambda: stage.is_settled(index), "settled")
    before, path = stage.get("VectorIndex", index), stage.path("vectorindexes", index)
    for mutation in chosen(list(mutations(schema("VectorIndex"))), 8):
        # What would start more pods than this machine has room for is only shown to the API server.
        replicas = mutation.value if mutation.path == ("managed", "replicas") else 1
        dry = isinstance(replicas, int) and replicas > TOO_MANY_PODS
        said = rejection(stage, "PATCH", path, {"spec": mutation.patch()}, dry=dry)
        if said is not None:
            assert "spec" in said or mutation.path[-1] in said, f"{mutation}: {said}"
            tried["VectorIndex: a field mutated, rejected by the API server"] += 1
        if dry or said is not None:
            continue
        explains_itself(stage, index, mutation)
        # What was not there at all goes as a whole.
        depth = next(
            (depth for depth in range(1, len(mutation.path)) if at(before["spec"], mutation.path[:depth]) is None),
            len(mutation.path),
        )
        taken_back, old = mutation.path[:depth], at(before["spec"], mutation.path[:depth])
        stage.patch("VectorIndex", index, nested(taken_back, clear(mutation.value, old)))
        eventually(
            lambda: stage.is_settled(index),
            f"settled after {mutation} was taken back",
            lambda: f"{stage.get('VectorIndex', index)['status']}\n{stage.operator.log[-2000:]}",
        )
        after = stage.get("VectorIndex", index)
        assert after["spec"] == before["spec"], mutation
        assert stated(after) == stated(before), mutation
        tried["VectorIndex: a field mutated and back"] += 1
    assert stage.operator.pid == pid
    assert stage.operator.running


def stated(manifest: Object) -> dict[str, tuple[str, str]]:
    return {kind: (each["status"], each["reason"]) for kind, each in conditions(manifest["status"]).items()}


def clear(value: object, old: object) -> object:
    """A merge patch that makes an object what it was: what was added has to be named."""
    if isinstance(value, dict) and isinstance(old, dict):
        return {**dict.fromkeys(value), **old}
    return old


def rejection(stage: Stage, method: str, path: str, body: Object, *, dry: bool = False) -> str | None:
    """What the API server says against it; None: it takes it."""
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    try:
        stage.api.request(method, path, body, query={"dryRun": "All"} if dry else {}, content_type=content_type)
    except ApiError as error:
        if error.status not in (400, 422):
            raise
        return error.message
    return None


def explains_itself(stage: Stage, index: str, mutation: Mutation) -> None:
    """The operator has seen it, and what is not as it should be has a reason and a message."""
    found: Object = {}

    def seen() -> bool:
        nonlocal found
        found = stage.get("VectorIndex", index)
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

    eventually(seen, f"{mutation} is seen", lambda: stage.operator.log[-2000:])
    for condition in found["status"]["conditions"]:
        assert condition["reason"]
        good = "False" if condition["type"] in ("Stalled", "Reconciling", "MaintenanceNeeded") else "True"
        assert condition["status"] == good or condition["message"], f"{mutation}: {condition}"


@pytest.mark.parametrize("kind", SPECS)
def test_a_run_with_any_value_is_rejected_or_says_how_it_ends(stage: Stage, index: str, kind: str) -> None:
    pid = stage.operator.pid
    base = {"indexRef": {"name": index}, **SPECS[kind]}
    for mutation in chosen(list(mutations(schema(kind))), 5):
        name = f"mutated-{next(unused)}"
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}}
        said = rejection(stage, "POST", stage.path(PLURALS[kind]), {**body, "spec": merged(base, mutation.patch())})
        if said is not None:
            assert "spec" in said or mutation.path[-1] in said, f"{mutation}: {said}"
            tried[f"{kind}: a field mutated, rejected by the API server"] += 1
            continue
        says_how_it_ends(stage, kind, name, str(mutation))
        with gone_by_its_time_to_live():
            stage.delete(kind, name)
        tried[f"{kind}: a field mutated"] += 1
    assert stage.operator.pid == pid
    assert stage.operator.running


@contextmanager
def gone_by_its_time_to_live() -> Iterator[None]:
    """A run may have been deleted by then, with ``ttlSecondsAfterFinished: 0``."""
    try:
        yield
    except ApiError as error:
        if error.status != 404:
            raise


def says_how_it_ends(stage: Stage, kind: str, name: str, what: str) -> None:
    """It has ended, or waits for somebody and says for whom."""
    found: Object = {}

    def told() -> bool:
        nonlocal found
        found = {"status": "True", "reason": "Completed"}
        with gone_by_its_time_to_live():
            found = conditions(stage.get(kind, name)["status"]).get("Succeeded", {})
        return found.get("status") in ("True", "False") or found.get("reason") in WAITING

    eventually(told, f"{what}: it is said how it ends", lambda: f"{found}\n{stage.operator.log[-2000:]}")
    assert found["reason"] in BLAMELESS or found["message"], f"{what}: {found}"


def merged(base: Object, patch: Object) -> Object:
    result = dict(base)
    for field, value in patch.items():
        both = isinstance(value, dict) and isinstance(result.get(field), dict)
        result[field] = merged(result[field], value) if both and value else value
    return result
