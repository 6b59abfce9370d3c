"""Snapshots of an IndexRebuild or an IndexOptimize for the tables, and what they decide."""

from __future__ import annotations

from typing import Any

from tests.unit.domain.given import (
    MEMBERS,
    NOW,
    at_work,
    begun,
    index,
    rebuild_run,
)
from vectorindex.api import IndexRebuild, VectorIndex
from vectorindex.domain.build import BuildSnapshot
from vectorindex.domain.run import BuildRun, Decision, Work
from vectorindex.wire.operations import OperationState


def snapshot(run: BuildRun, **changes: Any) -> BuildSnapshot:
    fields: dict[str, Any] = {
        "now": NOW,
        "run": run,
        "index": index(),
        "members": MEMBERS,
        "last_write": None,
        "ahead": None,
    }
    return BuildSnapshot(**fields | changes)


def row(ordinal: int, state: str, **figures: Any) -> dict[str, Any]:
    name = f"vi-{ordinal}"
    return {"name": name, "state": state, "volumeID": f"volume-of-{name}", **figures}


def started(*states: str, **spec: Any) -> IndexRebuild:
    rows = [
        row(ordinal, state, attempt=1 if state == "Running" else None)
        for ordinal, state in enumerate(states or ("Pending",) * 3)
    ]
    return rebuild_run(begun(pods=rows), **spec)


def called(decision: Decision) -> list[str]:
    assert isinstance(decision, Work)
    return [call.pod for call in decision.calls]


def at_once(number: int) -> VectorIndex:
    return index(maintenance={"maxConcurrentPods": number})


FAILED = at_work(1, 50, state=OperationState.FAILED, reason="RecallRegressed", message="recall would fall")
