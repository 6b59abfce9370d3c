"""`python -m bench`: every target, then a table, build/bench.json and the picture."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import churn, deletes, growth, latency, machine, maintenance, operators, picture, scale, screen
from bench.context import Context
from bench.data import ROOT, NoDataError, load, source
from bench.graphs import Curve
from bench.plan import TARGETED, full, quick
from bench.result import Result, write
from bench.sidecar import SidecarError
from bench.volumes import Volumes
from devcluster.errors import DevClusterError
from vectorindex.engine.params import Metric
from vectorindex.sidecar.limits import builder_threads

METRICS = (Metric.COSINE, Metric.INNER_PRODUCT)
JSON = ROOT / "build" / "bench.json"
PICTURE = ROOT / "docs" / "design" / "recall.svg"

Experiment = Callable[[Context], list[Result]]
EXPERIMENTS: dict[str, Experiment] = {
    "deletes": deletes.measure,
    "growth": growth.measure,
    "latency": latency.measure,
    "churn": churn.measure,
}
MAINTENANCE = "maintenance"
OPERATOR = "operator"
ALL = (OPERATOR, *EXPERIMENTS, MAINTENANCE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ALL, help="some experiments")
    parser.add_argument("--quick", action="store_true", help="few items and repetitions, to try the benchmark itself")
    parser.add_argument("--metric", nargs="+", type=Metric, choices=METRICS, default=METRICS)
    parser.add_argument("--scale", type=int, help="instead: so many items once, into docs/design/scale.md")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))  # by way of what stops the sidecars
    try:
        if arguments.scale:
            return _scale(arguments.scale)
        return _bench(arguments.only or list(ALL), arguments.metric, arguments.quick)
    except (NoDataError, SidecarError, DevClusterError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _bench(chosen: list[str], metrics: list[Metric], small: bool) -> int:
    started = time.monotonic()
    screen.heading("The machine")
    screen.console.print(f"  {machine.describe()}")
    results: list[Result] = []
    if OPERATOR in chosen:
        chosen = [name for name in chosen if name != OPERATOR]
        screen.heading("The operator")
        results.extend(operators.measure(operators.QUICK if small else operators.FULL))
        screen.table("", results)
        write(JSON, results)
    if chosen:
        _data_plane(chosen, metrics, small, results, started)
    screen.heading(f"All results, after {(time.monotonic() - started) / 60:.0f} min")
    screen.table(machine.describe(), _judged(results))
    missed = [each for each in results if each.met is False]
    screen.console.print(f"{JSON.relative_to(ROOT)} holds all; {len(missed)} targets are not met")
    return 0


def _data_plane(chosen: list[str], metrics: list[Metric], small: bool, results: list[Result], started: float) -> None:
    """What is measured on real sidecars, of real data; ``results`` grows."""
    path = source()
    screen.console.print(f"  {path}")
    curves: dict[str, dict[str, Curve]] = {}
    for metric in metrics:
        data = load(path, metric)
        plan = (quick if small else full)(len(data.items))
        with tempfile.TemporaryDirectory(prefix="vectorindex-bench-") as folder:
            context = Context(plan, data, Volumes(Path(folder)), builder_threads())
            for name in chosen:
                screen.heading(f"{metric}: {name}, after {(time.monotonic() - started) / 60:.0f} min")
                if name == MAINTENANCE:
                    measured, curves[metric.value] = maintenance.measure(context)
                else:
                    measured = EXPERIMENTS[name](context)
                screen.table("", _judged(measured))
                results.extend(_of(metric, measured))
                write(JSON, results)
        what = f"{plan.sizes[-1]:,} items of {data.dimensions} dimensions, M 16, efConstruction 200"
    if MAINTENANCE in chosen and not small:
        picture.draw(PICTURE, curves, what)
    if plan.sizes[-1] < TARGETED:
        screen.console.print(f"Measured on {plan.sizes[-1]:,} items; the targets speak of {TARGETED:,}")


def _scale(count: int) -> int:
    screen.heading(f"{count:,} items")
    data = load(source(), Metric.COSINE)
    with tempfile.TemporaryDirectory(prefix="vectorindex-bench-") as folder:
        scale.measure(data, count, len(os.sched_getaffinity(0)), Path(folder))
    screen.console.print(f"{scale.PAGE.relative_to(ROOT)} is written")
    return 0


def _judged(results: list[Result]) -> list[Result]:
    return [each for each in results if each.target is not None]


def _of(metric: Metric, results: list[Result]) -> list[Result]:
    return [
        Result(f"{metric}: {each.name}", each.value, each.unit, each.target, each.met, each.note) for each in results
    ]


if __name__ == "__main__":
    sys.exit(main())
