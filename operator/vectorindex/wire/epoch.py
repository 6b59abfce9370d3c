"""The operator's epoch: a number that tells a newer leader among operators from an older one.

An operator sends it with every call of the operations API. It is the time, in microseconds since 1970, at which this
operator became the leader, or more where an earlier leader had as much; so of two leaders the later one has the higher
epoch, and a pod that has seen it refuses the other one (409).
"""

from __future__ import annotations

from vectorindex.wire.base import WireModel

HEADER = "Vectorindex-Epoch"
MAX_AHEAD = 300_000_000
"""Microseconds by which an epoch may be ahead of a pod's clock. One that is further ahead is refused, too: were it
taken, no leader with a right clock could call for as long."""


class Fenced(WireModel):
    """What a refused call is answered: its epoch and the highest that the volume has seen. Lower than ``seen``: it is
    over; otherwise it is too far ahead of the pod's clock."""

    detail: str
    epoch: int
    seen: int
