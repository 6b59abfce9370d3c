"""A measured figure, and the target that it has to meet."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """``note`` says on what it was measured, with the recall that belongs to a speed. ``target`` and ``met`` are None
    for what is only shown."""

    name: str
    value: float
    unit: str
    target: str | None = None
    met: bool | None = None
    note: str = ""

    @classmethod
    def at_most(cls, name: str, value: float, limit: float, unit: str, note: str = "") -> Result:
        return cls(name, value, unit, f"≤ {limit:g}", value <= limit, note)

    @classmethod
    def at_least(cls, name: str, value: float, limit: float, unit: str, note: str = "") -> Result:
        return cls(name, value, unit, f"≥ {limit:g}", value >= limit, note)


def write(path: Path, results: Sequence[Result]) -> None:
    """A JSON list of {name, value, unit, target, met}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"name": each.name, "value": each.value, "unit": each.unit, "target": each.target, "met": each.met}
        for each in results
    ]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of the mean of a few values (Student's t); infinite for a single one."""
    if len(values) < 2:
        return math.inf
    quantiles = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
    t = quantiles[min(len(values) - 1, len(quantiles)) - 1]
    return t * statistics.stdev(values) / math.sqrt(len(values))
