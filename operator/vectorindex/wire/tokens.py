"""The token that the operator's calls carry: a JWT, signed with Ed25519, for one pod and a few minutes.

Whoever reads it on its way can use it for that pod until it expires, and for no other.
"""

from __future__ import annotations

from vectorindex.wire.base import WireModel

ALGORITHM = "EdDSA"
LIFETIME = 300
"""Seconds from ``iat`` to ``exp``."""
LEEWAY = 60
"""Seconds by which the clocks of both sides may differ."""


class Refusal(WireModel):
    """What is answered 401. ``audience``: who answers, set where the token is for somebody else."""

    detail: str
    audience: str | None = None


def audience(namespace: str, index: str, pod: str) -> str:
    """Whom a token is for, its ``aud``."""
    return f"{namespace}/{index}/{pod}"
