"""What the demo prints: headings, each command with what it answers, notes, and tables."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

from rich.console import Console

console = Console(highlight=False, width=None if os.isatty(1) else 120)


class DemoError(Exception):
    """What was shown is not what must be: the demo ends here."""


def heading(text: str) -> None:
    console.print(f"\n[bold cyan]── {text} [/]" + "[cyan]" + "─" * max(0, 96 - len(text)) + "[/]\n")


def note(text: str) -> None:
    console.print(f"[dim]{text}[/]")


def good(text: str) -> None:
    console.print(f"[green]✓[/] {text}")


def require(condition: bool, claim: str) -> None:
    """Show a claim that was checked. Raises DemoError when it does not hold."""
    if not condition:
        raise DemoError(f"this should be so, and is not: {claim}")
    good(claim)


def command(argv: Sequence[str], *, show: bool = True, stdin: str | None = None) -> str:
    """Run a command, show it and what it prints, and return that. Raises DemoError if it fails."""
    if show:
        console.print(f"[bold green]$[/] [bold]{shlex.join(argv)}[/]", soft_wrap=True)
    result = subprocess.run(argv, input=stdin, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if show and result.stdout.strip():
        console.print(result.stdout.rstrip(), markup=False, soft_wrap=True)
    if result.returncode:
        raise DemoError(f"`{shlex.join(argv)}` ended with {result.returncode}: {result.stdout.strip()[-2000:]}")
    return result.stdout
