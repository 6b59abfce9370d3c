"""A random sample of what an index was asked lately, to measure recall on what its users really search.

It is in memory only, ends with the process, and leaves it towards a builder alone. Once it is full, one query in
``EVERY`` takes the place of a random other one: so a query stays for about ``EVERY`` x size later ones, whatever the
load (a biased reservoir; Aggarwal, VLDB 2006).
"""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

SIZE = 1_000
SIZE_BYTES = 16 * 2**20
FEWEST = 100
"""With fewer there is no sample, unless fewer are wanted."""
EVERY = 16


class RecentQueries:
    def __init__(self, dimensions: int, chance: random.Random | None = None) -> None:
        self._bytes = 4 * dimensions
        self._room = max(1, min(SIZE, SIZE_BYTES // self._bytes))
        self._chance = chance or random.Random()  # noqa: S311 - nothing has to be unpredictable
        self._queries: list[bytes] = []

    def note(self, queries: bytes, rows: int) -> None:
        """``rows`` x dim float32 that were answered."""
        full = len(self._queries) == self._room
        for row in range(self._chance.randrange(EVERY) if full else 0, rows, EVERY if full else 1):
            query = queries[row * self._bytes : (row + 1) * self._bytes]
            if len(self._queries) < self._room:
                self._queries.append(query)
            else:
                self._queries[self._chance.randrange(self._room)] = query

    def sample(self, n: int) -> NDArray[np.float32] | None:
        """Up to ``n`` of them (n, dim), None if there are too few."""
        if len(self._queries) < min(n, FEWEST):
            return None
        chosen = self._chance.sample(self._queries, min(n, len(self._queries)))
        return np.frombuffer(b"".join(chosen), "<f4").reshape(len(chosen), -1)
