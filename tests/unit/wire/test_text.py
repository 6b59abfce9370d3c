"""Figures in words."""

from __future__ import annotations

import pytest

from vectorindex.wire.text import bytes_text, rounded, seconds_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (-5, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (84_400_000, "84 MB"),
        (999_700_000, "1.0 GB"),
        (1_340_000_000, "1.3 GB"),
        (9_960_000, "10 MB"),
        (5e18, "5000 PB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (89, "89 s"),
        (90, "2 minutes"),
        (3_600, "60 minutes"),
        (10_000, "3 hours"),
        (200_000, "2 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "result"), [(0, 0), (0.3, 1), (7.2, 8), (99.5, 100), (101, 110), (8_340, 8_400), (84_000_001, 85_000_000)]
)
def test_two_digits(value: float, result: int) -> None:
    assert rounded(value) == result
    assert rounded(result) == result, "it stays what it is"
