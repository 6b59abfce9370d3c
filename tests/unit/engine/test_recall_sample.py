"""The queries that recall is measured on: as far from an item as its neighbours are, and with the exact truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.engine.harness import DIMENSIONS, distances, load, new_index, random_items
from vectorindex.engine.distance import normalised
from vectorindex.engine.hnsw_file import HnswFile
from vectorindex.engine.params import Metric
from vectorindex.engine.recall import LOOKED_AT, NOISE_NEIGHBOUR, RecallSample, SampleRequest, make_sample


def sampled(tmp_path: Path, metric: Metric, count: int) -> tuple[HnswFile, RecallSample]:
    store = new_index(tmp_path, metric)
    load(store, random_items(count))
    view = store.view_spec()
    file = HnswFile.open(view.segments[0].hnsw_path(view.folder), DIMENSIONS, metric)
    sample = make_sample([file], metric, SampleRequest(n=50))
    assert sample is not None
    return file, sample


@pytest.mark.parametrize("count", [40, 5 * LOOKED_AT])
@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
def test_queries_are_about_as_far_from_their_item_as_its_tenth_neighbour(
    tmp_path: Path, metric: Metric, count: int
) -> None:
    file, sample = sampled(tmp_path, metric, count)
    ratios = []
    for query, label in zip(sample.queries, sample.self_labels, strict=True):
        (item,) = file.vectors[file.labels == label]
        tenth = np.sort(np.linalg.norm(file.vectors - item, axis=1))[NOISE_NEIGHBOUR]
        ratios.append(np.linalg.norm(query - item) / tenth)
    assert 0.9 < np.median(ratios) < 1.1
    assert min(ratios) > 0.3


@pytest.mark.parametrize("metric", Metric)
def test_the_truth_is_exact_and_without_the_item_itself(tmp_path: Path, metric: Metric) -> None:
    file, sample = sampled(tmp_path, metric, 500)
    items = list(file.vectors)
    for number, label in enumerate(sample.self_labels):
        order = np.argsort(distances(items, sample.queries[number], metric), kind="stable")
        nearest = file.labels[order]
        np.testing.assert_array_equal(sample.truth_labels[number], nearest[nearest != label][: 2 * sample.k])
    if metric is Metric.COSINE:
        np.testing.assert_allclose(normalised(sample.queries)[1], 1, rtol=1e-5)


def test_one_item_has_no_neighbours_to_be_found(tmp_path: Path) -> None:
    store = new_index(tmp_path)
    load(store, random_items(1))
    view = store.view_spec()
    file = HnswFile.open(view.segments[0].hnsw_path(view.folder), DIMENSIONS, Metric.L2)
    assert make_sample([file], Metric.L2, SampleRequest()) is None
