"""Half of many small vectors deleted in one request, durable and seen by every later search when it is answered."""

from __future__ import annotations

import statistics

import numpy as np

from bench.context import Context
from bench.result import Result
from bench.screen import step
from bench.sidecar import running_on_copy

DIMENSIONS = 8
REPETITIONS = 3


def measure(context: Context) -> list[Result]:
    count = context.plan.delete_items
    random = np.random.default_rng(0)
    volume = context.volumes.of(random.standard_normal((count, DIMENSIONS)).astype(np.float32), context.metric)
    seconds = []
    for number in range(REPETITIONS):
        what = f"delete {number + 1} of {REPETITIONS}: {count // 2:,} IDs"
        with step(what), running_on_copy(volume.folder) as sidecar:
            seconds.append(sidecar.delete(random.permutation(count)[: count // 2]))
    return [
        Result.at_least(
            f"delete, durable, {count // 2:,} IDs in one request", count // 2 / statistics.median(seconds), 200_000,
            "IDs/s", f"{count:,} items, {DIMENSIONS}-d synthetic, over HTTP, median of {REPETITIONS}",
        )
    ]  # fmt: skip
