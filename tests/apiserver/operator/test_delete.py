"""IndexDelete on three pods with real sidecars: results, bad input, and faults in the middle."""

from __future__ import annotations

import json

import pytest

from tests.apiserver.operator.world import World, conditions, random_items

INDEX = "words"
IDS, VECTORS = random_items(1_000)


@pytest.fixture(scope="module")
def index(world: World) -> World:
    world.index(INDEX)
    world.load(INDEX, IDS, VECTORS)
    return world


def delete(world: World, name: str, **spec: object) -> None:
    world.create("IndexDelete", name, {"indexRef": {"name": INDEX}, **spec})


def from_config_map(name: str, key: str = "ids") -> dict[str, object]:
    return {"configMapKeyRef": {"name": name, "key": key}}


def test_inline_ids_are_gone_from_every_pod(index: World) -> None:
    delete(index, "inline", externalIDs=["item-0", "item-1", "item-0", "nobody"], returnNotFound=True)
    status = index.finished("IndexDelete", "inline")
    assert (status["deletedCount"], status["notFoundCount"], status["notFound"]) == (2, 1, ["nobody"])
    assert [(pod["state"], pod["deletedCount"]) for pod in status["pods"]] == [("Succeeded", 2)] * 3
    assert len({pod["volumeID"] for pod in status["pods"]}) == 3
    stated = conditions(status)
    assert {kind: stated[kind]["status"] for kind in stated} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Succeeded": "True",
    }
    assert stated["Succeeded"]["reason"] == "Completed"
    assert all("item-0" not in found for found in index.search(INDEX, VECTORS[0]))


def test_ids_from_a_config_map_by_lines_and_as_json(index: World) -> None:
    index.config_map("many", {"lines": "\n".join(IDS[10:200]) + "\n", "json": json.dumps(IDS[200:300])})
    delete(index, "lines", externalIDsFrom=from_config_map("many", "lines"))
    delete(index, "json", externalIDsFrom=from_config_map("many", "json"))
    assert index.finished("IndexDelete", "lines")["deletedCount"] == 190
    assert index.finished("IndexDelete", "json")["deletedCount"] == 100
    assert {state.counts.live for state in index.states(INDEX)} == {1_000 - 2 - 290}


def test_pods_that_differ_are_counted_by_items_not_copies(index: World) -> None:
    index.load(INDEX, ["everywhere"], VECTORS[:1])
    index.load_into("words-1", INDEX, ["only-here"], VECTORS[1:2])
    delete(index, "differ", externalIDs=["only-here", "everywhere"])
    status = index.finished("IndexDelete", "differ")
    assert (status["deletedCount"], status["notFoundCount"]) == (2, 0)
    assert [pod["deletedCount"] for pod in status["pods"]] == [1, 2, 1]


def test_a_dry_run_says_what_would_go_and_nothing_goes(index: World) -> None:
    before = [state.sequence for state in index.states(INDEX)]
    index.load_into("words-1", INDEX, ["only-there"], VECTORS[2:3])
    delete(index, "dry", externalIDs=["item-500", "only-there", "nobody"], dryRun=True, returnNotFound=True)
    status = index.finished("IndexDelete", "dry")
    stated = conditions(status)["Succeeded"]
    assert (stated["status"], stated["reason"]) == ("True", "DryRun")
    assert (status["deletedCount"], status["notFoundCount"], status["notFound"]) == (2, 1, ["nobody"])
    assert [pod["deletedCount"] for pod in status["pods"]] == [1, 2, 1]
    after = [state.sequence for state in index.states(INDEX)]
    assert [after[0], after[2]] == [before[0], before[2]]
    uid = index.get("IndexDelete", "dry")["metadata"]["uid"]
    assert not any(uid in index.operations(f"words-{ordinal}") for ordinal in range(3))


def test_a_delete_beyond_its_limit_takes_nothing_from_any_pod(index: World) -> None:
    before = [state.counts.live for state in index.states(INDEX)]
    delete(index, "too-much", externalIDs=IDS[500:900], maxDeletePercent=40)
    stated = conditions(index.finished("IndexDelete", "too-much"))["Succeeded"]
    assert (stated["status"], stated["reason"]) == ("False", "DeleteLimitExceeded")
    assert "400 of " in stated["message"]
    assert [state.counts.live for state in index.states(INDEX)] == before


def test_a_limited_delete_waits_for_every_pod_before_the_first_one_deletes(index: World) -> None:
    index.take_down("words-2")
    before = index.operations("words-0").keys()
    delete(index, "limited", externalIDs=["item-501", "item-502"], maxDeletePercent=1)
    condition = index.reason("IndexDelete", "limited", "PodsUnreachable")
    assert "nothing is deleted before every pod has said what would go" in condition["message"]
    assert index.operations("words-0").keys() == before
    index.bring_back("words-2")
    status = index.finished("IndexDelete", "limited")
    assert (conditions(status)["Succeeded"]["reason"], status["deletedCount"]) == ("Completed", 2)
    assert "previewTime" in status


def test_malformed_ids_fail_at_once_without_being_quoted(index: World) -> None:
    index.config_map("malformed", {"ids": '["secret-1", 2]'})
    delete(index, "malformed", externalIDsFrom=from_config_map("malformed"))
    status = index.finished("IndexDelete", "malformed")
    stated = conditions(status)["Succeeded"]
    assert stated["reason"] == "InvalidRequest"
    assert "element 2" in stated["message"]
    assert "secret" not in json.dumps(status)
    assert "startTime" not in status


def test_a_config_map_that_comes_later_is_waited_for(index: World) -> None:
    delete(index, "early", externalIDsFrom=from_config_map("later"))
    index.reason("IndexDelete", "early", "ConfigMapNotFound")
    index.config_map("later", {"ids": "item-300"})
    assert index.finished("IndexDelete", "early")["deletedCount"] == 1


def test_an_unknown_index_is_waited_for(index: World) -> None:
    index.create("IndexDelete", "unknown", {"indexRef": {"name": "nowhere"}, "externalIDs": ["a"]})
    condition = index.reason("IndexDelete", "unknown", "IndexNotFound")
    assert condition["status"] == "Unknown"
    assert "nowhere" in condition["message"]


def test_a_pod_that_is_down_is_waited_for_while_the_others_delete(index: World) -> None:
    index.take_down("words-2")
    delete(index, "down", externalIDs=["item-400", "item-401"])
    condition = index.reason("IndexDelete", "down", "PodsUnreachable")
    assert "words-2" in condition["message"]
    assert "2 of 3 pods confirmed" in condition["message"]
    index.reason("VectorIndex", INDEX, "PodsNotReady", "Ready")
    index.bring_back("words-2")
    status = index.finished("IndexDelete", "down")
    assert conditions(status)["Succeeded"]["reason"] == "Completed"
    assert status["deletedCount"] == 2


def test_the_operator_killed_in_the_middle_goes_on(index: World) -> None:
    index.take_down("words-0")
    delete(index, "killed", externalIDs=["item-410", "item-411", "nobody"])
    index.reason("IndexDelete", "killed", "PodsUnreachable")
    index.operator.kill()
    index.bring_back("words-0")
    index.operator.start()
    status = index.finished("IndexDelete", "killed")
    assert (status["deletedCount"], status["notFoundCount"]) == (2, 1)
    assert [pod["deletedCount"] for pod in status["pods"]] == [2, 2, 2]


def test_a_config_map_that_changes_before_every_pod_has_accepted_fails_the_run(index: World) -> None:
    index.take_down("words-1")
    index.config_map("changing", {"ids": "item-420"})
    delete(index, "changed", externalIDsFrom=from_config_map("changing"))
    index.reason("IndexDelete", "changed", "PodsUnreachable")
    index.config_map("changing", {"ids": "item-420\nitem-421"})
    status = index.finished("IndexDelete", "changed")
    index.bring_back("words-1")
    stated = conditions(status)["Succeeded"]
    assert stated["reason"] == "RequestChanged"
    assert "done on words-0, words-2" in stated["message"]


def test_cancelling_names_who_has_done_it(index: World) -> None:
    index.take_down("words-1")
    delete(index, "cancelled", externalIDs=["item-430"])
    index.reason("IndexDelete", "cancelled", "PodsUnreachable")
    index.patch("IndexDelete", "cancelled", {"cancel": True})
    status = index.finished("IndexDelete", "cancelled")
    index.bring_back("words-1")
    stated = conditions(status)["Succeeded"]
    assert (stated["status"], stated["reason"]) == ("False", "Cancelled")
    assert "done on words-0, words-2" in stated["message"]
    assert "words-1" in stated["message"]


def test_cancel_on_a_finished_run_changes_nothing_but_the_generation(index: World) -> None:
    before = index.finished("IndexDelete", "inline")
    index.patch("IndexDelete", "inline", {"cancel": True})
    after = index.wait("IndexDelete", "inline", lambda status: status["observedGeneration"] == 2, "generation 2")
    assert {condition.pop("observedGeneration") for condition in after["conditions"]} == {2}
    for condition in before["conditions"]:
        del condition["observedGeneration"]
    assert {**after, "observedGeneration": 1} == before


def test_every_end_is_told_once_as_an_event(index: World) -> None:
    told = [
        (event["regarding"]["name"], event["reason"])
        for event in index.events()
        if event["regarding"]["kind"] == "IndexDelete"
    ]
    assert ("inline", "Completed") in told
    assert ("changed", "RequestChanged") in told
    assert len(told) == len(set(told))
