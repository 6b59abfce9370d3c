"""What the demo asks of the index, and how good and how quick the answers are."""

from __future__ import annotations

import asyncio
import http.client
import json
import statistics
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo.data import Nouns
from demo.terminal import console
from vectorindex.dataplane.items import Replicas, SidecarIndex
from vectorindex.dataplane.transport import Transport

INDEX = "nouns"
K = 10
ROUNDS = 10


@dataclass(frozen=True)
class Quality:
    """recall@10 of the questions against exact search, 0..1, and the median time of one search in milliseconds, over
    HTTP by the Service."""

    recall: float
    milliseconds: float


def load_into_every_pod(addresses: Sequence[str], nouns: Nouns) -> None:
    """Write all items to all pods, with a progress bar."""

    async def load() -> None:
        async with Transport() as transport:
            indexes = [SidecarIndex(transport, f"http://{address}:8080", INDEX) for address in addresses]
            await Replicas(indexes).load(nouns.ids, nouns.vectors, progress=lambda count: bar.advance(task, count))

    columns = (TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("loading", total=len(nouns.ids) * len(addresses))
        asyncio.run(load())


def ask(address: str, queries: NDArray[np.float32], k: int = K) -> list[list[str]]:
    """The IDs of the ``k`` nearest items of each query, nearest first."""

    async def search() -> list[list[str]]:
        async with Transport() as transport:
            return await SidecarIndex(transport, f"http://{address}:8080", INDEX).search(queries, k)

    return asyncio.run(search())


def status(address: str) -> dict[str, Any]:
    """What the pod says of its index: counts, bytes."""
    with urllib.request.urlopen(f"http://{address}:8080/indexes/{INDEX}/status", timeout=10) as answer:
        return dict(json.load(answer))


def measure(address: str, nouns: Nouns, live: NDArray[np.bool_]) -> Quality:
    """Ask all questions, compare with the truth among the ``live`` items, and take the time of single searches."""
    truth = nouns.nearest(live, K)
    found = ask(address, nouns.question_vectors)
    hits = sum(len(set(wanted) & set(got)) for wanted, got in zip(truth, found, strict=True))
    return Quality(hits / (K * len(truth)), _median_time(address, nouns.question_vectors))


def _median_time(address: str, queries: NDArray[np.float32]) -> float:
    connection = http.client.HTTPConnection(address, 8080, timeout=10)
    times = []
    for query in [query for _ in range(ROUNDS) for query in queries]:
        body = query.astype("<f4").tobytes()
        started = time.perf_counter()
        connection.request("POST", f"/search.bin?index_name={INDEX}&k={K}", body)
        answer = json.loads(connection.getresponse().read())
        times.append(time.perf_counter() - started)
        assert len(answer) == K
    connection.close()
    return statistics.median(times) * 1000
