"""Lists are read by pages, and what is in them says what it is, as an object that is read by itself does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.unit.cluster.listening import connected_to
from vectorindex.cluster.cluster import Cluster
from vectorindex.cluster.limits import RequestLimit

PAGES = {"": ("a", "next"), "next": ("b", "")}


@pytest.fixture
async def asked() -> AsyncIterator[tuple[Cluster, list[dict[str, str]]]]:
    """A cluster with two Services, on two pages; and the queries that it was asked with."""
    queries = []

    async def answer(request: web.Request) -> web.Response:
        queries.append(dict(request.query))
        name, following = PAGES[request.query.get("continue", "")]
        return web.json_response({"metadata": {"continue": following}, "items": [{"metadata": {"name": name}}]})

    async with connected_to("/api/v1/namespaces/default/services", answer, RequestLimit()) as server:
        yield Cluster(server, "test"), queries


async def test_a_list_is_read_by_pages_and_names_the_kind_of_each(
    asked: tuple[Cluster, list[dict[str, str]]],
) -> None:
    cluster, queries = asked
    found = [each async for each in cluster.objects("Service", "default", "a=b", "spec.c=d")]
    of_kind = {"apiVersion": "v1", "kind": "Service"}
    assert found == [{**of_kind, "metadata": {"name": "a"}}, {**of_kind, "metadata": {"name": "b"}}]
    selectors = {"limit": "500", "labelSelector": "a=b", "fieldSelector": "spec.c=d"}
    assert queries == [selectors, {**selectors, "continue": "next"}]
