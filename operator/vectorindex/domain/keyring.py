"""The operator's keys: the one that signs its tokens now, and the one that will.

Invariant: a rotation lets the next key sign, which has stood in the identity files since the rotation before, so every
pod knows it by then, and nobody notices. Only where there is no next one, since the Secret was deleted, two new keys
begin at once, and pods accept them as soon as their identity files have followed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from vectorindex.wire.identity import PublicKey

SECRET = "vectorindex-operator-key"  # noqa: S105 - its name
CURRENT, NEXT = "current.pem", "next.pem"
ROTATE_AFTER = timedelta(days=90)


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key; two with the same public half are equal."""

    private: Ed25519PrivateKey = field(compare=False, repr=False)
    public: PublicKey

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> SigningKey:
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = _base64url(raw)
        members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
        return cls(private, PublicKey(kid=_base64url(hashlib.sha256(members.encode()).digest()), x=x))

    @classmethod
    def generate(cls) -> SigningKey:
        return cls.of(Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, pem: bytes) -> SigningKey:
        """Raises ValueError, which says nothing of the content."""
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("it is no private key in PEM without a password") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("it is no Ed25519 key")
        return cls.of(private)

    @property
    def pem(self) -> bytes:
        """PKCS 8."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class KeyRing:
    current: SigningKey
    next: SigningKey

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """Those that the pods accept."""
        return self.current.public, self.next.public


@dataclass(frozen=True)
class Plan:
    """The keys as they should be. ``change``: why the Secret is to be written; None: it holds them."""

    ring: KeyRing
    change: str | None = None


def plan(
    secret: Mapping[str, Any] | None,
    changed: datetime | None,
    now: datetime,
    generate: Callable[[], SigningKey] = SigningKey.generate,
) -> Plan:
    """``secret``: as it is, None: there is none; ``changed``: when the operator last changed it. Whoever takes
    ``current.pem`` out of it asks for a rotation; what cannot be read counts as missing."""
    current, following = read_key(secret, CURRENT), read_key(secret, NEXT)
    if isinstance(following, str):
        ring = KeyRing(generate() if isinstance(current, str) else current, generate())
        return Plan(ring, following)
    if isinstance(current, str):
        return Plan(KeyRing(following, generate()), current)
    if changed is not None and now - changed >= ROTATE_AFTER:
        return Plan(KeyRing(following, generate()), f"its keys are {ROTATE_AFTER.days} days old")
    return Plan(KeyRing(current, following))


def build_secret(ring: KeyRing, namespace: str, replaced: Mapping[str, Any] | None) -> dict[str, Any]:
    """``replaced``: the Secret as it was read, so that no other change is undone; None: there was none."""
    read = {} if replaced is None else {field: replaced["metadata"][field] for field in ("uid", "resourceVersion")}
    labels = {"app.kubernetes.io/name": "vectorindex-operator"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": namespace, "labels": labels, **read},
        "type": "Opaque",
        "data": {
            name: base64.b64encode(key.pem).decode() for name, key in ((CURRENT, ring.current), (NEXT, ring.next))
        },
    }


def read_key(secret: Mapping[str, Any] | None, name: str) -> SigningKey | str:
    """The key of that name, or why there is none."""
    if secret is None:
        return "it does not exist"
    encoded = (secret.get("data") or {}).get(name)
    if encoded is None:
        return f"it has no {name}"
    try:
        return SigningKey.read(base64.b64decode(encoded, validate=True))
    except ValueError as error:
        return f"{name} cannot be read: {error}"


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
