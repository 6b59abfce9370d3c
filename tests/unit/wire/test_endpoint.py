"""Where a sidecar is called."""

from __future__ import annotations

import pytest

from vectorindex.wire.endpoint import Endpoint


@pytest.mark.parametrize(
    ("host", "url"), [("10.0.0.1", "http://10.0.0.1:8080"), ("fd00::1", "http://[fd00::1]:8080")], ids=["IPv4", "IPv6"]
)
def test_an_address_of_either_family(host: str, url: str) -> None:
    assert Endpoint("default", "vi", "vi-0", host, 8080).url == url
