"""What happened: for the report at the end, and for whoever looks into a violation."""

from __future__ import annotations

import time
from collections import Counter, deque


class Violation(Exception):
    """The sidecar did what it must never do."""


class History:
    """What happened: the last actions, and what was killed when."""

    def __init__(self) -> None:
        self._actions: deque[str] = deque(maxlen=60)
        self._started = time.monotonic()
        self.kills: Counter[tuple[str, str]] = Counter()
        self.operations: Counter[tuple[str, str]] = Counter()

    def note(self, action: str) -> None:
        self._actions.append(f"{time.monotonic() - self._started:8.3f} s  {action}")

    def report(self) -> str:
        lines = [f"{self.kills.total()} kills, by process and what went on:"]
        lines += [f"  {count:5}  {who:9} {phase}" for (who, phase), count in sorted(self.kills.items())]
        lines += [f"{self.operations.total()} operations, by kind and end:"]
        lines += [f"  {count:5}  {kind:9} {end}" for (kind, end), count in sorted(self.operations.items())]
        return "\n".join(lines)

    def last_actions(self) -> str:
        return "\n".join(self._actions)
