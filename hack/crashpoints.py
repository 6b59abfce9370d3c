"""`make crash`: the engine killed before each of its system calls, with errors from each, and after power losses.

The tests of ``tests/crash`` try a part of this; here is all of it, with tables of what was tried. It needs root and
strace.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial

from rich.console import Console
from rich.table import Table

from devcluster import debian
from devcluster.errors import DevClusterError
from tests.crash.campaign import (
    Crew,
    Point,
    Problem,
    Recording,
    crew,
    error_points,
    fail_at,
    kill_at,
    kill_twice,
    lose_power_after_restart,
    missed_without,
    power_losses,
    record,
    survives,
    syncs,
    thorough,
)
from tests.crash.scenario import STEPS, step_name

CONSOLE = Console(width=150)
CAMPAIGNS = ("kill", "errors", "twice", "power", "restart", "fsyncs")


class Report:
    """What was tried and what was wrong, over all campaigns."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, what: str, tried: int, problems: Iterable[Problem | None], started: float) -> None:
        found = [problem for problem in problems if problem is not None]
        self.problems += found
        CONSOLE.print(f"==> {what}: {tried:,} tried, {len(found)} wrong, {time.monotonic() - started:.0f} s")
        for problem in found:
            CONSOLE.print(f"    {problem}", markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--torn", type=int, default=4, help="states by seed at each call (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=CAMPAIGNS, default=CAMPAIGNS)
    given = parser.parse_args()
    try:
        debian.ensure_packages(debian.FAULTS)
    except DevClusterError as error:
        print(error, file=sys.stderr)
        return 2
    report = Report()
    with crew() as team:
        recording = record(team)
        points = recording.points()
        show_points(points)
        if "kill" in given.only:
            started = time.monotonic()
            report.add("killed", len(points), team.map(partial(kill_at, recording), points), started)
        if "errors" in given.only:
            errors(team, recording, report)
        if "twice" in given.only:
            started = time.monotonic()
            twice = team.map(partial(kill_twice, recording), points)
            wrong = [problem for _, problems in twice for problem in problems]
            report.add("killed, and the start killed", sum(number for number, _ in twice), wrong, started)
        if "power" in given.only:
            started = time.monotonic()
            states = list(power_losses(recording, thorough(given.torn)))
            report.add("power lost", len(states), team.map(partial(survives, recording), states), started)
        if "restart" in given.only:
            started = time.monotonic()
            lost = team.map(partial(lose_power_after_restart, recording), points)
            wrong_after = [problem for _, problem in lost]
            report.add("killed, started, power lost", sum(number for number, _ in lost), wrong_after, started)
        if "fsyncs" in given.only:
            show_fsyncs(team, recording, given.torn)
    CONSOLE.print(f"==> {len(report.problems)} problems")
    return 1 if report.problems else 0


def errors(team: Crew, recording: Recording, report: Report) -> None:
    for name in ("EIO", "ENOSPC"):
        started = time.monotonic()
        points = [chosen for chosen in error_points(recording.points()) if chosen[1] == name]
        found = team.map(lambda driver, folder, job: fail_at(recording, driver, folder, *job), points)
        report.add(f"{name} of a call", len(points), found, started)


def show_points(points: list[Point]) -> None:
    """How many calls each step makes."""
    by_step = Counter((point.step, point.call) for point in points)
    calls = sorted({point.call for point in points})
    table = Table("step", *calls, "all", title="calls that change files or make them durable")
    for step in range(len(STEPS)):
        numbers = [by_step[step, call] for call in calls]
        table.add_row(step_name(step), *(str(number or "") for number in numbers), str(sum(numbers)))
    totals = Counter(point.call for point in points)
    table.add_row("all", *(str(totals[call]) for call in calls), str(len(points)), style="bold")
    CONSOLE.print(table)


def show_fsyncs(team: Crew, recording: Recording, torn: int) -> None:
    """Each fsync taken away, by site and step: in how many of its steps a power loss is then not survived."""
    removals = syncs(recording)
    found = team.map(
        lambda driver, folder, positions: missed_without(recording, driver, folder, frozenset(positions), torn),
        removals.values(),
    )
    table = Table("fsync", "steps", "missed in", "states", "in these it is not missed", title="fsyncs taken away")
    for site in dict.fromkeys(removal.site for removal in removals):
        results = [(removal, *result) for removal, result in zip(removals, found, strict=True) if removal.site == site]
        missed = [removal for removal, _, problem in results if problem is not None]
        spared = [f"{removal.step:02d}" for removal, _, problem in results if problem is None]
        states = sum(number for _, number, _ in results)
        table.add_row(site, str(len(results)), str(len(missed)), str(states), " ".join(spared))
    CONSOLE.print(table)


if __name__ == "__main__":
    sys.exit(main())
