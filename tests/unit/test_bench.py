"""What the benchmark's figures rest on: its comparison of curves, its intervals, its data, its reading of answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import data, memory
from bench.client import complete
from bench.crowd import succeeded
from bench.graphs import COMPARED, WIDTHS, Curve
from bench.operators import most
from bench.result import Result, half_width, write
from bench.scale import repeated
from vectorindex.engine.params import Metric

COSTS = np.array(WIDTHS, np.float64) * 15


def curve(recalls: list[float], factor: float = 1.0) -> Curve:
    return Curve(np.array(recalls), factor * COSTS)


def test_graphs_are_compared_at_the_same_number_of_computations() -> None:
    steps = [0.90 + 0.01 * step for step in range(len(WIDTHS))]
    reference = curve(steps)
    np.testing.assert_allclose(curve(steps).behind(reference), 0, atol=1e-9)
    # Equal at each width, but at twice the computations: worse by what doubling the width brings.
    dearer = curve(steps, factor=2).behind(reference)
    assert (dearer > 0.9).all()
    below = curve([each - 0.003 for each in steps]).behind(reference)
    np.testing.assert_allclose(below, 0.3)
    assert len(below) == COMPARED.stop - COMPARED.start


def test_an_interval_is_that_of_student() -> None:
    # Five values of deviation 1 about their mean: 2.776 x 1 / sqrt(5).
    values = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    assert half_width(list(values / values.std(ddof=1))) == pytest.approx(1.2415, rel=0.002)
    assert half_width([3.0]) == float("inf")
    assert half_width([3.0, 3.0, 3.0]) == 0


def test_memory_is_a_slope_and_a_fixed_part() -> None:
    slope, fixed = memory.line([10_000, 20_000, 40_000], [50_000_000 + 1_700 * n for n in (10_000, 20_000, 40_000)])
    assert slope == pytest.approx(1_700)
    assert fixed == pytest.approx(50_000_000)


def test_results_are_a_list_of_name_value_unit_target_met(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    write(path, [Result.at_most("a", 1.1, 1.1, "x"), Result.at_least("b", 9.0, 10, "x"), Result("c", 2.0, "s")])
    assert json.loads(path.read_text()) == [
        {"name": "a", "value": 1.1, "unit": "x", "target": "≤ 1.1", "met": True},
        {"name": "b", "value": 9.0, "unit": "x", "target": "≥ 10", "met": False},
        {"name": "c", "value": 2.0, "unit": "s", "target": None, "met": None},
    ]


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_the_last_thousand_rows_are_queries(tmp_path: Path, kind: type[np.floating]) -> None:
    vectors = np.random.default_rng(0).standard_normal((3_200, 4)).astype(kind)
    np.save(tmp_path / "own.npy", vectors)
    loaded = data.load(tmp_path / "own.npy", Metric.COSINE)
    assert (len(loaded.items), len(loaded.queries)) == (2_200, 1_000)
    np.testing.assert_allclose(np.linalg.norm(loaded.items, axis=1), 1, rtol=1e-5)
    last = vectors[-1].astype(np.float32)
    np.testing.assert_allclose(loaded.queries[-1], last / np.linalg.norm(last), rtol=1e-5)
    lengths = np.linalg.norm(data.load(tmp_path / "own.npy", Metric.INNER_PRODUCT).items, axis=1)
    assert np.log(lengths).std() == pytest.approx(data.NORM_SIGMA, rel=0.1)


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        (np.ones((3_200, 4), np.float64), "float16 or float32 is needed"),
        (np.ones((5, 4), np.float32), "has 5 rows"),
        (np.zeros((3_200, 4), np.float32), "zero or not finite"),
    ],
)
def test_vectors_that_cannot_be_measured_on_are_refused(tmp_path: Path, vectors: np.ndarray, why: str) -> None:
    np.save(tmp_path / "own.npy", vectors)
    with pytest.raises(data.NoDataError, match=why):
        data.load(tmp_path / "own.npy", Metric.COSINE)


def test_copies_are_as_far_apart_as_an_item_and_its_tenth_neighbour() -> None:
    items = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    copies = repeated(items, 1_200)
    assert copies.shape == (1_200, 64)
    np.testing.assert_allclose(np.linalg.norm(copies, axis=1), 1, rtol=1e-5)
    tenth = np.median(np.sort(np.linalg.norm(items[:, None] - items[None], axis=2), axis=1)[:, 10])
    apart = np.linalg.norm(copies[:500] - copies[500:1_000], axis=1)
    # Moved to length one again, so a little nearer than noise alone would have it.
    assert np.median(apart) == pytest.approx(tenth, rel=0.25)


def test_an_answer_is_complete_when_its_body_is() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n"
    assert complete(head + b"[1,2]")
    assert not complete(head + b"[1,2")
    assert not complete(head[:-2])


def test_what_the_operator_asked_for_is_counted_by_verb_and_kind() -> None:
    run = "/apis/vectorindex.io/v1alpha1/namespaces/bench/indexdeletes"
    asked = [("get", f"{run}/a"), ("get", f"{run}/b"), ("list", f"{run}?limit=500"), ("patch", f"{run}/a/status")]
    assert most(asked) == "2 get indexdeletes, 1 list indexdeletes, 1 patch indexdeletes"


@pytest.mark.parametrize(("status", "told"), [("True", True), ("Unknown", False), (None, False)])
def test_a_run_has_succeeded_when_its_condition_says_so(status: str | None, told: bool) -> None:
    conditions = [] if status is None else [{"type": "Succeeded", "status": status}]
    assert succeeded({"status": {"conditions": conditions}}) is told
