"""One readable line per change of state on stderr: ``time level event key=value …``.

Searches never log: at thousands a second a line costs more than the search itself.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

_logger = logging.getLogger("vectorindex")


def configure() -> None:
    """Send our events and the libraries' warnings to stderr, with times in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    _logger.setLevel(logging.INFO)


def info(event: str, **fields: Any) -> None:
    _logger.info("%s", _line(event, fields))


def warning(event: str, **fields: Any) -> None:
    _logger.warning("%s", _line(event, fields))


def exception(event: str, **fields: Any) -> None:
    """An error that nobody expected: the line, and the traceback of the exception being handled."""
    _logger.exception("%s", _line(event, fields))


def _line(event: str, fields: dict[str, Any]) -> str:
    return " ".join([event, *(f"{key}={_quoted(value)}" for key, value in fields.items())])


def _quoted(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    plain = text != "" and all(character.isprintable() and character not in ' "=' for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
