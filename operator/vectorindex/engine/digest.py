"""The digest of an index's live items, by which pods that each hold the whole index are compared.

Each item has a fingerprint: 64 bits of BLAKE2b of its ID and its vector. The digest is the sum of those of all live
items modulo 2^64, an additive multiset hash (MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh, ASIACRYPT
2003, after AdHash of Bellare and Micciancio, EUROCRYPT 1997). So it says nothing of the order in which they came, nor
of labels, segments or graphs, and a write moves it by what comes less what goes: the fingerprint lies in the item's
row, and no vector is read again for a delete.

A vector is hashed as it was received, float32 in little-endian. What a graph stores under cosine is no measure: it is
divided by a length whose last bit depends on the order in which a processor's vector unit sums.

Two sets of items that differ by accident have the same digest with a probability of 2^-64. It is no proof against
somebody who makes up items to that end.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

EMPTY = 0
"""The digest of no items."""

_MODULUS = 2**64
_KIND = b"vectorindex item"  # keeps these hashes apart from those of anything else
_END = b"\0"  # no ID holds it


def fingerprints(external_ids: Iterable[bytes], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Of n items: their IDs in UTF-8 and ``vectors`` (n, dim) as received. Signed, as SQLite has its integers."""
    content = vectors.astype("<f4").tobytes()
    width = 4 * vectors.shape[1]
    hashes = [
        blake2b(external_id + _END + content[start : start + width], digest_size=8, person=_KIND).digest()
        for external_id, start in zip(external_ids, range(0, len(content), width), strict=True)
    ]
    return np.frombuffer(b"".join(hashes), "<i8").astype(np.int64)


def total(values: NDArray[np.int64]) -> int:
    """The digest of items with these fingerprints (n,)."""
    return int(values.sum()) % _MODULUS  # the sum wraps, as it should


def moved(digest: int, came: int, went: int = EMPTY) -> int:
    """The digest after items came and went: ``came`` and ``went`` are the digests of those alone."""
    return (digest + came - went) % _MODULUS


def as_text(digest: int) -> str:
    """16 hexadecimal digits."""
    return f"{digest:016x}"
