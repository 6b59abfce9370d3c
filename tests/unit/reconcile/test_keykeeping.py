"""The operator's keys over restarts, races and the loss of their Secret, between any two calls of the API server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from vectorindex.cluster.errors import ConflictError, UnavailableError
from vectorindex.domain.keyring import CURRENT, SigningKey, read_key
from vectorindex.reconcile.keykeeping import KeyKeeper
from vectorindex.reconcile.ports import Manifest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class OneSecret:
    """An API server that holds one Secret, and may fail at its next call, before or after that has its effect."""

    def __init__(self) -> None:
        self.secret: Manifest | None = None
        self.applied = 0
        self.fails: str | None = None

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        assert (kind, namespace, name) == ("Secret", "system", "vectorindex-operator-key")
        self._fail("get")
        return self.secret

    async def apply(self, manifest: Manifest) -> Manifest:
        self._fail("before the apply")
        version = manifest["metadata"].get("resourceVersion")
        if version is not None and (self.secret is None or self.secret["metadata"]["resourceVersion"] != version):
            raise ConflictError("changed meanwhile", 409)
        self.applied += 1
        self.secret = {
            **manifest,
            "metadata": {**manifest["metadata"], "uid": "u", "resourceVersion": str(self.applied)},
        }
        self._fail("after the apply")
        return self.secret

    def _fail(self, place: str) -> None:
        if self.fails == place:
            self.fails = None
            raise UnavailableError("no answer")


class Life:
    """One life of the operator."""

    def __init__(self, server: OneSecret) -> None:
        self.signs: list[SigningKey] = []
        self.changes = 0
        self.keeper = KeyKeeper(server, "system", self.signs.append, self._changed, lambda: NOW)

    def _changed(self) -> None:
        self.changes += 1


def stored(server: OneSecret) -> Any:
    return read_key(server.secret, CURRENT)


@pytest.mark.parametrize("place", ["get", "before the apply", "after the apply"])
async def test_a_first_start_that_fails_anywhere_is_made_good_by_the_next(place: str) -> None:
    server = OneSecret()
    server.fails = place
    first = Life(server)
    with pytest.raises(UnavailableError):
        await first.keeper.look()
    assert first.signs == []
    second = Life(server)
    await second.keeper.look()
    assert second.signs == [stored(server)]
    assert server.applied == 1
    await first.keeper.look()
    assert first.signs == second.signs
    assert first.keeper.public_keys() == second.keeper.public_keys()


async def test_nothing_is_written_and_nobody_told_while_nothing_changes() -> None:
    server = OneSecret()
    life = Life(server)
    for _ in range(3):
        await life.keeper.look()
    assert (server.applied, life.changes, len(life.signs)) == (1, 1, 1)


async def test_a_secret_that_was_deleted_is_made_anew_and_its_keys_are_gone() -> None:
    server = OneSecret()
    life = Life(server)
    await life.keeper.look()
    before = life.keeper.public_keys()
    server.secret = None
    await life.keeper.look()
    assert not set(before) & set(life.keeper.public_keys())
    assert life.signs[-1] == stored(server)
    assert life.changes == 2


async def test_of_two_that_rotate_at_once_one_gives_way() -> None:
    server = OneSecret()
    one, other = Life(server), Life(server)
    await one.keeper.look()
    await other.keeper.look()
    assert server.secret is not None
    del server.secret["data"][CURRENT]
    seen = dict(server.secret)
    await one.keeper.look()
    newest, server.secret = server.secret, seen

    async def late(kind: str, namespace: str, name: str) -> Manifest | None:
        found, server.secret = server.secret, newest
        return found

    server.get = late  # type: ignore[method-assign]
    with pytest.raises(ConflictError):
        await other.keeper.look()
    del server.get
    await other.keeper.look()
    assert other.signs[-1] == one.signs[-1] == stored(server)


async def test_a_rotation_lets_the_next_one_sign() -> None:
    server = OneSecret()
    life = Life(server)
    await life.keeper.look()
    _, following = life.keeper.public_keys()
    assert server.secret is not None
    del server.secret["data"][CURRENT]
    await life.keeper.look()
    assert life.signs[-1].public == following == life.keeper.public_keys()[0]
