"""Rebuild against hnswlib's own build, and optimize against rebuild, of the same items with the same threads.

30 % of the items are deleted, the most that the targets speak of, and where optimize has most to do. Each repetition
deletes others and builds with another seed.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

import numpy as np

from bench import graphs
from bench.context import Context
from bench.graphs import Curve, Graph
from bench.plan import K
from bench.result import Result, half_width
from bench.screen import step
from bench.sidecar import Run, running_on_copy

DELETED = 0.3


@dataclass
class Kind:
    """What was measured of one kind of graph, by repetition. ``seconds``: of its graph phase; ``unreachable`` items
    of the graph, those that are dead in it not counted."""

    seconds: list[float] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    unreachable: int = 0


def measure(context: Context) -> tuple[list[Result], dict[str, Curve]]:
    """The results, and a curve by the name of what it is of."""
    kinds = {name: Kind() for name in ("tombstones", "optimized", "rebuilt", "hnswlib")}
    for repetition in range(context.plan.builds):
        _repeat(context, repetition, kinds)
    return _results(context, kinds), {name: graphs.mean(kind.curves) for name, kind in kinds.items()}


def _repeat(context: Context, repetition: int, kinds: dict[str, Kind]) -> None:
    count, data = context.largest, context.data
    order = np.random.default_rng(repetition).permutation(count)
    dead, live = np.sort(order[: int(DELETED * count)]), np.sort(order[int(DELETED * count) :])
    truth = data.truth(live, K)
    base = context.volume(count).folder
    said = f"{repetition + 1} of {context.plan.builds}"

    def add(name: str, graph: Graph) -> None:
        kinds[name].curves.append(graph.curve(live, data.queries, truth))
        kinds[name].unreachable += graph.unreachable

    def operation(name: str) -> Run:
        with running_on_copy(base) as sidecar:
            sidecar.delete(dead)
            if name == "optimized":
                add("tombstones", Graph.of_sidecar(sidecar.graph(), data.dimensions, data.metric))
                run = sidecar.optimize()
            else:
                run = sidecar.rebuild(seed=repetition)
            add(name, Graph.of_sidecar(sidecar.graph(), data.dimensions, data.metric))
        kinds[name].seconds.append(run.graph)
        kinds[name].walls.append(run.wall)
        return run

    with step(f"optimize {said}, of {count:,} items {len(dead):,} deleted"):
        operation("optimized")
    with step(f"rebuild {said}, {len(live):,} items"):
        operation("rebuilt")
    with step(f"hnswlib alone {said}, {len(live):,} items"):
        path = context.volumes.folder / "raw.hnsw"
        raw = context.rival("hnswlib", live, seed=repetition, save=path)
        add("hnswlib", Graph.of_hnswlib(path, data.dimensions, data.metric, live))
        kinds["hnswlib"].seconds.append(raw.build)


def _results(context: Context, kinds: dict[str, Kind]) -> list[Result]:
    optimized, rebuilt, raw = kinds["optimized"], kinds["rebuilt"], kinds["hnswlib"]
    live = context.largest - int(DELETED * context.largest)
    runs = f"{live:,} items, {context.threads} thread(s), mean of {len(rebuilt.seconds)}"
    better = [100 * (ours - theirs) for ours, theirs in zip(_recalls(rebuilt), _recalls(raw), strict=True)]
    interval = half_width(better)
    cost = {name: _at_default(kind) for name, kind in kinds.items()}
    return [
        Result.at_most(
            "rebuild: graph phase with repair / hnswlib add_items",
            _mean(rebuilt.seconds) / _mean(raw.seconds), 1.10, "x",
            f"{runs}: {_mean(rebuilt.seconds):.2f} s and {_mean(raw.seconds):.2f} s; {cost['rebuilt']}",
        ),
        Result(
            "rebuild: recall@10 less that of hnswlib",
            _mean(better), "points", f"≥ -{interval:.3f}", _mean(better) + interval >= 0,
            f"95 % interval of {len(better)} pairs; hnswlib: {cost['hnswlib']}",
        ),
        Result.at_least(
            "optimize: graph phase faster than rebuild's",
            _mean(rebuilt.seconds) / _mean(optimized.seconds), 10, "x",
            f"{runs}: {_mean(optimized.seconds):.2f} s; {cost['optimized']}",
        ),
        Result.at_least(
            f"optimize: faster end to end at {context.largest:,} items",
            _mean(rebuilt.walls) / _mean(optimized.walls), 4, "x",
            f"{_mean(rebuilt.walls):.2f} s and {_mean(optimized.walls):.2f} s; tombstones: {cost['tombstones']}",
        ),
        graphs.behind(optimized.curves, rebuilt.curves),
        Result.at_most(
            "unreachable after optimize and rebuild", optimized.unreachable + rebuilt.unreachable, 0, "items",
            f"hnswlib alone leaves {raw.unreachable / len(raw.seconds):,.0f} in each graph",
        ),
    ]  # fmt: skip


def _mean(values: list[float]) -> float:
    return statistics.fmean(values)


def _recalls(kind: Kind) -> list[float]:
    """At the default width."""
    return [float(curve.recalls[graphs.WIDTHS.index(64)]) for curve in kind.curves]


def _at_default(kind: Kind) -> str:
    place = graphs.WIDTHS.index(64)
    curve = graphs.mean(kind.curves)
    return f"recall {curve.recalls[place]:.4f} with {curve.computations[place]:,.0f} distances"
