"""What events have shown, asked as Kubernetes would be."""

from __future__ import annotations

from typing import Any

import pytest

from vectorindex.reconcile.seen import Seen, UnseenError


def manifest(version: int, name: str = "vi", kind: str = "Service", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "resourceVersion": str(version), "labels": labels}
    return {"kind": kind, "metadata": {**metadata, "managedFields": []}}


def pod(version: int, name: str, index: str = "vi", **labels: str) -> dict[str, Any]:
    return manifest(version, name, "Pod", **{"vectorindex.io/index": index, **labels})


@pytest.fixture
def seen() -> Seen:
    seen = Seen()
    seen.complete = True
    return seen


async def test_the_newest_state_stands_whatever_comes_late(seen: Seen) -> None:
    assert seen.note(manifest(9))
    assert seen.note(manifest(10, color="red"))
    assert not seen.note(manifest(9))
    assert not seen.note(manifest(10))
    found = await seen.get("Service", "default", "vi")
    assert found is not None
    assert found["metadata"]["labels"] == {"color": "red"}
    seen.forget(manifest(9))  # of one that had this name before
    assert await seen.get("Service", "default", "vi") is not None
    seen.forget(manifest(11))
    assert await seen.get("Service", "default", "vi") is None
    assert await seen.get("StatefulSet", "default", "vi") is None


async def test_pods_are_found_by_their_index_and_further_labels(seen: Seen) -> None:
    for each in (pod(1, "vi-1"), pod(2, "vi-0", tier="a"), pod(3, "other-0", "other"), manifest(4, "vi-2")):
        seen.note(each)
    own = "vectorindex.io/index=vi"
    assert [each["metadata"]["name"] for each in await seen.pods("default", own)] == ["vi-0", "vi-1"]
    assert [each["metadata"]["name"] for each in await seen.pods("default", f"{own},tier=a")] == ["vi-0"]
    assert await seen.pods("another", own) == []
    seen.forget(pod(5, "vi-0"))
    seen.note(pod(6, "vi-1", "other"))
    assert await seen.pods("default", own) == []
    assert seen.names("Pod", "default") == {("Pod", "default", "vi-1"), ("Pod", "default", "other-0")}


@pytest.mark.parametrize(
    "labels",
    [
        "app=mine",
        "vectorindex.io/index",
        "app in (a)",
        *(
            f"vectorindex.io/index=vi,{more}"
            for more in ("tier!=a", "tier in (a,b)", "tier notin (a)", "tier", "!tier")
        ),
    ],
)
async def test_pods_that_are_not_watched_are_not_said_to_be_none(seen: Seen, labels: str) -> None:
    with pytest.raises(UnseenError):
        await seen.pods("default", labels)


async def test_nothing_is_told_before_all_was_listed_and_nothing_is_written() -> None:
    seen = Seen()
    seen.note(manifest(1))
    with pytest.raises(UnseenError):
        await seen.get("Service", "default", "vi")
    with pytest.raises(UnseenError):
        await seen.pods("default", "vectorindex.io/index=vi")
    for write in (seen.apply({}), seen.apply_status({}, {}), seen.delete({})):
        with pytest.raises(UnseenError):
            await write


async def test_fields_of_other_managers_are_left_out(seen: Seen) -> None:
    ours, theirs = ({"manager": name, "operation": "Apply"} for name in ("vectorindex-operator", "kubectl"))
    full = manifest(1)
    full["metadata"]["managedFields"] = [theirs, ours]
    seen.note(full)
    found = await seen.get("Service", "default", "vi")
    assert found is not None
    assert found["metadata"]["managedFields"] == [ours]
