"""Months of an index in short: in each round 7 % of the items are deleted, as many others are added, then optimize."""

from __future__ import annotations

import numpy as np

from bench.context import Context
from bench.data import recall
from bench.plan import K
from bench.result import Result
from bench.screen import step
from bench.sidecar import Sidecar, running_on_copy

SHARE = 0.07


def measure(context: Context) -> list[Result]:
    """The items that are added later are others of the data, so that one in 1.7 is there at first."""
    rounds, data = context.plan.churn_rounds, context.data
    count = int(context.largest / (1 + SHARE * rounds))
    size = int(SHARE * count)
    random = np.random.default_rng(0)
    live = np.arange(count)

    def found(sidecar: Sidecar) -> float:
        return recall(sidecar.search(data.queries), data.truth(live, K))

    with running_on_copy(context.volume(count).folder) as sidecar:
        at_first = found(sidecar)
        for number in range(rounds):
            with step(f"churn {number + 1} of {rounds}: {size:,} of {count:,} items"):
                dead = np.sort(random.choice(live, size, replace=False))
                new = np.arange(count + number * size, count + (number + 1) * size)
                sidecar.delete(dead)
                sidecar.load(new, data.items[new], mode="upsert")
                live = np.concatenate([np.setdiff1d(live, dead), new])
                sidecar.optimize()
        churned = found(sidecar)
        with step("a rebuild of what is there then"):
            rebuild = sidecar.rebuild()
        rebuilt = found(sidecar)
    computed = rebuild.result["computations"]
    return [
        Result.at_most(
            f"{rounds} rounds of 7 % churn with optimize: recall@10 behind a rebuild", 100 * (rebuilt - churned), 0.3,
            "points",
            f"{at_first:.4f} at first, {churned:.4f} after all rounds, {rebuilt:.4f} rebuilt then; "
            f"{computed['before']:,.0f} distances a query, {computed['after']:,.0f} rebuilt",
        )
    ]  # fmt: skip
