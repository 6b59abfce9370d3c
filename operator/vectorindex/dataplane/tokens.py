"""The tokens of the operator's calls: signed for each pod, and used again until shortly before they expire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import jwt

from vectorindex.domain.keyring import SigningKey
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.tokens import ALGORITHM, LIFETIME, audience

PERIOD = LIFETIME - 60
"""Seconds for which a token is used. Time is cut into periods of that length, and a pod's token is that of the period,
so nothing has to be remembered but what is worth it."""
KEPT = 8_192
"""Tokens that are kept, one for each pod."""


class Signer:
    """Signs calls; ``now`` is the time in seconds since 1970. :meth:`use` comes before the first call."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._token: Callable[[str, int], str] | None = None

    def use(self, key: SigningKey) -> None:
        """Sign with this key from now on."""
        self._token = lru_cache(KEPT)(partial(sign, key))

    def headers(self, endpoint: Endpoint) -> Mapping[str, str]:
        """What a call of this sidecar carries."""
        assert self._token is not None
        began = int(self._now()) // PERIOD * PERIOD
        token = self._token(audience(endpoint.namespace, endpoint.index, endpoint.pod), began)
        return {"Authorization": f"Bearer {token}"}


def sign(key: SigningKey, audience: str, began: int) -> str:
    """A token for ``audience`` that is valid from ``began`` on, in seconds since 1970."""
    claims = {"aud": audience, "iat": began, "exp": began + LIFETIME}
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.public.kid})
