"""Checks the operator's tokens. Costs a tenth of a millisecond each, so nothing is remembered."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import lru_cache

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vectorindex.wire.identity import PublicKey
from vectorindex.wire.tokens import ALGORITHM, LEEWAY


class NotAccepted(Exception):
    """The token is not accepted; the message says why, in words that stay the same for the same cause."""


class ForAnother(NotAccepted):
    """The operator's, but for another pod."""


def check(token: str, keys: Iterable[PublicKey], audience: str) -> None:
    """Raises NotAccepted."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        raise NotAccepted("it is no JWT") from None
    if header.get("alg") != ALGORITHM:
        raise NotAccepted(f"it is not signed by {ALGORITHM}")
    key = next((key for key in keys if key.kid == header.get("kid")), None)
    if key is None:
        raise NotAccepted("its key is not in this pod's identity file")
    try:
        jwt.decode(
            token,
            _loaded(key),
            algorithms=[ALGORITHM],
            audience=audience,
            leeway=LEEWAY,
            options={"require": ["aud", "exp", "iat"]},
        )
    except jwt.InvalidSignatureError:
        raise NotAccepted("its signature is wrong") from None
    except jwt.ExpiredSignatureError:
        raise NotAccepted("it has expired, or this pod's clock is ahead") from None
    except jwt.ImmatureSignatureError:
        raise NotAccepted("it is not valid yet, or this pod's clock is behind") from None
    except jwt.InvalidAudienceError:
        raise ForAnother(f"it is not for {audience}") from None
    except jwt.InvalidTokenError as error:
        raise NotAccepted(f"it is not valid: {error}") from None


@lru_cache(maxsize=8)
def _loaded(key: PublicKey) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(f"{key.x}="))
