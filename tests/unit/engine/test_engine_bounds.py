"""What the engine takes, and how it refuses the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vectorindex.engine.errors import InvalidInput
from vectorindex.engine.params import (
    IndexSpec,
    Metric,
    Parameters,
    validate_external_ids,
    validate_index_name,
    validate_vectors,
)


@pytest.mark.parametrize("name", ["a", "words", "_x", "-x", "a.b-c_D", "x" * 253])
def test_index_names(name: str) -> None:
    validate_index_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a b", "ä", "a\n", "x" * 254])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidInput, match="index name"):
        validate_index_name(name)


@pytest.mark.parametrize(
    ("external_id", "message"),
    [
        pytest.param("", "1 to 512 bytes", id="empty"),
        pytest.param("x" * 513, "1 to 512 bytes.* not 513", id="too-long"),
        pytest.param("ä" * 257, "not 514", id="bytes-count-not-characters"),
        pytest.param("a\nb", "control", id="newline"),
        pytest.param("a\x00", "control", id="nul"),
        pytest.param("a\x85", "control", id="c1"),
        pytest.param("\ud800", "Unicode", id="surrogate"),
    ],
)
def test_external_ids_that_are_none(external_id: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"external ID 1: .*{message}"):
        validate_external_ids(["good ✓", external_id])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: Parameters(m=1), "M must be between 2 and 512, not 1", id="m-low"),
        pytest.param(lambda: Parameters(m=513), "M must", id="m-high"),
        pytest.param(lambda: Parameters(ef_construction=0), "ef_construction", id="ef-construction"),
        pytest.param(lambda: Parameters(ef_search=10_001), "ef_search", id="ef-search"),
        pytest.param(lambda: Parameters(seed=-1), "rng_seed", id="seed"),
        pytest.param(lambda: IndexSpec("a", 0, Metric.L2), "dimensions", id="dimensions"),
        pytest.param(lambda: IndexSpec("a", 3, Metric.L2, delta_ratio=0.6), "delta_ratio", id="delta-ratio"),
    ],
)
def test_parameters_out_of_bounds(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param([1, np.nan], "NaN", id="nan"),
        pytest.param([np.inf, 1], "NaN or infinity", id="infinity"),
        pytest.param([3e38, 3e38], "exceed float32", id="too-long"),
    ],
)
def test_vectors_without_finite_distances(metric: Metric, row: list[float], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"vector 1 .*{message}"):
        validate_vectors(np.array([[1, 2], row], np.float32), 2, metric)


@pytest.mark.parametrize("metric", Metric)
def test_zero_vectors_are_refused_under_cosine_only(metric: Metric) -> None:
    zero = np.zeros((1, 2), np.float32)
    if metric is Metric.COSINE:
        with pytest.raises(InvalidInput, match="vector 0 is zero"):
            validate_vectors(zero, 2, metric)
    else:
        validate_vectors(zero, 2, metric)


def test_vectors_of_another_shape() -> None:
    with pytest.raises(InvalidInput, match=r"float32 of shape \(n, 3\)"):
        validate_vectors(np.zeros((1, 2), np.float32), 3, Metric.L2)
