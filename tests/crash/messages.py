"""What is said to the driver and what it answers. In a module of their own, since the driver runs as ``__main__``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.crash.oracle import World

LARGEST = 1 << 20
"""Bytes of the largest message."""


@dataclass(frozen=True)
class Live:
    """Live the scenario to its end. ``observed``: each acknowledgement brings what can be seen then. ``until``: that
    step is expected to meet an error; stop after it, without a farewell."""

    data_dir: Path
    observed: bool = False
    until: int | None = None


@dataclass(frozen=True)
class Recover:
    """Start on what is there, delete one item, and say so; end without a farewell."""

    data_dir: Path


@dataclass(frozen=True)
class Check:
    """Ask the oracle. ``secrets`` by the time of a seal: what must be in no file when it is said to be erased."""

    data_dir: Path
    allowed: tuple[World, ...]
    volume_id: str | None
    secrets: dict[float, frozenset[bytes]]
    probed: bool = False


Task = Live | Recover | Check


@dataclass(frozen=True)
class Started:
    pid: int


@dataclass(frozen=True)
class Begun:
    step: int


@dataclass(frozen=True)
class Done:
    """The step is acknowledged. ``erased``: the time that the index has given for what is erased; ``secrets`` by it."""

    step: int
    volume_id: str
    erased: float | None
    secrets: dict[float, frozenset[bytes]]
    world: World | None = None


@dataclass(frozen=True)
class Refused:
    """The step has raised. ``store`` afterwards: ``written`` or ``stopped`` by the probe, ``closed`` where none is
    open."""

    step: int
    error: str
    store: str


@dataclass(frozen=True)
class Answer:
    """Of Recover and Check: what there is, or what is wrong."""

    world: World | None
    problem: str = ""
    volume_id: str = ""


@dataclass(frozen=True)
class Ended:
    """``status`` as of waitpid."""

    status: int
