"""Enumerations whose members carry their meaning, so that the documentation is printed from the code."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class DocumentedEnum(StrEnum):
    """A string enumeration; each member is written ``NAME = "Value", "What it means."``."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member
