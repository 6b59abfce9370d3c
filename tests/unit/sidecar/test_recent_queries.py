"""The sample of recent queries: all of the first ones, then a random, ageing part, whatever the size of requests."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vectorindex.sidecar.recent_queries import EVERY, FEWEST, SIZE, SIZE_BYTES, RecentQueries


def numbered(first: int, count: int) -> bytes:
    """Queries of two dimensions that say which they are."""
    numbers = np.arange(first, first + count, dtype="<f4")
    return np.stack([numbers, -numbers], axis=1).tobytes()


def kept(queries: RecentQueries) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    sample = queries.sample(SIZE)
    assert sample is not None
    assert (sample[:, 0] == -sample[:, 1]).all()
    return np.sort(sample[:, 0])


def test_too_few_are_no_sample() -> None:
    queries = RecentQueries(2)
    queries.note(numbered(0, FEWEST - 1), FEWEST - 1)
    assert queries.sample(200) is None
    few = queries.sample(FEWEST - 1)
    assert few is not None
    assert len(few) == FEWEST - 1
    queries.note(numbered(FEWEST - 1, 1), 1)
    assert kept(queries).tolist() == list(range(FEWEST))


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_old_ones_make_room_for_new_ones(rows: int) -> None:
    queries = RecentQueries(2, random.Random(3))
    asked = 60 * SIZE
    for first in range(0, asked, rows):
        queries.note(numbered(first, rows), rows)
    ages = asked - kept(queries)
    assert len(ages) == SIZE
    assert len(np.unique(ages)) == SIZE
    # The age of each is exponential, with a mean of EVERY * SIZE; cut off at all that was asked.
    assert 0.85 * EVERY * SIZE < ages.mean() < 1.15 * EVERY * SIZE


def test_it_is_bounded_in_bytes() -> None:
    queries = RecentQueries(65_536)
    for _ in range(200):
        queries.note(np.ones(65_536, "<f4").tobytes(), 1)
    sample = queries.sample(50)
    assert sample is not None
    assert sample.shape == (50, 65_536)
    everything = queries.sample(SIZE) if FEWEST <= SIZE_BYTES // (4 * 65_536) else queries.sample(64)
    assert everything is not None
    assert everything.nbytes <= SIZE_BYTES
