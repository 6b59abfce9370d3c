"""Quantities as the API server takes them, by their value."""

from __future__ import annotations

from decimal import Decimal

import pytest

from vectorindex.domain.quantities import amount


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("2", "2"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("500m", "0.5"),
        ("100n", "1e-7"),
        ("7u", "7e-6"),
        ("1k", "1000"),
        ("1E", "1e18"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("25e-1", "2.5"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("1024Mi", "1073741824"),
        ("+1", "1"),
        ("-1", "-1"),
    ],
)
def test_values(quantity: str, value: str) -> None:
    assert amount(quantity) == Decimal(value)


@pytest.mark.parametrize("quantity", ["", "x", "1Q", "m", "1.2.3", "1 Gi", "1ki", "٣"])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        amount(quantity)
