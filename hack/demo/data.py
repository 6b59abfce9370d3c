"""The demo's data: 6,000 nouns with their glosses, 24 questions, and exact search over what is left of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[2] / "examples" / "demo"


@dataclass(frozen=True)
class Nouns:
    """Row by row: ``ids``, ``categories``, ``words``, ``glosses`` and ``vectors`` (n, 384) float32 of unit length; the
    questions and their vectors (24, 384) likewise."""

    ids: list[str]
    categories: list[str]
    words: list[str]
    glosses: list[str]
    vectors: NDArray[np.float32]
    questions: list[str]
    question_vectors: NDArray[np.float32]

    def rows_of(self, category: str) -> list[int]:
        return [row for row, each in enumerate(self.categories) if each == category]

    def without(self, category: str) -> NDArray[np.bool_]:
        """A mask (n,) of the items that are left when a category is deleted."""
        return np.array([each != category for each in self.categories])

    def nearest(self, live: NDArray[np.bool_], k: int) -> list[list[str]]:
        """The true nearest ``k`` live items of each question, by exact search."""
        similarity = self.question_vectors @ self.vectors.T
        similarity[:, ~live] = -np.inf
        return [[self.ids[row] for row in np.argsort(-line, kind="stable")[:k]] for line in similarity]


def load() -> Nouns:
    """Read the files of ``examples/demo``."""
    with (FOLDER / "items.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return Nouns(
        ids=[row["external_id"] for row in rows],
        categories=[row["category"] for row in rows],
        words=[row["words"] for row in rows],
        glosses=[row["gloss"] for row in rows],
        vectors=_unit(np.load(FOLDER / "vectors_f16.npy")),
        questions=(FOLDER / "queries.txt").read_text(encoding="utf-8").splitlines(),
        question_vectors=_unit(np.load(FOLDER / "queries_f16.npy")),
    )


def _unit(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    wide = vectors.astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide
