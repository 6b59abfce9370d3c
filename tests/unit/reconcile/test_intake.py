"""Which keys an event enters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from vectorindex.reconcile.intake import Intake
from vectorindex.reconcile.keys import Key, Work
from vectorindex.reconcile.seen import Seen
from vectorindex.reconcile.watchlist import Watchlist

INDEX, SWEEP = Key(Work.INDEX, "default", "vi"), Key(Work.SWEEP, "default", "vi")
RUN, OTHER = Key(Work.DELETE, "default", "run"), Key(Work.REBUILD, "default", "other")


class Entered:
    """An intake, and the keys that were entered since the last look."""

    def __init__(self) -> None:
        self.keys: dict[Key, float] = {}
        self.watchlist, self.seen = Watchlist(), Seen()
        self.intake = Intake(self.watchlist, self.seen, self._enter, lambda: NOW)

    def _enter(self, key: Key, after: float = 0.0) -> None:
        self.keys[key] = after

    def since(self) -> set[Key]:
        return set(self.with_times())

    def with_times(self) -> dict[Key, float]:
        """The keys, and the seconds until each is due."""
        keys, self.keys = self.keys, {}
        return keys


@pytest.fixture
def entered() -> Entered:
    return Entered()


def own(
    key: Key, generation: int = 1, observed: int = 1, uid: str = "u", ttl: int | None = None, **status: Any
) -> dict[str, Any]:
    metadata = {
        "name": key.name,
        "namespace": key.namespace,
        "uid": uid,
        "generation": generation,
        "resourceVersion": str(generation),
    }
    spec: dict[str, Any] = {} if key.work is Work.INDEX else {"indexRef": {"name": "vi"}}
    if ttl is not None:
        spec["ttlSecondsAfterFinished"] = ttl
    return {
        "kind": key.work.value,
        "metadata": metadata,
        "spec": spec,
        "status": {"observedGeneration": observed, **status},
    }


ENDED: dict[str, Any] = {"completionTime": "2026-01-01T00:00:00Z"}
NOW = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize(("ttl", "after"), [(100, 90.0), (0, 0.0), (5, 0.0)], ids=["to come", "at once", "missed"])
def test_a_run_that_has_ended_is_looked_at_when_its_time_is_over(entered: Entered, ttl: int, after: float) -> None:
    entered.intake.own(own(RUN, ttl=ttl))
    assert entered.with_times() == {RUN: 0.0}
    entered.intake.own(own(RUN, ttl=ttl, **ENDED))
    assert entered.with_times()[RUN] == after
    entered.intake.again(own(RUN, ttl=ttl, **ENDED))
    assert entered.with_times() == {RUN: after}


def test_a_new_run_is_looked_at(entered: Entered) -> None:
    entered.intake.own(own(RUN, observed=-1))
    assert entered.since() == {RUN}


def test_a_status_of_our_own_causes_nothing(entered: Entered) -> None:
    entered.intake.own(own(RUN, observed=-1))
    entered.since()
    entered.intake.own(own(RUN, progressPercent=7))
    assert entered.since() == set()


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        pytest.param({"generation": 2}, {RUN}, id="another spec"),
        pytest.param({"uid": "v"}, {RUN, SWEEP}, id="created again, and what it was before may be at work"),
        pytest.param({"observed": -1}, {RUN}, id="the status was stripped"),
    ],
)
def test_what_is_not_ours_is_looked_at(entered: Entered, change: dict[str, Any], keys: set[Key]) -> None:
    entered.intake.own(own(RUN))
    entered.since()
    entered.intake.own(own(RUN, **change))
    assert entered.since() == keys


def test_a_finished_run_is_looked_at_only_for_a_new_generation(entered: Entered) -> None:
    entered.intake.own(own(RUN, **ENDED))
    assert entered.since() == set()
    entered.intake.own(own(RUN, generation=2, **ENDED))
    assert entered.since() == {RUN}


def test_the_end_of_a_run_wakes_its_index_and_the_next_run(entered: Entered) -> None:
    entered.intake.own(own(RUN))
    entered.intake.own(own(OTHER))
    entered.since()
    entered.intake.own(own(RUN, **ENDED))
    assert entered.since() == {INDEX, SWEEP, OTHER}


def test_a_run_that_is_gone_is_swept_and_the_next_one_woken(entered: Entered) -> None:
    entered.intake.own(own(RUN))
    entered.intake.own(own(OTHER))
    entered.since()
    entered.intake.own(own(RUN), deleted=True)
    assert entered.since() == {RUN, SWEEP, OTHER}
    entered.intake.own(own(OTHER), deleted=True)
    assert RUN not in entered.since()  # it is forgotten


def test_an_index_that_comes_wakes_the_runs_that_wait_for_it(entered: Entered) -> None:
    entered.intake.own(own(RUN))
    entered.since()
    entered.intake.own(own(INDEX, observed=-1))
    assert entered.since() == {INDEX, RUN}
    entered.intake.own(own(INDEX))
    assert entered.since() == set()
    entered.intake.own(own(INDEX), deleted=True)
    assert entered.since() == {INDEX, RUN}


def child(version: int, kind: str = "Service", index: str | None = "vi") -> dict[str, Any]:
    labels = {} if index is None else {"vectorindex.io/index": index}
    metadata = {"name": "vi-0", "namespace": "default", "resourceVersion": str(version), "labels": labels}
    return {"kind": kind, "metadata": metadata}


@pytest.mark.parametrize("kind", ["Service", "Pod"])
def test_what_belongs_to_an_index_wakes_it_and_its_runs_when_it_changes(entered: Entered, kind: str) -> None:
    entered.intake.own(own(RUN))
    entered.since()
    entered.intake.child(child(1, kind))
    assert entered.since() == {INDEX, RUN}
    entered.intake.child(child(1, kind))
    assert entered.since() == set()
    entered.intake.child(child(2, kind))
    assert entered.since() == {INDEX, RUN}
    entered.intake.child(child(3, kind), deleted=True)
    assert entered.since() == {INDEX, RUN}


def test_what_belongs_to_nobody_wakes_nobody(entered: Entered) -> None:
    entered.intake.own(own(RUN))
    entered.since()
    entered.intake.child(child(1, index=None))
    assert entered.since() == set()


def test_a_resync_looks_at_all_runs_that_have_not_ended(entered: Entered) -> None:
    for manifest in (own(INDEX), own(RUN), own(OTHER, **ENDED)):
        entered.intake.again(manifest)
    assert entered.since() == {INDEX, RUN}
    for manifest in (own(INDEX), own(RUN), own(OTHER, **ENDED)):
        entered.intake.again(manifest)
    assert entered.since() == {RUN}


def test_what_a_resync_does_not_list_any_more_is_looked_at(entered: Entered) -> None:
    entered.intake.own(own(RUN))
    entered.intake.own(own(INDEX))
    entered.intake.child(child(1))
    entered.since()
    assert entered.intake.known("IndexDelete", None) == {("IndexDelete", "default", "run")}
    assert entered.intake.known("Service", "default") == {("Service", "default", "vi-0")}
    assert entered.intake.known("Service", "another") == set()
    entered.intake.vanished(("Service", "default", "vi-0"))
    assert entered.since() == {INDEX, RUN}
    entered.intake.vanished(("IndexDelete", "default", "run"))
    assert entered.since() == {RUN}
    entered.intake.vanished(("VectorIndex", "default", "vi"))
    assert entered.since() == {INDEX}
    assert not entered.intake.known("Service", None)


def test_which_build_is_first_in_line_follows_from_what_was_seen(entered: Entered) -> None:
    first, second = Key(Work.OPTIMIZE, "default", "z"), Key(Work.REBUILD, "default", "a")
    for key, created in ((second, "2026-01-01T00:00:02Z"), (first, "2026-01-01T00:00:01Z")):
        manifest = own(key)
        manifest["metadata"]["creationTimestamp"] = created
        entered.intake.own(manifest)
    entered.intake.own(own(RUN))
    assert entered.watchlist.first_build("default", "vi") == first
    entered.intake.own(own(second, startTime="2026-01-01T00:00:03Z"))
    assert entered.watchlist.first_build("default", "vi") == second
    entered.intake.own(own(second, **ENDED))
    assert entered.watchlist.first_build("default", "vi") == first
    entered.intake.own(own(first), deleted=True)
    assert entered.watchlist.first_build("default", "vi") is None
