"""The engine's parts in one process, as front, searcher and builder use them together."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.build import build
from vectorindex.engine.catalog import create_index
from vectorindex.engine.ids_file import IdTable
from vectorindex.engine.jobs import BuildJob, BuildResult, Phase
from vectorindex.engine.params import IndexSpec, Metric, Parameters
from vectorindex.engine.recall import SampleRequest
from vectorindex.engine.rows import Rows
from vectorindex.engine.session import IngestSession, SessionMode
from vectorindex.engine.store import Store
from vectorindex.engine.view import View
from vectorindex.engine.view_change import ViewChange
from vectorindex.engine.writes import Upserted

Vectors = NDArray[np.float32]
DIMENSIONS = 8
SMALL = Parameters(m=4, ef_construction=20, ef_search=20, seed=1)


def plain_digest(items: Mapping[str, Vectors]) -> int:
    """What the digest of these items, with their vectors as received, must be: each of them hashed anew."""
    total = 0
    for name, vector in items.items():
        row = name.encode() + b"\0" + struct.pack(f"<{len(vector)}f", *vector.tolist())
        total += int.from_bytes(blake2b(row, digest_size=8, person=b"vectorindex item").digest(), "little")
    return total % 2**64


def new_index(
    data_dir: Path, metric: Metric = Metric.L2, dimensions: int = DIMENSIONS, parameters: Parameters = SMALL
) -> Store:
    """A new, empty index that is open."""
    return Store.open(create_index(data_dir, IndexSpec("words", dimensions, metric, parameters)))


def random_items(count: int, seed: int = 0, prefix: str = "item", dimensions: int = DIMENSIONS) -> dict[str, Vectors]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return {f"{prefix}-{number}": vector for number, vector in enumerate(vectors)}


def plan_load(store: Store, items: Mapping[str, Vectors], mode: SessionMode) -> tuple[IngestSession, BuildJob]:
    """A session with these items, sealed."""
    spec = store.status().spec
    session = IngestSession(store.folder, spec.dimensions, spec.metric, mode)
    if items:
        session.append(list(items), np.stack(list(items.values())))
    return session, store.builds.plan_finalize(session, None, threads=1)


def load(store: Store, items: Mapping[str, Vectors], mode: SessionMode = SessionMode.UPSERT) -> BuildResult:
    """One whole session."""
    session, job = plan_load(store, items, mode)
    built = run(job)
    store.builds.commit(job, built)
    session.discard()
    return built


def write(store: Store, items: Mapping[str, Vectors]) -> Upserted:
    """Without a session."""
    return store.upsert(list(items), np.stack(list(items.values())))


def flush(store: Store, *views: View) -> BuildResult | None:
    """One flush, which each of the views sees; None when there is nothing to flush."""
    job = store.builds.plan_flush()
    if job is None:
        return None
    built = run(job)
    change = store.builds.commit(job, built)
    for view in views:
        view.apply(change)
    return built


def rebuild(store: Store, parameters: Parameters | None = None, sample: SampleRequest | None = None) -> BuildResult:
    job = store.builds.plan_rebuild(parameters, 1, sample)
    built = run(job)
    store.builds.commit(job, built)
    return built


def optimize(store: Store, sample: SampleRequest | None = None) -> BuildResult:
    job = store.builds.plan_optimize(1, sample)
    built = run(job)
    store.builds.commit(job, built)
    return built


def run(job: BuildJob) -> BuildResult:
    def ignore(_phase: Phase, _fraction: float) -> None:
        pass

    return build(job, ignore)


def bury(view: View, labels: NDArray[np.uint64]) -> None:
    """What a searcher is told of a delete."""
    view.apply(ViewChange(Rows.none(view.dimensions), labels))


def search_ids(store: Store, queries: Vectors, k: int, ef: int = 100) -> list[list[str]]:
    """External IDs that a new searcher of the current view finds for each query."""
    spec = store.view_spec()
    table = IdTable.of(spec)
    found = View.load(spec).search(queries, k, ef)
    return [table.external_ids(labels) for labels in found.labels]


def live_ids(store: Store) -> set[str]:
    """All that a search for everything finds."""
    spec = store.status().spec
    query = np.ones((1, spec.dimensions), np.float32)
    ids = search_ids(store, query, k=10_000)[0]
    assert len(ids) == len(set(ids))
    return set(ids)


def segment_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix in (".hnsw", ".ids")}


def distances(items: Sequence[Vectors], query: Vectors, metric: Metric) -> NDArray[np.float64]:
    """From one query to each item, in float64: what the engine is compared with."""
    stored, asked = np.stack(items).astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(((stored - asked) ** 2).sum(axis=1))
    if metric is Metric.COSINE:
        stored = stored / np.linalg.norm(stored, axis=1, keepdims=True)
        asked = asked / np.linalg.norm(asked)
    return np.asarray(1.0 - stored @ asked)
