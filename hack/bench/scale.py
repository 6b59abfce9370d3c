"""One large index, measured once: what grows a hundredfold does not show at 40,000 items.

The items are the embeddings again and again, each copy moved by seeded noise, so far that two copies of an item lie
about as far apart as an item and its tenth neighbour: a copy is no easier to find than any other.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import machine, memory, screen, sidecar
from bench.client import SearchClient
from bench.data import ROOT, Data, recall
from bench.graphs import Graph, behind
from bench.plan import K
from bench.result import Result, write
from bench.screen import step
from bench.sidecar import Run, Sidecar
from bench.volumes import Volumes
from vectorindex.engine.distance import nearest
from vectorindex.engine.params import Metric

JSON = ROOT / "build" / "scale.json"
PAGE = ROOT / "docs" / "design" / "scale.md"
DELETED = 0.3
QUERIES = 200
SEARCHES = 2_000
NEIGHBOURS_OF = 200
GIGABYTE = 1e9


def measure(data: Data, count: int, threads: int, folder: Path) -> list[Result]:
    """Build, search, delete, optimize and rebuild ``count`` items; every result is written as soon as it is there."""
    results: list[Result] = []
    described = machine.describe()

    def show(*more: Result) -> None:
        results.extend(more)
        write(JSON, results)
        screen.table("", more)

    with step(f"{count:,} vectors of {len(data.items):,} embeddings"):
        large = Data(data.source, data.metric, repeated(data.items, count), data.queries[:QUERIES])
    order = np.random.default_rng(0).permutation(count)
    dead, live = np.sort(order[: int(DELETED * count)]), np.sort(order[int(DELETED * count) :])

    volume = Volumes(folder).of(large.items, large.metric, threads)
    note = f"{threads} threads, {volume.seconds / count * 1e3:.2f} ms an item"
    show(Result("ingest and build", volume.seconds, "s", note=note))
    with step("the exact answers, by a scan"):
        truth, truth_left = large.truth(np.arange(count), K), large.truth(live, K)
    with step("start, searches, delete and optimize"), sidecar.running_on_copy(volume.folder) as program:
        show(*_searched(program, large, truth))
        rate = len(dead) / program.delete(dead)
        show(Result("delete, durable, in one request", rate, "IDs/s", note=f"{len(dead):,} IDs"))
        tombstones = recall(program.search(large.queries), truth_left)
        with memory.peak(program.pids) as optimizing:
            optimized = program.optimize()
            program.settle()
        found = recall(program.search(large.queries), truth_left)
        show(*_operation("optimize", optimized, optimizing, tombstones, found))
        curve = Graph.of_sidecar(program.graph(), large.dimensions, large.metric).curve(live, large.queries, truth_left)
    with step(f"rebuild, {len(live):,} items"), sidecar.running(volume.folder) as program:
        program.delete(dead)
        with memory.peak(program.pids) as rebuilding:
            rebuilt = program.rebuild()
        found = recall(program.search(large.queries), truth_left)
        show(*_operation("rebuild", rebuilt, rebuilding, tombstones, found))
        reference = Graph.of_sidecar(program.graph(), large.dimensions, large.metric).curve(
            live, large.queries, truth_left
        )
    show(
        Result.at_least("optimize: graph phase faster than rebuild's", rebuilt.graph / optimized.graph, 10, "x"),
        Result.at_least("optimize: faster than rebuild end to end", rebuilt.wall / optimized.wall, 8, "x"),
        behind([curve], [reference]),
    )
    PAGE.write_text(_page(results, count, data, described), encoding="utf-8")
    return results


def repeated(items: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(count, d) of unit length: row r is ``items[r % n]`` moved by noise; the first n rows too."""
    some = items[np.linspace(0, len(items) - 1, NEIGHBOURS_OF, dtype=np.int64)]
    _, squares = nearest(items, np.arange(len(items)), some, 11, Metric.L2)
    # Two moves of this length at right angles, as those of noise in many dimensions are, end this far apart.
    length = float(np.sqrt(np.median(squares[:, -1]) / 2))
    random = np.random.default_rng(0)
    moved = np.empty((count, items.shape[1]), np.float32)
    for start in range(0, count, len(items)):
        part = moved[start : start + len(items)]
        noise = random.standard_normal(part.shape, np.float32)
        part[:] = items[: len(part)] + noise * (length / np.linalg.norm(noise, axis=1, keepdims=True))
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return moved


def _searched(program: Sidecar, data: Data, truth: NDArray[np.int64]) -> list[Result]:
    client = SearchClient(program, data.queries)
    seconds = [client.search() for _ in range(SEARCHES)]
    client.close()
    share = recall(program.search(data.queries), truth)
    rest = memory.anonymous(program.pids())
    return [
        Result("start, from the process to readiness", program.start_seconds, "s"),
        Result("search over HTTP, p50", 1e3 * statistics.median(seconds), "ms", note=f"recall@10 {share:.4f}"),
        Result("search over HTTP, p99", 1e3 * float(np.percentile(seconds, 99)), "ms"),
        Result("memory at rest", rest / GIGABYTE, "GB", note=f"{rest / len(data.items):,.0f} B an item"),
        Result("files", sum(path.stat().st_size for path in program.files()) / GIGABYTE, "GB"),
    ]


def _operation(name: str, run: Run, peak: memory.Peak, before: float, after: float) -> list[Result]:
    phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in run.result["seconds"].items())
    computed = run.result["computations"]
    found = (
        f"recall@10 {before:.4f} → {after:.4f}, "
        f"distances a query {computed['before']:,.0f} → {computed['after']:,.0f}, "
        f"unreachable {run.result['unreachable']['before']:,} → {run.result['unreachable']['after']:,}"
    )
    return [
        Result(f"{name}: end to end", run.wall, "s", note=phases),
        Result(f"{name}: graph phase with repair", run.graph, "s", note=found),
        Result(f"{name}: memory at its peak", peak.bytes / GIGABYTE, "GB"),
    ]


def _page(results: list[Result], count: int, data: Data, described: str) -> str:
    rows = "\n".join(f"| {each.name} | {_measured(each)} | {each.note} |" for each in results)
    return f"""# {count:,} items

Written by `make bench SCALE={count}` on {time.strftime("%Y-%m-%d", time.gmtime())}.
{described}.

{len(data.items):,} embeddings of {data.dimensions} dimensions, again and again with seeded noise: two copies of an item
lie as far apart as an item and its tenth neighbour. {data.metric}, M 16, efConstruction 200, ef 64.
{100 * DELETED:.0f} % are deleted at random, then optimize and rebuild start from the same state, niced to 19 as always.
Memory is the anonymous PSS of all processes.

| what | measured | with |
|---|---|---|
{rows}
"""


def _measured(result: Result) -> str:
    text = f"{screen.number(result.value)} {result.unit}"
    if result.target is None:
        return text
    return f"{text} (target {result.target}: {'met' if result.met else 'missed'})"
