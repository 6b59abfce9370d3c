"""The operator's keys: when they change, which of them pods know by then, and how they lie in the Secret."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from tests.unit.domain.given import NOW
from vectorindex.domain.keyring import CURRENT, NEXT, ROTATE_AFTER, KeyRing, SigningKey, build_secret, plan

NEW = ROTATE_AFTER - timedelta(seconds=1)
RING = KeyRing(SigningKey.generate(), SigningKey.generate())
OTHER_CURVE = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
LOCKED = RING.current.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def secret(**data: bytes | None) -> dict[str, Any]:
    """The Secret of RING; ``data`` replaces its keys, or takes them out."""
    stored = build_secret(RING, "system", None)
    for name, content in data.items():
        del stored["data"][f"{name}.pem"]
        if content is not None:
            stored["data"][f"{name}.pem"] = base64.b64encode(content).decode()
    return stored


@pytest.mark.parametrize(
    ("found", "age", "kept", "why"),
    [
        pytest.param(secret(), NEW, ("current", "next"), None, id="they are there"),
        pytest.param(secret(), None, ("current", "next"), None, id="nobody knows how old they are"),
        pytest.param(secret(), ROTATE_AFTER, ("next", None), "its keys are 90 days old", id="they are old"),
        pytest.param(None, None, (None, None), "it does not exist", id="the first start, or it was deleted"),
        pytest.param({"metadata": {}}, NEW, (None, None), "it has no next.pem", id="it is empty"),
        pytest.param(secret(current=None), NEW, ("next", None), "it has no current.pem", id="somebody asks for it"),
        pytest.param(secret(next=None), NEW, ("current", None), "it has no next.pem", id="without a next one"),
        pytest.param(secret(current=b"?"), NEW, ("next", None), "current.pem cannot be read: it is no", id="garbage"),
        pytest.param(secret(next=OTHER_CURVE), NEW, ("current", None), "it is no Ed25519 key", id="another kind"),
        pytest.param(secret(current=LOCKED), NEW, ("next", None), "without a password", id="with a password"),
    ],
)
def test_what_is_made_of_the_secret(
    found: dict[str, Any] | None, age: timedelta | None, kept: tuple[str | None, str | None], why: str | None
) -> None:
    planned = plan(found, None if age is None else NOW - age, NOW)
    known = {None: None, "current": RING.current, "next": RING.next}
    for key, wanted in zip((planned.ring.current, planned.ring.next), kept, strict=True):
        assert key == known[wanted] if wanted is not None else key not in (RING.current, RING.next)
    assert planned.change is None if why is None else why in (planned.change or "")


def test_after_a_rotation_the_key_that_signs_is_one_that_pods_know_already() -> None:
    ring = RING
    for _ in range(3):
        rotated = plan(build_secret(ring, "system", None), NOW - ROTATE_AFTER, NOW).ring
        assert rotated.current.public in ring.public_keys
        assert rotated.next.public not in ring.public_keys
        ring = rotated


def test_the_secret_holds_the_keys_and_reading_it_gives_the_same() -> None:
    read = {"uid": "u", "resourceVersion": "7"}
    stored = build_secret(RING, "system", {"metadata": read})
    assert stored["metadata"].items() >= read.items()
    assert not build_secret(RING, "system", None)["metadata"].keys() & read.keys()
    assert set(stored["data"]) == {CURRENT, NEXT}
    again = plan(stored, NOW, NOW)
    assert (again.ring, again.change) == (RING, None)


def test_the_id_of_a_key_is_its_thumbprint() -> None:
    """The example of RFC 8037, A.3."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    public = SigningKey.of(Ed25519PrivateKey.from_private_bytes(seed)).public
    assert public.x == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert public.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_key_is_not_printed() -> None:
    assert "private" not in repr(RING).lower().replace("private=", "")
    assert RING.current.pem.decode().splitlines()[1] not in repr(RING)
