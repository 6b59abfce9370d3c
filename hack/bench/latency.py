"""What a search costs over HTTP, and what a rebuild and a swap do to the searches meanwhile."""

from __future__ import annotations

import time

import hnswlib
import numpy as np
from numpy.typing import NDArray

from bench.client import SearchClient, searching
from bench.context import Context
from bench.data import recall
from bench.plan import EF_SEARCH, K
from bench.result import Result
from bench.screen import step
from bench.sidecar import Sidecar, running_on_copy
from vectorindex.engine.distance import hnswlib_space

BLOCK = 500
"""Searches one way before as many the other way, so that both meet the same machine."""
WARM_UP = 500
WINDOW = 0.05
"""Seconds before and after a swap in which its effect is looked for."""
CHURN = 0.002
"""Share of the items deleted before each swap, so that there is something to optimize."""


def measure(context: Context) -> list[Result]:
    with running_on_copy(context.volume(context.largest).folder) as sidecar:
        client = SearchClient(sidecar, context.data.queries)
        try:
            for _ in range(WARM_UP):
                client.search()
            return [
                *_over_http(context, sidecar, client),
                _during_rebuild(context, sidecar, client),
                _around_swaps(context, sidecar, client),
            ]
        finally:
            client.close()


def _over_http(context: Context, sidecar: Sidecar, client: SearchClient) -> list[Result]:
    queries = context.data.queries
    rows = np.arange(context.largest)
    truth = context.data.truth(rows, K)
    with step(f"{context.plan.searches:,} searches over HTTP and with hnswlib alone, {BLOCK} in turn"):
        index = hnswlib.Index(hnswlib_space(context.metric), context.data.dimensions)
        index.load_index(str(sidecar.graph()))
        index.set_ef(EF_SEARCH)
        index.set_num_threads(1)
        ours: list[float] = []
        raw: list[float] = []
        while len(ours) < context.plan.searches:
            ours.extend(client.search() for _ in range(BLOCK))
            for _ in range(BLOCK):
                query = queries[len(raw) % len(queries)]
                started = time.perf_counter()
                index.knn_query(query, K, num_threads=1)
                raw.append(time.perf_counter() - started)
        share = recall(sidecar.search(queries), truth)
    http, alone = np.percentile(ours, (50, 99)), np.percentile(raw, (50, 99))
    return [
        Result.at_most(
            "search over HTTP, p50 above raw knn_query", 1e3 * float(http[0] - alone[0]), 0.5, "ms",
            f"{1e3 * http[0]:.3f} and {1e3 * alone[0]:.3f} ms, p99 {1e3 * http[1]:.3f} and {1e3 * alone[1]:.3f}; "
            f"recall {share:.4f}, {context.largest:,} items, one client",
        )
    ]  # fmt: skip


def _during_rebuild(context: Context, sidecar: Sidecar, client: SearchClient) -> Result:
    with step(f"searches before, during and after a rebuild of {context.largest:,} items"), searching(client) as seen:
        first = time.perf_counter()
        time.sleep(context.plan.idle_seconds)
        began = time.perf_counter()
        sidecar.rebuild()
        ended = time.perf_counter()
        time.sleep(context.plan.idle_seconds)
        last = time.perf_counter()
    idle = np.concatenate([seen.between(first, began), seen.between(ended, last)])
    busy = seen.between(began, ended)
    return Result.at_most(
        "search p99 during a rebuild / idle", _p99(busy) / _p99(idle), 1.5, "x",
        f"{1e3 * _p99(busy):.3f} and {1e3 * _p99(idle):.3f} ms, p50 {1e3 * np.median(busy):.3f} and "
        f"{1e3 * np.median(idle):.3f}; {len(busy):,} and {len(idle):,} searches, {context.threads} thread(s)",
    )  # fmt: skip


def _around_swaps(context: Context, sidecar: Sidecar, client: SearchClient) -> Result:
    order = np.random.default_rng(0).permutation(context.largest)
    size = max(1, int(CHURN * context.largest))
    swapped: list[float] = []
    with step(f"searches around {context.plan.swaps} swaps"), searching(client) as seen:
        for number in range(context.plan.swaps):
            sidecar.delete(np.sort(order[number * size : (number + 1) * size]))
            sidecar.optimize()
            swapped.append(time.perf_counter())
            time.sleep(8 * WINDOW)
    worst = [seen.between(at - WINDOW, at + WINDOW).max() for at in swapped]
    without = [seen.between(at + 4 * WINDOW, at + 6 * WINDOW).max() for at in swapped]
    return Result.at_most(
        "swap: worst search within ±50 ms, less the same without", 1e3 * float(max(worst) - max(without)), 10, "ms",
        f"{len(swapped)} swaps: worst {1e3 * max(worst):.2f} ms, median {1e3 * np.median(worst):.2f}; without "
        f"{1e3 * max(without):.2f}, {1e3 * np.median(without):.2f}",
    )  # fmt: skip


def _p99(seconds: NDArray[np.float64]) -> float:
    return float(np.percentile(seconds, 99))
