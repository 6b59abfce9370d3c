"""One story, told with the operator ended by SIGKILL at each of its calls: it ends as the one without."""

from __future__ import annotations

from collections.abc import Callable

from tests.apiserver.faults.proxy import When
from tests.apiserver.faults.stage import Stage
from tests.apiserver.faults.tally import chosen, tried
from tests.apiserver.operator.world import Object

Killed = tuple[int, When] | None
"""At which call the operator ends, and where in it; None: it does not."""
Play = Callable[[Killed], tuple[Object, list[str]]]
"""Tells the story once; returns how it ended, and the calls that it took."""


def compare_all(stage: Stage, title: str, play: Play, few: int, calls_at_least: int) -> None:
    """At all calls, or at a ``few`` in `make test`."""
    expected, calls = play(None)
    assert len(calls) >= calls_at_least, calls
    for killed in chosen([(call, when) for call in range(len(calls)) for when in When], few):
        found, made = play(killed)
        call, when = killed
        assert found == expected, f"killed at call {call} ({when.value}) of {calls}: {made}"
        if stage.gate.hit:
            tried[f"operator killed at a call: {title}"] += 1
