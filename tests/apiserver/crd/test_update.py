"""What may be changed later, and what may not."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from devcluster.api import Api, ApiError
from tests.apiserver.crd.manifests import Object, at, create, manifest, update

VI, DELETE, REBUILD = "VectorIndex", "IndexDelete", "IndexRebuild"
SOURCE = {"configMapKeyRef": {"name": "ids", "key": "ids.json"}}
OF_A_RUN = "the spec of a run cannot be changed, except cancel: create a new object with another name"
CANCELLED = "spec.cancel: Forbidden: a cancelled run cannot be taken up again"


class Case(NamedTuple):
    name: str
    kind: str
    before: Object
    patch: Object
    message: str


def of_index(path: str) -> str:
    return f"spec.{path}: Forbidden: {path} cannot be changed: create a VectorIndex with another name"


EITHER = "give exactly one of managed and podSelector"
NO_CHANGE = "spec: Forbidden: an index cannot change between managed and podSelector"
MANAGED: Object = {"storage": {"size": "1Gi"}}
BY_LABEL: Object = {"podSelector": {"matchLabels": {"app": "shop"}}}
OWN_PODS: Object = {"managed": None, **BY_LABEL}
CLASS = "managed.storage.storageClassName"
REFUSED = [
    Case("dimensions", VI, {}, at("dimensions", 3), of_index("dimensions")),
    Case("metric", VI, {}, at("metric", "L2"), of_index("metric")),
    Case("storage.size", VI, {}, at("managed.storage.size", "2Gi"), of_index("managed.storage.size")),
    Case("storageClassName changed", VI, at(CLASS, "fast"), at(CLASS, "slow"), of_index(CLASS)),
    Case("storageClassName added", VI, {}, at(CLASS, "fast"), of_index(CLASS)),
    Case("storageClassName removed", VI, at(CLASS, "fast"), at(CLASS, None), of_index(CLASS)),
    Case("managed to podSelector", VI, {}, OWN_PODS, NO_CHANGE),
    Case("podSelector to managed", VI, OWN_PODS, {"managed": MANAGED, "podSelector": None}, NO_CHANGE),
    Case("podSelector as well", VI, {}, BY_LABEL, EITHER),
    Case("podSelector taken away", VI, OWN_PODS, {"podSelector": None}, EITHER),
    Case("index of a delete", DELETE, {}, at("indexRef.name", "other"), OF_A_RUN),
    Case("an ID more", DELETE, {}, at("externalIDs", ["cat", "dog", "cow"]), OF_A_RUN),
    Case("IDs in another order", DELETE, {}, at("externalIDs", ["dog", "cat"]), OF_A_RUN),
    Case("IDs from elsewhere", DELETE, {}, {"externalIDs": None, "externalIDsFrom": SOURCE}, OF_A_RUN),
    Case("returnNotFound", DELETE, {}, at("returnNotFound", True), OF_A_RUN),
    Case("dryRun", DELETE, at("dryRun", True), at("dryRun", False), OF_A_RUN),
    Case("operationID", DELETE, {}, at("operationID", "x"), OF_A_RUN),
    Case("limit of a delete", DELETE, at("maxDeletePercent", 5), at("maxDeletePercent", 50), OF_A_RUN),
    Case("deadline added", DELETE, {}, at("activeDeadlineSeconds", 60), OF_A_RUN),
    Case("deadline removed", DELETE, at("activeDeadlineSeconds", 60), at("activeDeadlineSeconds", None), OF_A_RUN),
    Case("time to live", DELETE, {}, at("ttlSecondsAfterFinished", 60), OF_A_RUN),
    Case("backoffLimit", REBUILD, {}, at("backoffLimit", 5), OF_A_RUN),
    Case("index of a rebuild", REBUILD, {}, at("indexRef.name", "other"), OF_A_RUN),
    Case("params added", REBUILD, {}, at("params.m", 32), OF_A_RUN),
    Case("params removed", REBUILD, at("params.m", 32), at("params", None), OF_A_RUN),
    Case("params changed", REBUILD, at("params.m", 32), at("params.m", 33), OF_A_RUN),
    Case("one parameter more", REBUILD, at("params.m", 32), at("params.seed", 1), OF_A_RUN),
    Case("verify changed", REBUILD, {}, at("verify.k", 20), OF_A_RUN),
    Case("limit added", REBUILD, {}, at("verify.minRecallPercent", 90), OF_A_RUN),
    Case("cancel with another change", REBUILD, {}, {"cancel": True, "params": {"m": 32}}, OF_A_RUN),
    Case("delete taken up again", DELETE, at("cancel", True), at("cancel", False), CANCELLED),
    Case("rebuild taken up again", REBUILD, at("cancel", True), at("cancel", False), CANCELLED),
    Case("cancel taken away", REBUILD, at("cancel", True), at("cancel", None), CANCELLED),
]

TAKEN = [
    Case("replicas", VI, {}, at("managed.replicas", 3), ""),
    Case("image", VI, {}, at("managed.image", "sidecar:2"), ""),
    Case("resources", VI, {}, at("managed.resources.limits.cpu", "2"), ""),
    Case("reclaim", VI, {}, at("managed.storage.reclaim", "Delete"), ""),
    Case("reclaim, with a class", VI, at(CLASS, "fast"), at("managed.storage.reclaim", "Delete"), ""),
    Case("podSelector", VI, OWN_PODS, at("podSelector.matchLabels", {"app": "mall"}), ""),
    Case("port", VI, OWN_PODS, at("port", 9_000), ""),
    Case("hnsw added", VI, {}, at("hnsw.efSearch", 100), ""),
    Case("hnsw removed", VI, at("hnsw.m", 8), at("hnsw", None), ""),
    Case("maintenance", VI, {}, at("maintenance.deletedPercent", 50), ""),
    Case("suspend", VI, {}, at("suspend", True), ""),
    Case("cancel a delete", DELETE, {}, at("cancel", True), ""),
    Case("cancel a rebuild", REBUILD, at("params.m", 8), at("cancel", True), ""),
    Case("the same delete again", DELETE, {}, at("externalIDs", ["cat", "dog"]), ""),
    Case("the default written out", REBUILD, {}, at("verify", {"samples": 200, "k": 10}), ""),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.kind}: {case.name}")
def test_what_cannot_be_changed(api: Api, namespace: str, case: Case) -> None:
    create(api, namespace, manifest(case.kind, case.before))
    with pytest.raises(ApiError) as refused:
        update(api, namespace, case.kind, case.patch)
    assert case.message in refused.value.message


@pytest.mark.parametrize("case", TAKEN, ids=lambda case: f"{case.kind}: {case.name}")
def test_what_can_be_changed(api: Api, namespace: str, case: Case) -> None:
    create(api, namespace, manifest(case.kind, case.before))
    update(api, namespace, case.kind, case.patch)


def test_the_largest_delete_can_be_created_and_cancelled(api: Api, namespace: str) -> None:
    """The API server ends CEL rules that cost too much: the largest object must stay below that."""
    ids = [f"{number:04d}".ljust(512, "x") for number in range(1_000)]
    create(api, namespace, manifest(DELETE, at("externalIDs", ids)))
    assert update(api, namespace, DELETE, at("cancel", True), dry_run=False)["spec"]["cancel"] is True


def test_the_message_of_a_refused_change_does_not_quote_the_whole_spec(api: Api, namespace: str) -> None:
    create(api, namespace, manifest(DELETE))
    with pytest.raises(ApiError) as refused:
        update(api, namespace, DELETE, at("externalIDs", ["a-very-long-name"]))
    assert "a-very-long-name" not in refused.value.message
    assert "spec: Forbidden" in refused.value.message
