"""The digest says which items live, and nothing else of an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.engine.harness import flush, load, new_index, plain_digest, random_items, run, write
from vectorindex.engine.digest import EMPTY, as_text, fingerprints, moved, total
from vectorindex.engine.errors import CorruptFile
from vectorindex.engine.ledger import NewOperation
from vectorindex.engine.params import Metric, Parameters
from vectorindex.engine.session import SessionMode
from vectorindex.engine.store import Store

ITEMS = random_items(60, seed=3)


def by_session(store: Store) -> None:
    load(store, ITEMS)


def by_single_writes(store: Store) -> None:
    for name in sorted(ITEMS, reverse=True):
        write(store, {name: ITEMS[name]})


def with_others_that_went(store: Store) -> None:
    load(store, random_items(90, seed=4))  # the same IDs, with other vectors, and more
    write(store, ITEMS)
    store.delete([f"item-{number}" for number in range(60, 90)])


def flushed_and_rebuilt(store: Store) -> None:
    with_others_that_went(store)
    flush(store)
    job = store.builds.plan_rebuild(Parameters(m=8, ef_construction=30, seed=9), 2, None)
    store.builds.commit(job, run(job))


def optimized(store: Store) -> None:
    load(store, random_items(90, seed=4))
    store.delete([f"item-{number}" for number in range(60, 90)])
    load(store, ITEMS)
    job = store.builds.plan_optimize(1, None)
    store.builds.commit(job, run(job))


def rolled_back(store: Store) -> None:
    """A repeated delete and one beyond its limit change nothing."""
    load(store, ITEMS)
    write(store, {"extra": ITEMS["item-0"]})
    store.delete(["extra"], NewOperation("first", "Delete", "digest"))
    write(store, {"extra": ITEMS["item-1"]})
    store.delete(["extra"], NewOperation("first", "Delete", "digest"))
    store.delete(["extra"])
    store.delete(list(ITEMS), NewOperation("second", "Delete", "other"), max_percent=1)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize(
    "fill",
    [by_session, by_single_writes, with_others_that_went, flushed_and_rebuilt, optimized, rolled_back],
)
def test_the_same_items_have_the_same_digest(tmp_path: Path, metric: Metric, fill: Callable[[Store], None]) -> None:
    store = new_index(tmp_path, metric)
    assert store.status().digest == EMPTY
    fill(store)
    assert store.status().digest == plain_digest(ITEMS)
    folder = store.folder
    store.close()
    store = Store.open(folder)
    assert store.status().digest == plain_digest(ITEMS)
    store.delete(list(ITEMS))
    assert store.status().digest == EMPTY
    store.close()


def test_a_session_in_mode_build_begins_anew(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(20, seed=8, prefix="old"))
    load(store, ITEMS, SessionMode.BUILD)
    assert store.status().digest == plain_digest(ITEMS)
    load(store, {}, SessionMode.BUILD)
    assert store.status().digest == EMPTY
    store.close()


def test_any_difference_shows() -> None:
    vector = np.arange(1, 5, dtype=np.float32)
    nudged = np.nextafter(vector, np.float32(0))
    sets = [{}, {"a": vector}, {"b": vector}, {"a": nudged}, {"a": vector, "b": vector}, {"a": vector, "b": nudged}]
    assert len({plain_digest(items) for items in sets}) == len(sets)
    found = fingerprints([b"a", b"b"], np.stack([vector, nudged]))
    assert total(found) == plain_digest(sets[-1])
    assert moved(total(found), EMPTY, total(found[:1])) == total(found[1:]) == plain_digest({"b": nudged})


def test_how_it_is_written() -> None:
    """A wire format: pods of different versions are compared by it."""
    items = {"item-0": np.array([0.5, -1.25, 3.0], np.float32), "naïve ✓": np.array([1e-8, 2.0, -0.0], np.float32)}
    digest = total(fingerprints([name.encode() for name in items], np.stack(list(items.values()))))
    assert as_text(digest) == as_text(plain_digest(items)) == "f2733369a7c0458c"
    assert as_text(EMPTY) == "0" * 16


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("UPDATE items SET fingerprint = fingerprint + 1 WHERE external_id = 'item-7'", "names items of the digest"),
        ("UPDATE state SET digest = '0123456789abcdef'", "its state says 0123456789abcdef"),
    ],
)
def test_items_that_are_not_those_of_the_digest_are_refused(tmp_path: Path, damage: str, why: str) -> None:
    store = new_index(tmp_path)
    load(store, ITEMS)
    folder = store.folder
    store.close()
    connection = sqlite3.connect(folder / "index.db")
    with connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(CorruptFile, match=why):
        Store.open(folder)
