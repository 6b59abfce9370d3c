"""An application's writes: the rows of a batch, and which pods failed."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from vectorindex.dataplane.items import Replicas, SidecarIndex, WriteFailedError, batches
from vectorindex.dataplane.transport import Transport

VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_a_row_is_the_padded_id_and_the_vector() -> None:
    [(count, body)] = batches(["a", "bc", "d" * 32], VECTORS)
    rows = [body[start : start + 40] for start in range(0, len(body), 40)]
    assert count == len(rows) == 3
    assert [row[:32].rstrip(b"\0") for row in rows] == [b"a", b"bc", b"d" * 32]
    assert [np.frombuffer(row[32:], "<f4").tolist() for row in rows] == VECTORS.tolist()


def test_many_items_are_several_batches() -> None:
    assert [count for count, _ in batches(["a", "b", "c"], VECTORS, size=2)] == [2, 1]
    assert list(batches([], VECTORS[:0])) == []


@pytest.mark.parametrize("name", ["", "x" * 33, "ü", "a\0b"], ids=["empty", "too long", "not ASCII", "NUL"])
def test_an_id_that_a_batch_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not an ID of 1 to 32 ASCII characters"):
        list(batches(["a", name, "c"], VECTORS))


@pytest.mark.parametrize(
    "vectors", [VECTORS[:2], VECTORS[0]], ids=["fewer vectors than IDs", "one vector instead of rows"]
)
def test_shapes_must_agree(vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    with pytest.raises(ValueError, match="3 IDs do not go with vectors of shape"):
        list(batches(["a", "b", "c"], vectors))


async def test_every_pod_that_failed_is_named() -> None:
    with socket.socket() as first, socket.socket() as second:
        urls = []
        for closed in (first, second):
            closed.bind(("127.0.0.1", 0))
            urls.append(f"http://127.0.0.1:{closed.getsockname()[1]}")
        async with Transport() as transport:
            replicas = Replicas([SidecarIndex(transport, url, "vi") for url in urls], patience=0)
            with pytest.raises(WriteFailedError) as raised:
                await replicas.load(["a"], VECTORS[:1])
    assert sorted(raised.value.errors) == sorted(urls)
    assert all(f"{url}: connection refused" in str(raised.value) for url in urls)


async def test_what_cannot_be_repeated_is_not_begun() -> None:
    with pytest.raises(ValueError, match="mode insert"):
        await Replicas([]).load(["a"], VECTORS[:1], mode="insert")
