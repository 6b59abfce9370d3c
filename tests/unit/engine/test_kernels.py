"""The C++ kernels against slow, obvious Python: on vectors of small whole numbers, so that distances are exact."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import pytest
from numpy.typing import NDArray

from vectorindex.engine import _kernels
from vectorindex.engine.distance import hnswlib_space, nearest
from vectorindex.engine.hnsw_file import HEADER, HnswFile, header
from vectorindex.engine.optimize import REACH
from vectorindex.engine.params import Metric

DIMENSIONS = 3
Lists = list[dict[int, list[int]]]
"""By level: the links of each element that is on it."""


@dataclass
class SlowGraph:
    """A graph in plain Python; element 0 is numbered like in the file."""

    vectors: NDArray[np.float32]
    lists: Lists
    entry_point: int
    m: int
    metric: Metric

    def distance(self, a: int, b: int) -> float:
        first, second = self.vectors[a].astype(float), self.vectors[b].astype(float)
        return float(((first - second) ** 2).sum() if self.metric is Metric.L2 else 1 - first @ second)

    def write(self, path: Path) -> HnswFile:
        count = len(self.vectors)
        content = header(
            count=count,
            dimensions=DIMENSIONS,
            m=self.m,
            ef_construction=10,
            entry_point=self.entry_point,
            max_level=len(self.lists) - 1,
        )
        for element in range(count):
            content += packed(self.lists[0][element], 2 * self.m) + self.vectors[element].tobytes()
            content += struct.pack("<Q", element)
        for element in range(count):
            upper = [packed(level[element], self.m) for level in self.lists[1:] if element in level]
            content += struct.pack("<I", sum(map(len, upper))) + b"".join(upper)
        path.write_bytes(content)
        return HnswFile.open(path, DIMENSIONS, self.metric)

    @classmethod
    def read(cls, words: NDArray[np.uint32], graph: HnswFile, metric: Metric) -> SlowGraph:
        """From the words behind a header; number of elements and entry point are the graph's."""
        count, m = graph.count, graph.m
        size = 1 + 2 * m + DIMENSIONS + 2
        lists: Lists = [{}]
        vectors = np.empty((count, DIMENSIONS), np.float32)
        for element in range(count):
            row = words[element * size : (element + 1) * size]
            lists[0][element] = row[1 : 1 + int(row[0])].tolist()
            vectors[element] = row[1 + 2 * m : 1 + 2 * m + DIMENSIONS].view(np.float32)
        at = count * size
        for element in range(count):
            levels = int(words[at]) // (4 * (1 + m))
            for level in range(1, levels + 1):
                start = at + 1 + (level - 1) * (1 + m)
                while len(lists) <= level:
                    lists.append({})
                lists[level][element] = words[start + 1 : start + 1 + int(words[start])].tolist()
            at += 1 + levels * (1 + m)
        return cls(vectors, lists, graph.entry_point, m, metric)


def packed(links: list[int], room: int) -> bytes:
    return struct.pack(f"<{1 + room}I", len(links), *links, *[0] * (room - len(links)))


def words_of(path: Path) -> NDArray[np.uint32]:
    return np.fromfile(path, "<u4", offset=HEADER.size)


def random_graph(seed: int, metric: Metric, count: int, m: int = 2, equal: bool = False) -> SlowGraph:
    """Links at random, on several levels: worse than any that is built."""
    random = np.random.default_rng(seed)
    vectors = np.ones((count, DIMENSIONS)) if equal else random.integers(-3, 4, (count, DIMENSIONS))
    levels = np.minimum(random.geometric(0.6, count) - 1, 4)
    lists: Lists = []
    for level in range(int(levels.max()) + 1):
        members = np.flatnonzero(levels >= level).tolist()
        room = 2 * m if level == 0 else m
        lists.append({})
        for element in members:
            others = [other for other in members if other != element]
            links = random.permutation(others)[: random.integers(0, room + 1)]
            lists[level][element] = [int(link) for link in links]
    return SlowGraph(vectors.astype(np.float32), lists, int(levels.argmax()), m, metric)


def reached_from(lists: dict[int, list[int]], starts: set[int]) -> set[int]:
    found, frontier = set(starts), list(starts)
    while frontier:
        for target in lists[frontier.pop()]:
            if target not in found:
                found.add(target)
                frontier.append(target)
    return found


GRAPHS = [
    pytest.param(seed, metric, count, equal, id=f"{metric.value}-{count}{'-equal' if equal else ''}-{seed}")
    for seed, (metric, count, equal) in enumerate(
        [(metric, count, False) for metric in Metric for count in (1, 2, 3, 8, 40, 40, 150)]
        + [(metric, 60, True) for metric in Metric]
    )
]
graphs = pytest.mark.parametrize(("seed", "metric", "count", "equal"), GRAPHS)


def repaired_words(file: HnswFile, threads: int) -> tuple[int, NDArray[np.uint32]]:
    words = words_of(file.path)
    links, *changes = _kernels.repair(file.graph, threads)
    for places, lists in changes:
        for place, content in zip(places.tolist(), lists, strict=True):
            words[place : place + len(content)] = content
    return links, words


@graphs
def test_reachable_is_breadth_first_from_level_to_level(
    tmp_path: Path, seed: int, metric: Metric, count: int, equal: bool
) -> None:
    graph = random_graph(seed, metric, count, equal=equal)
    expected = {graph.entry_point}
    for level in reversed(graph.lists):
        expected = reached_from(level, expected)
    found = np.flatnonzero(_kernels.reachable(graph.write(tmp_path / "graph").graph))
    assert set(found.tolist()) == expected


@graphs
def test_after_a_repair_each_level_is_reached_and_the_lowest_from_anywhere(
    tmp_path: Path, seed: int, metric: Metric, count: int, equal: bool
) -> None:
    before = random_graph(seed, metric, count, equal=equal)
    file = before.write(tmp_path / "graph")
    links, words = repaired_words(file, 1)
    after = SlowGraph.read(words, file, metric)
    np.testing.assert_array_equal(after.vectors, before.vectors)
    assert [set(level) for level in after.lists] == [set(level) for level in before.lists]
    for level in after.lists:
        assert reached_from(level, {after.entry_point}) == set(level)
    for start in range(count):
        assert reached_from(after.lists[0], {start}) == set(range(count))
    for number, lists in enumerate(after.lists):
        for element, targets in lists.items():
            assert len(targets) <= (2 * after.m if number == 0 else after.m)
            assert element not in targets
            assert len(set(targets)) == len(targets)
    new = sum(
        len(set(targets) - set(before.lists[level][element]))
        for level, lists in enumerate(after.lists)
        for element, targets in lists.items()
    )
    assert 0 <= new <= links
    assert (links == 0) == (after.lists == before.lists)
    np.testing.assert_array_equal(repaired_words(file, 3)[1], words)
    graph = _kernels.Graph(words, count, DIMENSIONS, file.m, file.entry_point, metric is not Metric.L2)
    assert _kernels.check_links(graph) == sum(len(targets) for level in after.lists for targets in level.values())
    assert _kernels.repair(graph, 1)[0] == 0  # what is whole is left alone


def slow_list(graph: SlowGraph, level: int, element: int, dead: set[int]) -> list[int]:
    """New links of a live element: the algorithm, word for word."""
    lists = graph.lists[level]
    kept = [link for link in lists[element] if link not in dead]
    if len(kept) == len(lists[element]):
        return kept
    candidates: set[int] = set()
    passed: set[int] = set()
    frontier = {link for link in lists[element] if link in dead}
    while not candidates and frontier:
        passed |= frontier
        links = {link for from_ in frontier for link in lists[from_]}
        candidates = links - dead - {element}
        frontier = (links & dead) - passed
    most = 2 * graph.m * 3 // 4 if level == 0 else graph.m
    slope, intercept = REACH[graph.metric] if level == 0 else (1.0, 0.0)
    new = sorted((graph.distance(element, candidate), candidate) for candidate in candidates - set(kept))
    for distance, candidate in new[:64]:
        if len(kept) < most and not any(
            graph.distance(candidate, link) < slope * distance + intercept for link in kept
        ):
            kept.append(candidate)
    return kept


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@graphs
def test_compaction_is_the_algorithm(
    tmp_path: Path, seed: int, metric: Metric, count: int, equal: bool, share: float
) -> None:
    graph = random_graph(seed, metric, count, m=4, equal=equal)
    file = graph.write(tmp_path / "graph")
    random = np.random.default_rng(seed)
    dead = random.random(count) < share
    if count > 1:
        dead[graph.entry_point] = share > 0.3  # so that another takes its place
    if dead.all():
        with pytest.raises(ValueError, match="all items are dead"):
            _kernels.Compaction(file.graph, dead.view(np.uint8))
        return
    compaction = _kernels.Compaction(file.graph, dead.view(np.uint8))
    words = np.full(compaction.words, 0xFFFFFFFF, np.uint32)
    middle = compaction.count // 2
    added = sum(
        compaction.write(words, first, last, *REACH[metric], threads)
        for first, last, threads in ((middle, compaction.count, 2), (0, middle, 1))
    )
    live = np.flatnonzero(~dead).tolist()
    renumbered = {element: place for place, element in enumerate(live)}
    gone = set(np.flatnonzero(dead).tolist())
    expected = [
        {renumbered[element]: [renumbered[link] for link in slow_list(graph, number, element, gone)]
         for element in level if element not in gone}
        for number, level in enumerate(graph.lists)
    ]  # fmt: skip
    expected = [level for level in expected if level]
    path = tmp_path / "compact"
    path.write_bytes(
        header(
            count=compaction.count,
            dimensions=DIMENSIONS,
            m=4,
            ef_construction=10,
            entry_point=compaction.entry_point,
            max_level=compaction.max_level,
        )
        + words.tobytes()
    )
    new = HnswFile.open(path, DIMENSIONS, metric)  # and so it is whole, with a valid entry point
    assert SlowGraph.read(words, new, metric).lists == expected
    assert new.labels.tolist() == live
    np.testing.assert_array_equal(new.vectors, graph.vectors[live])
    assert compaction.max_level == len(expected) - 1
    if graph.entry_point not in gone:
        assert compaction.entry_point == renumbered[graph.entry_point]
    kept = sum(link not in gone for level in graph.lists for e in level if e not in gone for link in level[e])
    assert added == sum(len(links) for level in expected for links in level.values()) - kept


def built(tmp_path: Path, metric: Metric, vectors: NDArray[np.float32]) -> tuple[hnswlib.Index, HnswFile]:
    index = hnswlib.Index(hnswlib_space(metric), vectors.shape[1])
    index.init_index(len(vectors), M=6, ef_construction=40, random_seed=1)
    index.add_items(vectors, np.arange(len(vectors)), num_threads=1)
    index.save_index(str(tmp_path / "graph"))
    return index, HnswFile.open(tmp_path / "graph", vectors.shape[1], metric)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
def test_the_counting_search_is_hnswlibs(tmp_path: Path, metric: Metric, share: float) -> None:
    random = np.random.default_rng(7)
    vectors = random.integers(-50, 51, (1_500, 7)).astype(np.float32)
    index, file = built(tmp_path, metric, vectors)
    gone = np.flatnonzero(random.random(len(vectors)) < share)
    for label in gone:
        index.mark_deleted(int(label))
    dead = np.isin(file.labels, gone).view(np.uint8)
    queries = random.integers(-50, 51, (60, 7)).astype(np.float32)
    for k, ef in ((1, 10), (10, 10), (10, 80)):
        # ef as the view asks for it: more answers, of which the first k are kept
        labels, distances = index.knn_query(queries, k=ef, num_threads=1)
        elements, found, computations = _kernels.search(file.graph, queries, dead, k, ef, 2)
        np.testing.assert_array_equal(found, distances[:, :k])
        same = file.labels[elements] == labels[:, :k]
        ties = (found[:, :, None] == found[:, None, :]).sum(axis=2) > 1
        assert (same | ties | (found == found[:, -1:])).all()
        assert (computations >= ef).all()
        assert (computations < len(vectors) * 2).all()


def test_computations_are_those_of_a_search_by_hand(tmp_path: Path) -> None:
    """A chain 0 - 1 - 2 - 3 on level 0, entered at 0, which is also alone on level 1: one distance for the entry point,
    one more on level 0, and one for each of the others."""
    vectors = np.arange(4, dtype=np.float32)[:, None] * np.ones((1, DIMENSIONS), np.float32)
    chain = {0: [1], 1: [0, 2], 2: [1, 3], 3: [2]}
    file = SlowGraph(vectors, [chain, {0: []}], 0, 2, Metric.L2).write(tmp_path / "graph")
    query = np.full((1, DIMENSIONS), 3, np.float32)
    alive = np.zeros(4, np.uint8)
    elements, distances, computations = _kernels.search(file.graph, query, alive, 3, 3, 1)
    assert (elements.tolist(), distances.tolist(), computations.tolist()) == ([[3, 2, 1]], [[0, 3, 12]], [5])
    dead = np.array([1, 0, 0, 1], np.uint8)  # passed through; the dead start is not measured again
    elements, distances, computations = _kernels.search(file.graph, query, dead, 3, 3, 1)
    assert (elements.tolist(), computations.tolist()) == ([[2, 1, -1]], [4])
    assert distances.tolist() == [[3, 12, float("inf")]]


@pytest.mark.parametrize("dimensions", [1, 2, 7, 8, 9, 31, 32, 33, 384])
@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
def test_a_scan_is_a_sort(metric: Metric, dimensions: int) -> None:
    random = np.random.default_rng(dimensions)
    padded = random.integers(-4, 5, (700, dimensions + 3)).astype(np.float32)
    vectors = padded[:, 1 : dimensions + 1]  # rows that are not side by side
    queries = random.integers(-4, 5, (37, dimensions)).astype(np.float32)
    rows = np.flatnonzero(random.random(700) < 0.6)
    for k in (0, 1, 10, 1_000):
        found, distances = nearest(vectors, rows, queries, k, metric, threads=2)
        assert found.shape == distances.shape == (37, min(k, len(rows)))
        for number, query in enumerate(queries.astype(float)):
            stored = vectors[rows].astype(float)
            truth = ((stored - query) ** 2).sum(axis=1) if metric is Metric.L2 else 1 - stored @ query
            order = np.lexsort((rows, truth))[:k]
            np.testing.assert_array_equal(found[number], rows[order])
            np.testing.assert_array_equal(distances[number], truth[order])


@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
@pytest.mark.parametrize("dimensions", [1, 17, 384])
def test_a_query_gets_the_same_answer_alone_and_among_others(metric: Metric, dimensions: int) -> None:
    random = np.random.default_rng(dimensions)
    vectors = random.standard_normal((300, dimensions)).astype(np.float32)
    queries = random.standard_normal((23, dimensions)).astype(np.float32)
    rows, distances = nearest(vectors, np.arange(300), queries, 10, metric)
    for query, alone in enumerate(queries):
        found, near = nearest(vectors, np.arange(300), alone[None, :], 10, metric)
        assert np.array_equal(found[0], rows[query])
        assert np.array_equal(near[0], distances[query])


def test_distances_of_near_vectors_do_not_cancel() -> None:
    """Far from the origin, close together: |q|² - 2qv + |v|² in float32 would be noise."""
    random = np.random.default_rng(0)
    vectors = (1_000 + random.standard_normal((200, 384)) * 0.01).astype(np.float32)
    truth = ((vectors[1:].astype(float) - vectors[0].astype(float)) ** 2).sum(axis=1)
    _, distances = nearest(vectors, np.arange(1, 200), vectors[:1], 199, Metric.L2)
    np.testing.assert_allclose(distances[0], np.sort(truth), rtol=1e-5)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = random_graph(0, Metric.L2, 20).write(tmp_path / "graph")
    queries, alive = np.zeros((2, DIMENSIONS), np.float32), np.zeros(20, np.uint8)
    strided = np.zeros((2, 2 * DIMENSIONS), np.float32)[:, ::2]
    wrong: list[Any] = [queries.astype(np.float64), strided, queries[0]]
    for bad in wrong:
        with pytest.raises(TypeError):
            _kernels.search(file.graph, bad, alive, 1, 1, 1)
    with pytest.raises(ValueError, match="dimensions"):
        _kernels.search(file.graph, np.zeros((2, 9), np.float32), alive, 1, 1, 1)
    with pytest.raises(ValueError, match="one value per element"):
        _kernels.search(file.graph, queries, alive[:-1], 1, 1, 1)
    with pytest.raises(ValueError, match="ef at least k"):
        _kernels.search(file.graph, queries, alive, 2, 1, 1)
    with pytest.raises(ValueError, match="rows of the vectors"):
        _kernels.scan(queries, np.array([2]), queries, 1, False, 1)
    with pytest.raises(ValueError, match="more than there are rows"):
        _kernels.scan(queries, np.array([1]), queries, 2, False, 1)
    compaction = _kernels.Compaction(file.graph, alive)
    with pytest.raises(ValueError, match="as many words"):
        compaction.write(np.zeros(3, np.uint32), 0, 1, 1.0, 0.0, 1)
    with pytest.raises(ValueError, match="within the new elements"):
        compaction.write(np.zeros(compaction.words, np.uint32), 0, 21, 1.0, 0.0, 1)
