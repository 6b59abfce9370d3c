"""What must be true of a data folder whatever ended its last process, and whether the index can be used on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tests.crash.scenario import (
    DIMENSIONS,
    PROBE,
    SPEC,
    fill_session,
    open_index,
    settle,
    snapshots,
    some_items,
    without_progress,
)
from tests.unit.engine.harness import plain_digest
from vectorindex.engine.build import build
from vectorindex.engine.catalog import create_index
from vectorindex.engine.hnsw_file import HnswFile
from vectorindex.engine.ids_file import IdTable
from vectorindex.engine.ledger import OperationState
from vectorindex.engine.params import Parameters
from vectorindex.engine.policy import Counts
from vectorindex.engine.session import SessionMode
from vectorindex.engine.snapshot import restore
from vectorindex.engine.store import Store
from vectorindex.engine.view import View
from vectorindex.sidecar.volume import Volume


class Violation(AssertionError):
    """The folder is not as it must be."""


@dataclass(frozen=True)
class World:
    """All that can be seen of a volume. ``snapshots``: their names; ``index``: None if there is none."""

    snapshots: tuple[str, ...]
    index: Index | None

    def differences(self, other: World) -> list[str]:
        if self.snapshots != other.snapshots:
            return [f"snapshots ({', '.join(self.snapshots)})"]
        if self.index is None or other.index is None:
            return [] if self.index is other.index else ["whether there is an index"]
        return self.index.differences(other.index)

    def after_probe(self) -> World:
        return self if self.index is None else replace(self, index=self.index.after_probe())


NOTHING = World((), None)


@dataclass(frozen=True)
class Index:
    """``items``: the vector (float32, bytes) of each ID that a search for everything finds; ``found``: how many of them
    a search of the graph finds by their own vector; ``sealed``: when the last rebuild or optimize began."""

    items: dict[str, bytes]
    found: int
    counts: Counts
    sequence: int
    parameters: Parameters
    configuration: dict[str, Any]
    operations: tuple[tuple[str, str, Any], ...]
    sealed: float | None

    def differences(self, other: Index) -> list[str]:
        """Names of the fields that are not the same; of items, how many."""
        names = [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]
        missing, added = other.items.keys() - self.items.keys(), self.items.keys() - other.items.keys()
        return [f"{name} (missing {len(missing)}, back {len(added)})" if name == "items" else name for name in names]

    def after_probe(self) -> Index:
        """What is left to compare of it when an item was deleted afterwards by hand, and operations given up."""
        items = {name: vector for name, vector in self.items.items() if name != PROBE}
        return replace(self, items=items, found=0, counts=Counts(len(items), 0, 0), sequence=0, operations=())


def observe(volume: Volume, store: Store | None) -> World:
    names = tuple(path.name for path in snapshots(volume))
    return World(names, None if store is None else observe_index(store))


def observe_index(store: Store) -> Index:
    status = store.status()
    spec = store.view_spec()
    view = View.load(spec)
    table = IdTable.of(spec)
    live = view.search_exact(np.zeros((1, DIMENSIONS), np.float32), k=10_000).labels[0]
    tail = zip(spec.tail.labels.tolist(), spec.tail.vectors, strict=True)
    vectors = {label: row.tobytes() for label, row in tail}
    for segment in spec.segments:
        graph = HnswFile.open(segment.hnsw_path(spec.folder), DIMENSIONS, SPEC.metric)
        vectors.update(
            (int(label), row.tobytes()) for label, row in zip(graph.labels, np.array(graph.vectors), strict=True)
        )
    found = 0
    if len(live):
        queries = np.frombuffer(b"".join(vectors[int(label)] for label in live), "<f4").reshape(-1, DIMENSIONS)
        found = int((view.search(queries, k=1, ef=40).labels[:, 0] == live).sum())
    external_ids = table.external_ids(live)
    if len(set(external_ids)) != len(live) or view.live != len(live):
        raise Violation(f"{len(live)} items found, {len(set(external_ids))} different ones, {view.live} counted")
    items = {name: vectors[int(label)] for name, label in zip(external_ids, live, strict=True)}
    digest = plain_digest({name: np.frombuffer(vector, "<f4") for name, vector in items.items()})
    if status.digest != digest:
        raise Violation(f"the digest is {status.digest:x}, that of the items found {digest:x}")
    return Index(
        items=items,
        found=found,
        counts=status.counts,
        sequence=status.sequence,
        parameters=status.parameters,
        configuration=status.configuration,
        operations=tuple((record.id, record.state.value, _lasting(record.result)) for record in store.operations()),
        sealed=status.sealed,
    )


def _lasting(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """Less what an operation says of the erasure, which a full volume may stand against at its end."""
    said = {"erased_before", "erasure_blocked"}
    return None if result is None else {name: value for name, value in result.items() if name not in said}


def exposed(files: Iterable[tuple[str, bytes]], secrets: Collection[bytes]) -> str:
    """Which of the files (path, content) hold a secret; empty if none does."""
    found = [path for path, content in files if any(secret in content for secret in secrets)]
    return f"what was erased is in {', '.join(found)}" if found else ""


def files_below(folder: Path) -> list[tuple[str, bytes]]:
    return [(str(path.relative_to(folder)), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]


def check(
    data_dir: Path,
    allowed: Collection[World],
    volume_id: str | None,
    secrets: dict[float, frozenset[bytes]],
    *,
    probed: bool = False,
) -> World:
    """Start as a sidecar does, compare with what is allowed, look for what it says is erased, restore each snapshot,
    use the index on, and start again. ``probed``: an item was deleted after what is allowed. Returns what it found.
    Raises Violation, and whatever the product raises."""
    volume, store = open_index(data_dir)
    try:
        if volume_id is not None and volume.id != volume_id:
            raise Violation(f"the volume was {volume_id}, and is {volume.id} now")
        world = observe(volume, store)
        if probed:
            world = world.after_probe()
            allowed = [one.after_probe() for one in allowed]
        if world not in allowed:
            raise Violation("differs in " + ", or in ".join(", ".join(world.differences(one)) for one in allowed))
        if store is not None:
            erased = settle(volume, store).before
            if erased is not None and (problem := exposed(files_below(data_dir), secrets[erased])):
                raise Violation(problem)
        with TemporaryDirectory(dir=data_dir) as place:
            for taken in snapshots(volume):
                restore(taken, Path(place), taken.name)
        if store is None:
            store = Store.open(create_index(volume.indexes, SPEC))
        used = _use(volume, store)
        store.close()
        store = None
        _require_unchanged(volume.indexes / SPEC.name, used)
    finally:
        if store is not None:
            store.close()
        volume.close()
    return world


def _use(volume: Volume, store: Store) -> Index:
    """Delete, load, finish what was begun, rebuild: all as ever. What can be seen then."""
    _require_named_files_only(store)
    items = observe_index(store).items
    if items:
        victim = min(items)
        if store.delete([victim]).deleted != 1:
            raise Violation(f"{victim} is found and cannot be deleted")
        del items[victim]
    added = some_items("afterwards", 2, seed=9)
    session = fill_session(store, SessionMode.INSERT, added)
    job = store.builds.plan_finalize(session, None, threads=1)
    store.builds.commit(job, build(job, without_progress))
    session.discard()
    items.update((name, vector.tobytes()) for name, vector in added.items())
    unfinished = [record for record in store.operations() if not record.state.finished]
    for record in unfinished:
        if record.state is OperationState.RUNNING:
            store.requeue_operation(record.id, crashed=True)
        store.start_operation(record.id)
    while (flushing := store.builds.plan_flush()) is not None:
        store.builds.commit(flushing, build(flushing, without_progress))
    operations: list[str | None] = [record.id for record in unfinished]
    for operation in operations or [None]:
        job = store.builds.plan_rebuild(None, 1, None)
        store.builds.commit(job, build(job, without_progress), operation, {})
        settle(volume, store)
    used = observe_index(store)
    if used.items != items or used.counts != Counts(len(items), 0, 0):
        raise Violation("used on, it does not hold what it should")
    return used


def _require_unchanged(folder: Path, used: Index) -> None:
    """By one more start."""
    store = Store.open(folder)
    try:
        _require_named_files_only(store)
        if different := observe_index(store).differences(used):
            raise Violation(f"after one more start it differs in {', '.join(different)}")
    finally:
        store.close()


def _require_named_files_only(store: Store) -> None:
    named = {
        path.name
        for segment in store.status().segments
        for path in (segment.hnsw_path(store.folder), segment.ids_path(store.folder))
    }
    others = {path.name for path in store.folder.iterdir()} - named - {"index.db", "index.db-wal", "lock"}
    if others:
        raise Violation(f"files that nothing names are left: {', '.join(sorted(others))}")
