"""An index that lives for months: whatever is written, deleted, flushed, optimized and rebuilt, it finds what a graph
that was built at once, of the same items by the same parameters, would find."""

from __future__ import annotations

from pathlib import Path

import hnswlib
import numpy as np
import pytest

from tests.unit.engine.harness import Vectors, distances, flush, load, new_index, optimize, rebuild, search_ids, write
from vectorindex.engine.distance import hnswlib_space, stored_form
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.session import SessionMode
from vectorindex.engine.store import Store

DIMENSIONS = 16
COUNT = 1_500
PARAMETERS = Parameters(m=6, ef_construction=50, ef_search=14, seed=3)
QUERIES, K, EF = 300, 10, 14
TOLERANCE = 0.02
"""Three standard errors of a recall of 0.9 on QUERIES x K answers are 0.016; graphs vary on top of it."""


def made(random: np.random.Generator, count: int) -> Vectors:
    """Clusters, of which some are dense, with lengths that differ."""
    centres = np.random.default_rng(0).standard_normal((20, DIMENSIONS))
    chosen = random.integers(0, len(centres), count)
    spread = np.where(chosen < 10, 0.3, 1.0)[:, None]
    rows = centres[chosen] + spread * random.standard_normal((count, DIMENSIONS))
    return (rows * random.lognormal(0, 0.3, (count, 1))).astype(np.float32)


def fresh_recall(items: dict[str, Vectors], queries: Vectors, truth: list[set[str]], metric: Metric) -> float:
    """Of bare hnswlib."""
    names, (vectors, _) = list(items), stored_form(np.stack(list(items.values())), metric)
    index = hnswlib.Index(hnswlib_space(metric), DIMENSIONS)
    index.init_index(
        len(names), M=PARAMETERS.m, ef_construction=PARAMETERS.ef_construction, random_seed=PARAMETERS.seed
    )
    index.add_items(vectors, num_threads=1)
    index.set_ef(EF)
    labels, _ = index.knn_query(stored_form(queries, metric)[0], k=K, num_threads=1)
    return recall([[names[label] for label in row] for row in labels], truth)


def recall(found: list[list[str]], truth: list[set[str]]) -> float:
    return sum(len(set(row) & best) for row, best in zip(found, truth, strict=True)) / (K * len(truth))


def exact(items: dict[str, Vectors], queries: Vectors, metric: Metric) -> list[set[str]]:
    names, vectors = list(items), list(items.values())
    return [{names[row] for row in np.argsort(distances(vectors, query, metric))[:K]} for query in queries]


@pytest.mark.parametrize("metric", Metric)
def test_recall_does_not_drift(tmp_path: Path, metric: Metric) -> None:
    random = np.random.default_rng(7)
    store = new_index(tmp_path, metric, DIMENSIONS, PARAMETERS)
    items = {f"item-{number}": row for number, row in enumerate(made(random, COUNT))}
    load(store, items, SessionMode.BUILD)
    queries = made(np.random.default_rng(99), QUERIES)
    for turn in range(12):
        names = random.permutation(list(items))
        gone, changed = names[:120].tolist(), names[120:200].tolist()
        store.delete(gone)
        for name in gone:
            del items[name]
        new = [f"new-{turn}-{number}" for number in range(120)]
        written = dict(zip(changed + new, made(random, 200), strict=True))
        write(store, written)
        items |= written
        match turn % 4:
            case 0:
                flush(store)
            case 1:
                flush(store)
                optimize(store)
            case 2:
                store.close()
                store = Store.open(store.folder)
            case 3:
                flush(store)
                rebuild(store)
        truth = exact(items, queries, metric)
        ours = recall(search_ids(store, queries, K, EF), truth)
        fresh = fresh_recall(items, queries, truth, metric)
        assert 0.6 < fresh < 0.999, "the parameters leave something to be told apart"
        assert ours >= fresh - TOLERANCE, f"turn {turn}: {ours:.4f}, a fresh graph {fresh:.4f}"
        assert store.status().counts.live == len(items)
