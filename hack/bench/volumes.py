"""Volumes with an index of so many items, made once per run by a real sidecar; experiments work on copies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import sidecar
from bench.screen import step
from vectorindex.engine.params import Metric


@dataclass(frozen=True)
class Volume:
    """``seconds``: of the ingest session, from its first row to the answer of finalize."""

    folder: Path
    seconds: float


class Volumes:
    """In a folder that is the run's own. Those of each metric by themselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, int], Volume] = {}

    @property
    def folder(self) -> Path:
        """For other files of the run."""
        return self._folder

    def of(self, vectors: NDArray[np.float32], metric: Metric, threads: int | None = None) -> Volume:
        """A volume whose index holds ``vectors`` (n, d) as the items 0..n-1."""
        count, dimensions = vectors.shape
        name = f"{metric.value}-{dimensions}", count
        if name not in self._made:
            folder = self._folder / f"{name[0]}-{count}"
            what = f"an index of {count:,} items of {dimensions} dimensions, {metric}"
            with step(what), sidecar.running(folder) as program:
                program.create(dimensions, metric)
                if threads is not None:
                    program.configure(threads=threads)
                started = time.perf_counter()
                program.load(np.arange(count), vectors)
                seconds = time.perf_counter() - started
            self._made[name] = Volume(folder, seconds)
        return self._made[name]
