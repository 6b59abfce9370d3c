"""How both sides put figures into words."""

from __future__ import annotations

import math

_BYTES = ("bytes", "kB", "MB", "GB", "TB", "PB")
_SECONDS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def rounded(value: float) -> int:
    """Up to two significant digits, at least 0: so exact is an estimate, and it does not change with every write."""
    if value < 1:
        return math.ceil(max(0.0, value))
    step = math.pow(10, max(0, math.floor(math.log10(value)) - 1))
    return math.ceil(math.ceil(value / step) * step)


def bytes_text(count: float) -> str:
    """A size to two significant digits or whole units: ``84 MB``, ``1.3 GB``."""
    value, unit = float(max(0.0, count)), 0
    while value >= 999.5 and unit + 1 < len(_BYTES):
        value, unit = value / 1_000, unit + 1
    return f"{value:.1f} {_BYTES[unit]}" if unit and value < 9.95 else f"{value:.0f} {_BYTES[unit]}"


def seconds_text(seconds: float) -> str:
    """A duration in its largest unit: ``40 s``, ``2 minutes``, ``3 hours``."""
    for size, name in _SECONDS:
        if seconds >= 1.5 * size:
            return f"{round(seconds / size)} {name}s"
    return f"{math.ceil(seconds)} s"
