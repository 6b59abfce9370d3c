"""An upgrade of the operator with another image for the pods: one index at a time, and no further than it works."""

from __future__ import annotations

import pytest

from tests.apiserver.operator.world import World, conditions, eventually

INDEXES = ("up-a", "up-b", "up-c")


@pytest.fixture(scope="module")
def three(world: World) -> World:
    for name in INDEXES:
        world.index(name, replicas=1)
    return world


def restart_with(world: World, image: str) -> None:
    """The Deployment of the operator is given another image for the pods."""
    world.operator.stop()
    world.operator.default_image = image
    world.operator.start()


def images(world: World) -> dict[str, str]:
    """Of the pods that are wanted, by index."""
    listed = world.api.get(f"/apis/apps/v1/namespaces/{world.namespace}/statefulsets")["items"]
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["image"] for each in listed}


def rolling(world: World) -> list[str]:
    """Indexes whose pods do not all have the newest template."""
    listed = world.api.get(f"/apis/apps/v1/namespaces/{world.namespace}/statefulsets")["items"]
    return [
        each["metadata"]["name"]
        for each in listed
        if each["status"].get("observedGeneration") != each["metadata"]["generation"]
        or each["status"]["currentRevision"] != each["status"]["updateRevision"]
    ]


def next_upgraded(world: World) -> str:
    """Wait until an index was upgraded."""
    eventually(lambda: rolling(world) != [], "an index is upgraded", lambda: world.operator.log[-3000:])
    [name] = rolling(world)  # never two
    eventually(lambda: rolling(world) != [name], f"the pods of {name} are ready", lambda: world.operator.log[-3000:])
    return name


def test_one_index_after_the_other_gets_the_new_image(three: World) -> None:
    restart_with(three, "vectorindex:next")
    upgraded = {next_upgraded(three) for _ in INDEXES}
    assert upgraded == set(INDEXES)
    assert set(images(three).values()) == {"vectorindex:next"}
    for name in INDEXES:
        three.reason("VectorIndex", name, "UpToDate", "Reconciling")


def test_an_image_that_does_not_start_reaches_one_index_and_the_others_say_which(three: World) -> None:
    three.broken_images.add("vectorindex:broken")
    restart_with(three, "vectorindex:broken")
    eventually(lambda: len(rolling(three)) == 1, "the upgrade begins", lambda: three.operator.log[-3000:])
    [stuck] = rolling(three)
    others = [name for name in INDEXES if name != stuck]
    for name in others:
        said = three.reason("VectorIndex", name, "RolloutPending", "Reconciling")["message"]
        assert f"waits until VectorIndex {three.namespace}/{stuck} is upgraded and all its pods are ready" in said
        assert conditions(three.get("VectorIndex", name)["status"])["Ready"]["status"] == "True"
    three.reason("VectorIndex", stuck, "PodsNotReady", "Ready")

    # What users change themselves is carried out all the same.
    scaled, changed = others
    before = three.get("VectorIndex", scaled)["spec"]["managed"]["replicas"]
    three.patch("VectorIndex", scaled, {"managed": {"replicas": before + 1}})
    three.wait("VectorIndex", scaled, lambda status: status["readyReplicas"] == before + 1, "one pod more")
    three.patch("VectorIndex", changed, {"managed": {"image": "vectorindex:mine"}})
    eventually(lambda: images(three)[changed] == "vectorindex:mine", "the user's own image")
    assert images(three)[scaled] == "vectorindex:next"

    # A restart of the operator changes nothing, and another image that works reaches the one that is stuck first.
    three.operator.kill()
    three.operator.start()
    three.reason("VectorIndex", scaled, "RolloutPending", "Reconciling")
    assert images(three)[scaled] == "vectorindex:next"
    restart_with(three, "vectorindex:mended")
    eventually(
        lambda: images(three)[scaled] == "vectorindex:mended", "all are upgraded", lambda: three.operator.log[-3000:]
    )
    assert images(three) == {stuck: "vectorindex:mended", scaled: "vectorindex:mended", changed: "vectorindex:mine"}
    for name in INDEXES:
        three.reason("VectorIndex", name, "UpToDate", "Reconciling")
