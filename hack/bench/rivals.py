"""Other libraries, each in a process of its own with the priority of a builder: `python -m bench.rivals JOB RESULT`.

They get the vectors of a file, build one graph with our parameters, and are asked the queries one by one in one thread.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.data import recall
from bench.memory import anonymous
from bench.plan import EF_CONSTRUCTION, EF_SEARCH, K, M
from vectorindex.engine.distance import hnswlib_space
from vectorindex.engine.params import Metric

LIBRARIES = {"hnswlib": "hnswlib", "usearch": "usearch.index", "faiss": "faiss"}
"""Names, and the module of each."""
NICE = 19


@dataclass(frozen=True)
class Job:
    """``vectors`` and ``queries``: .npy files of float32; ``truth`` (q, k) rows; ``save``: where a graph of hnswlib
    goes; ``deletes``: how many items are deleted at last."""

    library: str
    metric: Metric
    threads: int
    vectors: Path
    seed: int = 0
    queries: Path | None = None
    truth: NDArray[np.int64] | None = None
    save: Path | None = None
    deletes: int = 0


@dataclass(frozen=True)
class Measured:
    """Seconds of the build, anonymous bytes that it took; recall@10 and the median seconds of a search (NaN: not asked
    for); seconds of all deletes (None: not asked for, or the library has none)."""

    build: float
    bytes: int
    recall: float
    search: float
    deletes: float | None


class Library(Protocol):
    def add(self, vectors: NDArray[np.float32]) -> None: ...

    def search(self, query: NDArray[np.float32]) -> NDArray[np.int64]:
        """Up to K rows, nearest first."""

    def delete(self, rows: NDArray[np.int64]) -> None:
        """Raises NotImplementedError."""

    def save(self, path: Path) -> None:
        """Raises NotImplementedError."""


class Hnswlib:
    def __init__(self, job: Job, dimensions: int, count: int) -> None:
        import hnswlib

        self._index = hnswlib.Index(hnswlib_space(job.metric), dimensions)
        self._index.init_index(count, M=M, ef_construction=EF_CONSTRUCTION, random_seed=job.seed)
        self._index.set_ef(EF_SEARCH)
        self._threads = job.threads

    def add(self, vectors: NDArray[np.float32]) -> None:
        self._index.add_items(vectors, num_threads=self._threads)

    def search(self, query: NDArray[np.float32]) -> NDArray[np.int64]:
        labels, _ = self._index.knn_query(query, K, num_threads=1)
        return np.asarray(labels[0], np.int64)

    def delete(self, rows: NDArray[np.int64]) -> None:
        for row in rows.tolist():
            self._index.mark_deleted(row)

    def save(self, path: Path) -> None:
        self._index.save_index(str(path))


class Usearch:
    def __init__(self, job: Job, dimensions: int, count: int) -> None:
        from usearch.index import Index

        self._index = Index(
            ndim=dimensions,
            metric="l2sq" if job.metric is Metric.L2 else "ip",
            dtype="f32",
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
            expansion_search=EF_SEARCH,
        )
        self._threads = job.threads

    def add(self, vectors: NDArray[np.float32]) -> None:
        self._index.add(np.arange(len(vectors)), vectors, threads=self._threads)

    def search(self, query: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.asarray(self._index.search(query, K, threads=1).keys, np.int64)

    def delete(self, rows: NDArray[np.int64]) -> None:
        self._index.remove(rows.astype(np.uint64), threads=self._threads)

    def save(self, path: Path) -> None:
        raise NotImplementedError


class Faiss:
    def __init__(self, job: Job, dimensions: int, count: int) -> None:
        import faiss

        faiss.omp_set_num_threads(job.threads)
        kind = faiss.METRIC_L2 if job.metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexHNSWFlat(dimensions, M, kind)
        self._index.hnsw.efConstruction = EF_CONSTRUCTION
        self._index.hnsw.efSearch = EF_SEARCH

    def add(self, vectors: NDArray[np.float32]) -> None:
        self._index.add(vectors)

    def search(self, query: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.asarray(self._index.search(query[None], K)[1][0], np.int64)

    def delete(self, rows: NDArray[np.int64]) -> None:
        raise NotImplementedError

    def save(self, path: Path) -> None:
        raise NotImplementedError


def measure(job: Job) -> Measured:
    """Run a job in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="vectorindex-bench-") as folder:
        given, measured = Path(folder) / "job", Path(folder) / "measured"
        given.write_bytes(pickle.dumps(job))
        subprocess.run([sys.executable, "-m", "bench.rivals", given, measured], check=True)
        return Measured(**json.loads(measured.read_text()))


def _measure(job: Job) -> Measured:
    vectors = np.load(job.vectors, mmap_mode="r")
    np.asarray(vectors).sum()  # the pages are in memory, as those of a builder's input are
    importlib.import_module(LIBRARIES[job.library])  # what the code takes is not the graph's
    before = anonymous([os.getpid()])
    library = _open(job, *vectors.shape[::-1])
    started = time.perf_counter()
    library.add(vectors)
    build = time.perf_counter() - started
    taken = anonymous([os.getpid()]) - before
    if job.save is not None:
        library.save(job.save)
    share, median = _searches(library, job)
    return Measured(build, taken, share, median, _deletes(library, job, len(vectors)))


def _searches(library: Library, job: Job) -> tuple[float, float]:
    if job.queries is None or job.truth is None:
        return float("nan"), float("nan")
    found, seconds = np.full(job.truth.shape, -1), []
    for line, query in zip(found, np.load(job.queries), strict=True):
        started = time.perf_counter()
        answer = library.search(query)
        seconds.append(time.perf_counter() - started)
        line[: len(answer)] = answer
    return recall(found, job.truth), statistics.median(seconds)


def _deletes(library: Library, job: Job, count: int) -> float | None:
    if not job.deletes:
        return None
    rows = np.sort(np.random.default_rng(0).choice(count, job.deletes, replace=False))
    started = time.perf_counter()
    try:
        library.delete(rows)
    except NotImplementedError:
        return None
    return time.perf_counter() - started


def _open(job: Job, dimensions: int, count: int) -> Library:
    if job.library == "hnswlib":
        return Hnswlib(job, dimensions, count)
    return Usearch(job, dimensions, count) if job.library == "usearch" else Faiss(job, dimensions, count)


def main() -> None:
    given, measured = map(Path, sys.argv[1:])
    os.nice(NICE)
    measured.write_text(json.dumps(asdict(_measure(pickle.loads(given.read_bytes())))))


if __name__ == "__main__":
    main()
