"""How much is tried, and what was tried: settings from the environment, which `make faults` sets."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

ALL = os.environ.get("FAULTS") == "all"
"""Whether everything is tried, or a part of it."""
SEED = int(os.environ.get("FAULTS_SEED", "20261126"))
REPEAT = int(os.environ.get("FAULTS_REPEAT", "1"))
"""How often what depends on the moment is tried."""

tried: Counter[str] = Counter()


def chosen(points: Sequence[T], few: int) -> Sequence[T]:
    """All of them, or a few by the seed, in their order."""
    if ALL or len(points) <= few:
        return points
    return [points[place] for place in sorted(random.Random(SEED).sample(range(len(points)), few))]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Of each fault, how often it was tried; for the conftest of each folder with such tests."""
    if tried:
        terminalreporter.section(f"faults tried, SEED={SEED}" + ("" if ALL else " (all of them: make faults)"))
        for what, number in sorted(tried.items()):
            terminalreporter.write_line(f"{number:6,} {what}")
        tried.clear()
