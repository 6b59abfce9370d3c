"""Which tokens a sidecar accepts, and what it says of the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from vectorindex.domain.keyring import SigningKey
from vectorindex.sidecar.tokens import ForAnother, NotAccepted, check
from vectorindex.wire.tokens import LEEWAY, LIFETIME

CURRENT, NEXT, FOREIGN = (SigningKey.generate() for _ in range(3))
KEYS = (CURRENT.public, NEXT.public)
POD = "shop/products/products-0"
KID = CURRENT.public.kid


def token(key: SigningKey = CURRENT, kid: str | None = None, since: float = 0.0, **claims: Any) -> str:
    """A token that was signed ``since`` seconds ago; a claim that is None is left out."""
    began = int(time.time() - since)
    wanted = {"aud": POD, "iat": began, "exp": began + LIFETIME, **claims}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    return jwt.encode(wanted, key.private, algorithm="EdDSA", headers={"kid": kid or key.public.kid})


def unsigned() -> str:
    now = int(time.time())
    return jwt.encode({"aud": POD, "iat": now, "exp": now + 60}, "", algorithm="none", headers={"kid": KID})


def by_a_shared_secret() -> str:
    """What an attacker knows is the public key: it must not do as a secret."""
    now = int(time.time())
    claims = {"aud": POD, "iat": now, "exp": now + 60}
    return jwt.encode(claims, CURRENT.public.x, algorithm="HS256", headers={"kid": KID})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        pytest.param(token, None, id="the operator's"),
        pytest.param(lambda: token(NEXT), None, id="of the next key"),
        pytest.param(lambda: token(since=LIFETIME + LEEWAY - 10), None, id="expired, within what clocks may differ"),
        pytest.param(lambda: token(since=LIFETIME + LEEWAY + 10), "it has expired", id="expired"),
        pytest.param(lambda: token(since=10 - LEEWAY), None, id="from a clock that is a little ahead"),
        pytest.param(lambda: token(since=-LEEWAY - 30), "it is not valid yet", id="from the future"),
        pytest.param(lambda: token(aud="shop/products/products-1"), f"it is not for {POD}", id="for another pod"),
        pytest.param(
            lambda: token(aud="other/products/products-0"), f"it is not for {POD}", id="for another namespace"
        ),
        pytest.param(lambda: token(aud=None), 'missing the "aud" claim', id="for nobody"),
        pytest.param(lambda: token(exp=None), 'missing the "exp" claim', id="for ever"),
        pytest.param(lambda: token(iat=None), 'missing the "iat" claim', id="of no time"),
        pytest.param(lambda: token(FOREIGN), "its key is not in this pod's identity file", id="of another key"),
        pytest.param(lambda: token(FOREIGN, kid=KID), "its signature is wrong", id="of another key under that name"),
        pytest.param(lambda: f"{token()[:-10]}AAAAAAAAAA", "its signature is wrong", id="another signature"),
        pytest.param(unsigned, "it is not signed by EdDSA", id="not signed"),
        pytest.param(by_a_shared_secret, "it is not signed by EdDSA", id="signed by what is public"),
        pytest.param(lambda: "garbage", "it is no JWT", id="garbage"),
        pytest.param(lambda: "", "it is no JWT", id="nothing"),
        pytest.param(lambda: "a.b.c", "it is no JWT", id="garbage in three parts"),
    ],
)
def test_what_is_accepted(given: Callable[[], str], why: str | None) -> None:
    """The token is made when it is needed, since it is told by the clock."""
    if why is None:
        check(given(), KEYS, POD)
        return
    with pytest.raises(NotAccepted) as refusal:
        check(given(), KEYS, POD)
    assert why in str(refusal.value)
    assert isinstance(refusal.value, ForAnother) == why.startswith("it is not for")


def test_without_keys_nothing_is() -> None:
    with pytest.raises(NotAccepted, match="its key is not in this pod's identity file"):
        check(token(), (), POD)
