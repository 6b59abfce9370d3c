"""The life of one index, step by step, done with the engine's parts as the sidecar does them, in one thread.

A step is what somebody is told of when it is done: it makes at most one change that can be seen, so that after a crash
within it an index is as it was before the step or as it is after it. Builds run in the process itself, with one thread:
two runs make the same file calls in the same order, and the number of a call names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import snapshot
from vectorindex.engine.build import build
from vectorindex.engine.catalog import create_index, destroy_index, index_names
from vectorindex.engine.erasure import Erasure
from vectorindex.engine.errors import OutOfSpace, StoreFailed
from vectorindex.engine.folders import UNFINISHED_PREFIX, make_folder, remove_unfinished, remove_whole
from vectorindex.engine.jobs import BuildJob, BuildResult, Phase
from vectorindex.engine.ledger import NewOperation
from vectorindex.engine.params import IndexSpec, Metric, Parameters
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.store import Store
from vectorindex.engine.writes import Delete, Upsert
from vectorindex.sidecar.snapshots import Snapshots
from vectorindex.sidecar.volume import Volume

Items = dict[str, NDArray[np.float32]]

DIMENSIONS = 16
SPEC = IndexSpec("words", DIMENSIONS, Metric.L2, Parameters(m=4, ef_construction=20, ef_search=20, seed=1))
PROBE = "insert-000"
"""An item that no step deletes but the one that deletes all, and every session that replaces the index holds."""


def some_items(prefix: str, count: int, seed: int) -> Items:
    """Small integers, which float32 holds exactly. No ID is a part of another one."""
    rows = np.random.default_rng(seed).integers(-50, 50, (count, DIMENSIONS)).astype(np.float32)
    return {f"{prefix}-{number:03}": row for number, row in enumerate(rows)}


def some_ids(prefix: str, numbers: range) -> list[str]:
    return [f"{prefix}-{number:03}" for number in numbers]


INSERTED = some_items("insert", 120, seed=1)
UPSERTED = dict(list(some_items("insert", 20, seed=2).items())[10:]) | some_items("upsert", 30, seed=3)
SINGLES = dict(list(some_items("insert", 40, seed=6).items())[30:]) | some_items("single", 12, seed=7)
MORE_SINGLES = dict(list(some_items("single", 6, seed=8).items())[3:]) | some_items("later", 5, seed=9)
REPLACEMENT = some_items("insert", 1, seed=1) | some_items("replacement", 110, seed=4)


def without_progress(_phase: Phase, _fraction: float) -> None:
    pass


def open_index(data_dir: Path) -> tuple[Volume, Store | None]:
    """What a sidecar does first: take the folder, remove what a crash left, open the index if there is one."""
    volume = Volume(data_dir)
    remove_unfinished(volume.indexes)
    Snapshots(volume.snapshots, volume.id).prepare()
    names = index_names(volume.indexes)
    assert names in ([], [SPEC.name]), f"unexpected indexes: {names}"
    store = Store.open(volume.indexes / SPEC.name) if names else None
    if store is not None:
        settle(volume, store)
    return volume, store


def settle(volume: Volume, store: Store) -> Erasure:
    return store.settle(snapshot.traces(volume.snapshots / SPEC.name))


def settle_with_space(volume: Volume, store: Store) -> Erasure:
    """However long the volume is full, as the sidecar does."""
    while True:
        with suppress(OutOfSpace):
            return settle(volume, store)


def snapshots(volume: Volume) -> list[Path]:
    """Those that are in place."""
    folder = volume.snapshots / SPEC.name
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if not path.name.startswith(UNFINISHED_PREFIX))


def fill_session(store: Store, mode: SessionMode, items: Items) -> IngestSession:
    session = IngestSession(store.folder, DIMENSIONS, SPEC.metric, mode)
    names = list(items)
    for start in range(0, len(names), 50):
        part = names[start : start + 50]
        session.append(part, np.stack([items[name] for name in part]))
    return session


class Life:
    """``items`` is what the index must hold, by a plain dictionary. The steps are :data:`STEPS`; ``step`` is the number
    of the one that is done, and the time. ``erased``: the time that the index has last given for it; ``secrets`` by the
    time of a seal: IDs and vectors of what was deleted or replaced before."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.items: Items = {}
        self.volume: Volume | None = None
        self.step = 0
        self.erased: float | None = None
        self.secrets: dict[float, frozenset[bytes]] = {}
        self._dead: set[bytes] = set()
        self._store: Store | None = None
        self._session: IngestSession | None = None
        self._job: BuildJob | None = None
        self._built: BuildResult | None = None
        self._kept: Items = {}  # by the last snapshot

    @property
    def store(self) -> Store:
        assert self._store is not None
        return self._store

    @property
    def is_open(self) -> bool:
        return self._store is not None

    # --- steps

    def take_volume(self) -> None:
        self.volume = Volume(self.data_dir)

    def create(self) -> None:
        assert self.volume is not None
        create_index(self.volume.indexes, SPEC)

    def open(self) -> None:
        assert self.volume is not None
        remove_unfinished(self.volume.indexes)
        self._store = Store.open(self.volume.indexes / SPEC.name, lambda: float(self.step))
        self._settle()

    def insert_accepted(self) -> None:
        self.store.begin_operation(NewOperation("insert", "Finalize", "digest of insert"))

    def insert_started(self) -> None:
        self.store.start_operation("insert")

    def insert_built(self) -> None:
        self._load(SessionMode.INSERT, INSERTED)

    def insert_swapped(self) -> None:
        self._swap("insert")
        self.items.update(INSERTED)

    def delete(self) -> None:
        self._delete([*some_ids("insert", range(100, 110)), "unknown"], "delete")

    def upsert_built(self) -> None:
        self._load(SessionMode.UPSERT, UPSERTED)

    def upsert_swapped(self) -> None:
        self._swap()
        self._put(UPSERTED)

    def take_a_snapshot(self) -> None:
        self._take("nightly")

    def configure(self) -> None:
        self.store.configure({"threads": 1, "ef_search": 30}, ef_search=30)

    def write_singly(self) -> None:
        self._upsert(SINGLES)

    def write_a_group(self) -> None:
        """Two writes and a delete between them, of one transaction."""
        last, other = {"single-000": SINGLES["single-001"]}, {"single-012": SINGLES["single-000"]}
        self.store.write([self._as_upsert(last), Delete(("single-001", "unknown")), self._as_upsert(other)])
        self._put(last | other)
        self._forget(["single-001"])

    def flush_built(self) -> None:
        self._plan_flush()

    def write_while_flushing(self) -> None:
        self._upsert(MORE_SINGLES)

    def delete_while_flushing(self) -> None:
        self._delete(["single-002", "later-000", "insert-031"])

    def flush_swapped(self) -> None:
        self._swap()

    def many_written(self) -> None:
        self._upsert(some_items("many", 60, seed=10))

    def merge_built(self) -> None:
        """A flush that takes the deltas before it along."""
        self._plan_flush()

    def merge_swapped(self) -> None:
        self._swap()

    def write_behind_it(self) -> None:
        self._upsert(some_items("last", 4, seed=11))

    def optimize_built(self) -> None:
        self._build(self.store.builds.plan_optimize(1, None))

    def delete_while_optimizing(self) -> None:
        self._delete([*some_ids("insert", range(20, 25)), "upsert-008", "last-000"])

    def optimize_swapped(self) -> None:
        self._swap()

    def remove_the_snapshot(self) -> None:
        """After which the index may say that what was deleted before the optimize is gone."""
        assert self.volume is not None
        remove_whole(self.volume.snapshots / SPEC.name / "nightly")
        self._settle()

    def rebuild_accepted(self) -> None:
        self.store.begin_operation(NewOperation("rebuild", "Rebuild", "digest of rebuild", {"params": {"M": 5}}))

    def rebuild_started(self) -> None:
        self.store.start_operation("rebuild")

    def rebuild_built(self) -> None:
        self._build(self.store.builds.plan_rebuild(Parameters(5, 25, 30, 2), 1, None))

    def delete_meanwhile(self) -> None:
        self._delete([*some_ids("insert", range(10, 15)), "upsert-007"])

    def rebuild_swapped(self) -> None:
        self._swap("rebuild")

    def take_another_snapshot(self) -> None:
        self._take("weekly")

    def leave_a_build_and_a_session(self) -> None:
        self._build(self.store.builds.plan_rebuild(None, 1, None))
        fill_session(self.store, SessionMode.UPSERT, some_items("lost", 60, seed=5))
        self._job = self._built = None

    def close(self) -> None:
        store, self._store = self.store, None
        self.erased = None
        store.close()

    def replacement_built(self) -> None:
        self._load(SessionMode.BUILD, REPLACEMENT)

    def replacement_swapped(self) -> None:
        self._swap()
        self._forget(self.items.keys() - REPLACEMENT.keys())
        self.items = dict(REPLACEMENT)

    def cancel_what_never_came(self) -> None:
        self.store.cancel_operation("never came")

    def delete_all(self) -> None:
        self._delete(list(self.items), "delete all")

    def rebuild_of_nothing_built(self) -> None:
        self._build(self.store.builds.plan_rebuild(None, 1, None))

    def rebuild_of_nothing_swapped(self) -> None:
        self._swap()

    def destroy(self) -> None:
        assert self.volume is not None
        destroy_index(self.volume.indexes, SPEC.name)
        self.items = {}

    def restore(self) -> None:
        assert self.volume is not None
        snapshot.restore(self.volume.snapshots / SPEC.name / "weekly", self.volume.indexes)
        self.items = dict(self._kept)

    # --- parts of steps

    def _take(self, name: str) -> None:
        assert self.volume is not None
        folder = self.volume.snapshots / SPEC.name / name
        make_folder(folder.parent)
        snapshot.take(folder, lambda draft: snapshot.seal(self.store, draft), lambda: float(self.step))
        self._kept = dict(self.items)

    def _settle(self) -> None:
        assert self.volume is not None
        self.erased = settle_with_space(self.volume, self.store).before

    def _delete(self, external_ids: Sequence[str], operation: str | None = None) -> None:
        named = None if operation is None else NewOperation(operation, "Delete", f"digest of {operation}")
        self.store.delete(external_ids, named)
        self._forget(external_ids)

    def _put(self, items: Items) -> None:
        self._dead.update(self.items[name].tobytes() for name in items.keys() & self.items.keys())
        self.items.update(items)

    def _forget(self, external_ids: Iterable[str]) -> None:
        for external_id in external_ids:
            if (vector := self.items.pop(external_id, None)) is not None:
                self._dead |= {external_id.encode(), vector.tobytes()}

    def _upsert(self, items: Items) -> None:
        self.store.write([self._as_upsert(items)])
        self._put(items)

    @staticmethod
    def _as_upsert(items: Items) -> Upsert:
        return Upsert.of(list(items), np.stack(list(items.values())), DIMENSIONS, SPEC.metric)

    def _plan_flush(self) -> None:
        job = self.store.builds.plan_flush()
        assert job is not None
        self._build(job)

    def _load(self, mode: SessionMode, items: Items) -> None:
        self._session = fill_session(self.store, mode, items)
        self._build(self.store.builds.plan_finalize(self._session, None, threads=1))

    def _build(self, job: BuildJob) -> None:
        self._job = job
        if job.kind.erases:
            alive = {vector.tobytes() for vector in self.items.values()}
            self.secrets[job.seal.time] = frozenset(self._dead - alive)
        self._built = build(job, without_progress)

    def _swap(self, operation: str | None = None) -> None:
        assert self._job is not None
        assert self._built is not None
        self.store.builds.candidate(self._job, self._built)
        self.store.builds.commit(self._job, self._built, operation, {})
        self._job = self._built = None
        if self._session is not None:
            session, self._session = self._session, None
            session.discard()
        self._settle()

    # --- after an error

    def abandon(self) -> None:
        """What the sidecar does when a build ends early."""
        if self._job is not None:
            self.store.builds.discard(self._job)
        if self._session is not None:
            self._session.discard()

    def probe(self) -> str:
        """Whether the store takes a delete: ``written``, or ``stopped`` when it says that it failed."""
        try:
            self.store.delete([PROBE])
        except StoreFailed:
            with suppress(StoreFailed):
                self.store.view_spec()
                raise AssertionError("a store that has failed still answers") from None
            assert self.store.status().read_only, "a store that has failed does not say so"
            return "stopped"
        return "written"


STEPS: tuple[Callable[[Life], None], ...] = (
    Life.take_volume,
    Life.create,
    Life.open,
    Life.insert_accepted,
    Life.insert_started,
    Life.insert_built,
    Life.insert_swapped,
    Life.delete,
    Life.upsert_built,
    Life.upsert_swapped,
    Life.take_a_snapshot,
    Life.configure,
    Life.write_singly,
    Life.write_a_group,
    Life.flush_built,
    Life.write_while_flushing,
    Life.delete_while_flushing,
    Life.flush_swapped,
    Life.many_written,
    Life.merge_built,
    Life.merge_swapped,
    Life.write_behind_it,
    Life.optimize_built,
    Life.delete_while_optimizing,
    Life.optimize_swapped,
    Life.remove_the_snapshot,
    Life.rebuild_accepted,
    Life.rebuild_started,
    Life.rebuild_built,
    Life.delete_meanwhile,
    Life.rebuild_swapped,
    Life.take_another_snapshot,
    Life.leave_a_build_and_a_session,
    Life.close,
    Life.open,
    Life.replacement_built,
    Life.replacement_swapped,
    Life.cancel_what_never_came,
    Life.delete_all,
    Life.rebuild_of_nothing_built,
    Life.rebuild_of_nothing_swapped,
    Life.close,
    Life.destroy,
    Life.restore,
)


def step_name(step: int) -> str:
    """For people: ``07 delete``."""
    return f"{step:02d} {STEPS[step].__name__.replace('_', ' ')}"
