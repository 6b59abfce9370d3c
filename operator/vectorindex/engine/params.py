"""What an index is made of, and the bounds of everything that a caller gives.

Bounds are checked where a value enters the engine, so that nothing behind this module has to ask again: a vector that
passed :func:`validate_vectors` has finite distances to every other that passed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine.errors import InvalidInput

MAX_DIMENSIONS = 65_536
MAX_ID_BYTES = 512
MAX_NORM = 2.0**62
"""Two vectors up to this length are less than 2**126 apart (squared), which float32 can still hold."""
MIN_COSINE_NORM = float(np.finfo(np.float32).tiny)
"""Below it a vector has no direction that float32 could give back."""

_INDEX_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,252}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(f"{name} must be between {low} and {high}, not {value}")


class Metric(StrEnum):
    """How two vectors are compared; smaller is nearer. L2 is the squared Euclidean distance, the other two are
    one minus the cosine and one minus the inner product, as hnswlib has them."""

    COSINE = "Cosine"
    L2 = "L2"
    INNER_PRODUCT = "InnerProduct"


@dataclass(frozen=True)
class Parameters:
    """HNSW parameters. ``m``: links per item and level (twice that on level 0); ``ef_construction`` and ``ef_search``:
    width of the search while building and when asked; ``seed``: of the level generator. Raises InvalidInput."""

    m: int = 16
    ef_construction: int = 200
    ef_search: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        _check_range("M", self.m, 2, 512)
        _check_range("ef_construction", self.ef_construction, 1, 10_000)
        _check_range("ef_search", self.ef_search, 1, 10_000)
        _check_range("rng_seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True)
class IndexSpec:
    """What is fixed when an index is created; ``parameters`` are those of its first graph. ``delta_ratio`` is kept
    for the clients of the public API. Raises InvalidInput."""

    name: str
    dimensions: int
    metric: Metric
    parameters: Parameters = Parameters()
    delta_ratio: float = 0.10

    def __post_init__(self) -> None:
        validate_index_name(self.name)
        _check_range("dimensions", self.dimensions, 1, MAX_DIMENSIONS)
        if not 0.0 <= self.delta_ratio <= 0.5:
            raise InvalidInput(f"delta_ratio must be between 0 and 0.5, not {self.delta_ratio}")


def validate_index_name(name: str) -> None:
    """Raises InvalidInput unless ``name`` is 1..253 of letters, digits, ``_``, ``-`` and, not first, ``.``."""
    if not _INDEX_NAME.fullmatch(name):
        raise InvalidInput(
            f"index name {name[:300]!r}: letters, digits, '_', '-' and, not first, '.'; 1 to 253 characters"
        )


def validate_external_ids(external_ids: Sequence[str]) -> None:
    """Raises InvalidInput unless each is 1..512 bytes of UTF-8 without control characters."""
    if _plain(external_ids):
        return
    for position, external_id in enumerate(external_ids):
        try:
            size = len(external_id.encode())
        except UnicodeEncodeError:
            raise InvalidInput(f"external ID {position}: not valid Unicode text") from None
        if not 1 <= size <= MAX_ID_BYTES:
            raise InvalidInput(f"external ID {position}: must have 1 to {MAX_ID_BYTES} bytes of UTF-8, not {size}")
        if _CONTROL.search(external_id):
            raise InvalidInput(f"external ID {position}: must not hold control characters")


def _plain(external_ids: Sequence[str]) -> bool:
    """Whether all are what most are, which is seen at once: valid, and ASCII."""
    sizes, text = [*map(len, external_ids)], "".join(external_ids)
    right_size = not sizes or 1 <= min(sizes) <= max(sizes) <= MAX_ID_BYTES
    return right_size and text.isascii() and not _CONTROL.search(text)


def validate_vectors(vectors: NDArray[np.float32], dimensions: int, metric: Metric) -> NDArray[np.float64]:
    """The lengths (n,) of ``vectors``. Raises InvalidInput unless they are (n, dimensions) float32, finite, of a length
    whose distances float32 can hold, and under cosine not zero. The message names the row."""
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != dimensions:
        raise InvalidInput(f"vectors must be float32 of shape (n, {dimensions}), not {vectors.dtype} {vectors.shape}")
    norms = vector_norms(vectors)
    _refuse_row(~np.isfinite(norms), "holds NaN or infinity")
    _refuse_row(norms > MAX_NORM, "is too long: distances to it exceed float32")
    if metric is Metric.COSINE:
        _refuse_row(norms < MIN_COSINE_NORM, "is zero, and a zero vector has no cosine")
    return norms


def _refuse_row(bad: NDArray[np.bool_], why: str) -> None:
    if bad.any():
        raise InvalidInput(f"vector {int(bad.argmax())} {why}")


def vector_norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean lengths (n,) of (n, dim), in float64: NaN or infinite exactly where a component is."""
    wide = vectors.astype(np.float64)
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", wide, wide)), dtype=np.float64)
