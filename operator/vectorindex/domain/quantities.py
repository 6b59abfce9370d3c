"""Kubernetes quantities (``500m``, ``10Gi``, ``1e3``) by their value: the same amount can be written in many ways, and
the API server stores it in one of its own."""

from __future__ import annotations

import re
from decimal import Decimal

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?", re.ASCII
)


def amount(quantity: str) -> Decimal:
    """The value of a quantity, in its unit: cores of CPU, bytes of memory or storage.

    Raises:
        ValueError: it is no quantity.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity: give a number with a suffix, for example 500m or 2Gi")
    number, suffix, exponent = match.groups()
    if suffix in _BINARY:
        return Decimal(number) * (1 << _BINARY[suffix])
    return Decimal(number).scaleb(int(exponent) if exponent else _DECIMAL[suffix or ""])
