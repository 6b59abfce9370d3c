"""What the benchmark shows: headings, what runs and for how long, and the table of results."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.result import Result

console = Console(highlight=False, width=None if os.isatty(1) else 160)


def heading(text: str) -> None:
    console.print(f"\n[bold cyan]── {text} [/]" + "[cyan]" + "─" * max(0, 96 - len(text)) + "[/]")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show that ``what`` runs and for how long; a line remains of it."""
    started = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(what)
        yield
    console.print(f"  {what} [dim]{time.monotonic() - started:.1f} s[/]")


def table(title: str, results: Sequence[Result]) -> None:
    rows = Table(title=title, title_justify="left", header_style="bold")
    rows.add_column("what", overflow="fold")
    rows.add_column("measured", justify="right", no_wrap=True)
    rows.add_column("target", no_wrap=True)
    rows.add_column("", no_wrap=True)
    rows.add_column("with", style="dim", overflow="fold")
    for each in results:
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}[each.met]
        rows.add_row(each.name, f"{number(each.value)} {each.unit}", each.target or "", mark, each.note)
    console.print(rows)


def columns(title: str, names: Sequence[str], results: Sequence[Sequence[Result]]) -> None:
    """The same rows side by side: a column of results for each name."""
    rows = Table(title=title, title_justify="left", header_style="bold")
    for name in ("what", *names):
        rows.add_column(name, justify="left" if name == "what" else "right", no_wrap=True)
    for line in zip(*results, strict=True):
        rows.add_row(line[0].name, *(f"{number(each.value)} {each.unit}" for each in line))
    console.print(rows)


def number(value: float) -> str:
    """With about three digits that count."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
