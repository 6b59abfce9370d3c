"""The tokens of the operator's calls: for one pod each, and signed anew only now and then."""

from __future__ import annotations

import jwt

from vectorindex.dataplane.tokens import PERIOD, Signer
from vectorindex.domain.keyring import SigningKey
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.tokens import LIFETIME

FIRST, SECOND = Endpoint("shop", "vi", "vi-0", "10.0.0.1", 8080), Endpoint("shop", "vi", "vi-1", "10.0.0.2", 8080)
START = 1_000_000_000 // PERIOD * PERIOD


class Clock:
    now = float(START)

    def __call__(self) -> float:
        return self.now


def test_a_token_is_for_one_pod_and_lasts_some_minutes() -> None:
    clock, key = Clock(), SigningKey.generate()
    signer = Signer(clock)
    signer.use(key)
    clock.now += PERIOD - 1
    scheme, _, token = signer.headers(FIRST)["Authorization"].partition(" ")
    assert scheme == "Bearer"
    assert jwt.get_unverified_header(token)["kid"] == key.public.kid
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims == {"aud": "shop/vi/vi-0", "iat": START, "exp": START + LIFETIME}
    assert claims["exp"] - clock.now > 60, "it may be on its way for some time"
    assert signer.headers(SECOND) != signer.headers(FIRST)


def test_it_is_used_again_until_shortly_before_it_expires() -> None:
    clock = Clock()
    signer = Signer(clock)
    signer.use(SigningKey.generate())
    first = signer.headers(FIRST)
    clock.now += PERIOD - 0.001
    assert signer.headers(FIRST) == first
    clock.now += 0.001
    assert signer.headers(FIRST) != first


def test_another_key_signs_at_once() -> None:
    signer, other = Signer(Clock()), SigningKey.generate()
    signer.use(SigningKey.generate())
    signer.headers(FIRST)
    signer.use(other)
    token = signer.headers(FIRST)["Authorization"].removeprefix("Bearer ")
    assert jwt.get_unverified_header(token)["kid"] == other.public.kid
