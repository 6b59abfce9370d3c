"""Whose turn it is to get the pods that another version of the operator makes: one index at a time, over all of them.

An image that does not work must not take all indexes down: so the upgrade stays at an index that does not get ready,
and the others say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

PATIENCE = timedelta(seconds=60)
"""An index with a pod that does not serve takes its turn when nobody else has taken it for so long: it may never get
ready, so those that are go first."""


def in_the_way(others: Mapping[str, datetime], free_since: datetime, serves: bool, now: datetime) -> str | None:
    """What an index waits for before it is upgraded, or None when it is its turn.

    Args:
        others: the indexes that are being upgraded, and since when.
        free_since: when the last one was done, if there are none.
        serves: whether all its own pods do.
        now: the time.
    """
    if others:
        name = min(others, key=lambda other: (others[other], other))
        since = others[name].isoformat().replace("+00:00", "Z")
        return (
            f"VectorIndex {name} is upgraded and all its pods are ready: this version of the operator reaches one "
            f"index after the other, and there it is since {since}"
        )
    if not serves and now - free_since < PATIENCE:
        return "the indexes whose pods are all ready have been upgraded to this version of the operator"
    return None
