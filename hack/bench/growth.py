"""What grows with the index, and what does not: memory, builds, searches, and the fixed part of an operation.

Other libraries hold the same items in a process of their own. Hardly any item is dead, so that an operation works on
all of them.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

import numpy as np

from bench import memory, rivals, screen
from bench.client import SearchClient
from bench.context import Context
from bench.data import recall
from bench.plan import K
from bench.result import Result
from bench.screen import step
from bench.sidecar import Run, running_on_copy

SHARE = 0.01
"""Of the items, deleted before each optimize."""
DELETED = 0.3
"""Of the items, deleted from other libraries at last."""
SEARCHES = 2_000
MEGABYTE = 1e6


@dataclass(frozen=True, eq=False)
class Size:
    """All that was measured at one number of items. ``rest``, ``peak`` (of a rebuild), ``optimizing`` in bytes;
    ``search``: median seconds over HTTP."""

    count: int
    build: float
    recall: float
    search: float
    rest: int
    peak: int
    optimizing: int
    optimizes: list[Run]
    rebuild: Run
    others: dict[str, rivals.Measured]


def measure(context: Context) -> list[Result]:
    sizes = [_measure(context, count) for count in context.plan.sizes]
    shown = [_shown(size) for size in sizes]
    screen.columns("", [f"{size.count:,} items" for size in sizes], shown)
    named = [
        replace(each, name=f"{size.count:,} items: {each.name}")
        for size, rows in zip(sizes, shown, strict=True)
        for each in rows
    ]
    return [*_memory(sizes), *_fixed(sizes[-1]), *named]


def _measure(context: Context, count: int) -> Size:
    volume = context.volume(count)
    rows = np.arange(count)
    truth = context.data.truth(rows, K)
    order = np.random.default_rng(0).permutation(count)
    part = max(1, int(SHARE * count))
    optimizes: list[Run] = []
    with running_on_copy(volume.folder) as sidecar:
        with step(f"searches, {count:,} items"):
            share = recall(sidecar.search(context.data.queries), truth)
            client = SearchClient(sidecar, context.data.queries)
            search = statistics.median(client.search() for _ in range(SEARCHES))
            client.close()
            rest = memory.anonymous(sidecar.pids())
        with step(f"optimize, {count:,} items, {context.plan.builds} times"), memory.peak(sidecar.pids) as optimizing:
            for number in range(context.plan.builds):
                sidecar.delete(np.sort(order[number * part : (number + 1) * part]))
                optimizes.append(sidecar.optimize())
                sidecar.settle()
        with step(f"rebuild, {count:,} items"), memory.peak(sidecar.pids) as peak:
            rebuild = sidecar.rebuild()
    others = {}
    for library in rivals.LIBRARIES:
        with step(f"{library}, {count:,} items"):
            others[library] = context.rival(library, rows, truth=truth, deletes=int(DELETED * count))
    return Size(
        count, volume.seconds, share, search, rest, peak.bytes, optimizing.bytes, optimizes, rebuild, others
    )  # fmt: skip


def _memory(sizes: list[Size]) -> list[Result]:
    counts = [size.count for size in sizes]
    raw, _ = memory.line(counts, [size.others["hnswlib"].bytes for size in sizes])
    rest, fixed = memory.line(counts, [size.rest for size in sizes])
    peak, peak_fixed = memory.line(counts, [size.peak for size in sizes])
    over = f"{counts[0]:,} to {counts[-1]:,} items"
    return [
        Result.at_most(
            "memory at rest: slope / hnswlib's", rest / raw, 1.15, "x",
            f"{rest:,.0f} and {raw:,.0f} B per item, anonymous PSS of all processes, {over}",
        ),
        Result.at_most(
            "memory at the peak of a rebuild: slope / hnswlib's", peak / raw, 2.1, "x",
            f"{peak:,.0f} B per item, {over}",
        ),
        Result.at_most("memory at rest: fixed part", fixed / MEGABYTE, 100, "MB"),
        Result.at_most("memory: fixed part more in a rebuild", (peak_fixed - fixed) / MEGABYTE, 80, "MB"),
    ]  # fmt: skip


def _fixed(size: Size) -> list[Result]:
    optimize = statistics.fmean(run.fixed for run in size.optimizes)
    name = f"fixed part at {size.count:,} items"
    return [
        Result.at_most(f"optimize: {name}", optimize, 1.0, "s", _phases(size.optimizes[-1])),
        Result.at_most(f"rebuild: {name}", size.rebuild.fixed, 1.0, "s", _phases(size.rebuild)),
    ]


def _phases(run: Run) -> str:
    """Seconds of the phases that count, and of the rest: starting processes, loading, the swap."""
    phases = {name: value for name, value in run.result["seconds"].items() if name not in ("graph", "repair")}
    rest = run.fixed - sum(phases.values())
    return ", ".join(f"{name} {value:.2f}" for name, value in [*phases.items(), ("processes and swap", rest)])


def _shown(size: Size) -> list[Result]:
    """The same rows at every size. Other libraries search in their own process with one thread, and delete in memory
    alone."""
    rows = [
        Result("ingest and build", size.build, "s"),
        Result("optimize, end to end", statistics.fmean(run.wall for run in size.optimizes), "s"),
        Result("rebuild, end to end", size.rebuild.wall, "s"),
        Result("search over HTTP, p50", 1e3 * size.search, "ms"),
        Result("recall@10", size.recall, ""),
        Result("memory at rest", size.rest / MEGABYTE, "MB"),
        Result("memory, most in a rebuild", size.peak / MEGABYTE, "MB"),
        Result("memory, most in an optimize", size.optimizing / MEGABYTE, "MB"),
    ]
    for library, other in size.others.items():
        rows.append(Result(f"{library}: build", other.build, "s"))
        rows.append(Result(f"{library}: search, p50", 1e3 * other.search, "ms"))
        rows.append(Result(f"{library}: recall@10", other.recall, ""))
        rows.append(Result(f"{library}: memory", other.bytes / MEGABYTE, "MB"))
        if other.deletes is not None:
            rows.append(Result(f"{library}: delete 30 %", int(DELETED * size.count) / other.deletes, "IDs/s"))
    return rows
