"""What a builder says to the front: any number of :class:`Progress`, then a BuildResult or :class:`Failed`."""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any

SIZE = struct.Struct("<Q")


@dataclass(frozen=True)
class Progress:
    """``percent`` done, 0..100, growing."""

    percent: int


class Cause(Enum):
    """``CORRUPT``: a file that was read is not what was written."""

    CORRUPT = "corrupt"
    NO_MEMORY = "no memory"
    NO_SPACE = "no space"
    OTHER = "other"


@dataclass(frozen=True)
class Failed:
    """There is no result."""

    cause: Cause
    message: str


def encode(message: Any) -> bytes:
    """A message as it goes through the pipe: its size, then itself pickled."""
    content = pickle.dumps(message)
    return SIZE.pack(len(content)) + content
