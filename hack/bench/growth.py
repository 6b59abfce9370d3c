"""What grows with the index, and what does not: memory, builds, searches, and the fixed part of an operation.

Other libraries hold the same items in a process of their own. Hardly any item is dead, so that an operation works on
all of them.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from bench import memory, rivals
from bench.client import SearchClient
from bench.context import Context
from bench.data import recall
from bench.plan import K
from bench.result import Result
from bench.screen import step
from bench.sidecar import Run, running_on_copy

SHARE = 0.01
"""Of the items, deleted before each optimize."""
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
    results = [*_memory(sizes), *_fixed(sizes[-1])]
    for size in sizes:
        results.extend(_shown(size))
    return results


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
        with step(f"rebuild, {count:,} items"), memory.peak(sidecar.pids) as peak:
            rebuild = sidecar.rebuild()
    others = {}
    for library in rivals.LIBRARIES:
        with step(f"{library}, {count:,} items"):
            others[library] = context.rival(library, rows, truth=truth, deletes=int(0.3 * count))
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
    at = f"{size.count:,} items"
    ours = f"recall {size.recall:.4f}"
    rows = [
        Result(f"{at}: ingest and build", size.build, "s"),
        Result(f"{at}: optimize, end to end", statistics.fmean(run.wall for run in size.optimizes), "s"),
        Result(f"{at}: rebuild, end to end", size.rebuild.wall, "s"),
        Result(f"{at}: search over HTTP, p50", 1e3 * size.search, "ms", note=ours),
        Result(f"{at}: memory at rest", size.rest / MEGABYTE, "MB", note=_peaks(size)),
    ]
    for library, other in size.others.items():
        note = f"recall {other.recall:.4f}, one thread, in process"
        rows.append(Result(f"{at}: {library}, build", other.build, "s"))
        rows.append(Result(f"{at}: {library}, search p50", 1e3 * other.search, "ms", note=note))
        rows.append(Result(f"{at}: {library}, memory", other.bytes / MEGABYTE, "MB"))
        if not np.isnan(other.deletes):
            rate = int(0.3 * size.count) / other.deletes
            rows.append(Result(f"{at}: {library}, delete", rate, "IDs/s", note="30 % of all, in memory, not durable"))
    return rows


def _peaks(size: Size) -> str:
    return f"at most {size.peak / MEGABYTE:.0f} in a rebuild, {size.optimizing / MEGABYTE:.0f} in an optimize"
