"""The IDs of an IndexDelete, inline or from a ConfigMap, and what is wrong with them.

Messages name places (a line, an element), never content: a ConfigMap may hold what its readers alone should see.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vectorindex.api import IndexDelete
from vectorindex.api.indexdelete import MAX_CONFIG_MAP_IDS, MAX_ID_LENGTH, ConfigMapKeyReference
from vectorindex.api.reasons import Reason
from vectorindex.domain.verdicts import Verdict


@dataclass(frozen=True)
class Missing(Verdict):
    """The ConfigMap or the key is not there; it may come."""


IDs = tuple[str, ...]


def read_ids(run: IndexDelete, config_map: Mapping[str, Any] | None) -> IDs | Verdict:
    """The IDs as they are given, with repetitions. ``config_map``: the one that the run refers to, None if it does not
    exist or the IDs are inline."""
    if run.spec.external_ids is not None:
        return _checked(((f"externalIDs[{place}]", text) for place, text in enumerate(run.spec.external_ids)))
    assert run.spec.external_ids_from is not None  # exactly one of the two, by the CRD
    reference = run.spec.external_ids_from.config_map_key_ref
    if config_map is None:
        return Missing(Reason.CONFIG_MAP_NOT_FOUND, f"ConfigMap {reference.name} does not exist")
    if reference.key in config_map.get("binaryData", {}):
        return _invalid(reference, "holds binary data: give text, a JSON array of strings or one ID a line")
    if reference.key not in config_map.get("data", {}):
        return Missing(Reason.CONFIG_MAP_NOT_FOUND, f"ConfigMap {reference.name} has no key {reference.key}")
    return _parse(config_map["data"][reference.key], reference)


def _parse(text: str, reference: ConfigMapKeyReference) -> IDs | Verdict:
    if text.lstrip().startswith("["):
        try:
            elements = json.loads(text)
        except (ValueError, RecursionError) as error:
            place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
            return _invalid(reference, f"begins like a JSON array, but is none{place}")
        for number, element in enumerate(elements, 1):
            if not isinstance(element, str):
                return _invalid(reference, f"must hold strings only: element {number} of the array is none")
        placed = [(f"element {number}", element) for number, element in enumerate(elements, 1)]
    else:
        lines = enumerate(text.split("\n"), 1)
        placed = [(f"line {number}", stripped) for number, line in lines if (stripped := line.rstrip("\r"))]
    if not placed:
        return _invalid(reference, "holds no ID")
    if len(placed) > MAX_CONFIG_MAP_IDS:
        problem = f"holds {len(placed):,} IDs, at most {MAX_CONFIG_MAP_IDS:,} are allowed: use several IndexDeletes"
        return _invalid(reference, problem)
    return _checked((f"key {reference.key} of ConfigMap {reference.name}, {place}", text) for place, text in placed)


def _checked(placed: Iterable[tuple[str, str]]) -> IDs | Verdict:
    ids = []
    for place, text in placed:
        if (problem := _problem(text)) is not None:
            return Verdict(Reason.INVALID_REQUEST, f"{place}: the ID {problem}")
        ids.append(text)
    return tuple(ids)


def _problem(text: str) -> str | None:
    if not text:
        return "is empty"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if size > MAX_ID_LENGTH:
        return f"has {size} bytes, at most {MAX_ID_LENGTH} are allowed"
    if any(unicodedata.category(character) == "Cc" for character in text):
        return "contains a control character"
    return None


def _invalid(reference: ConfigMapKeyReference, problem: str) -> Verdict:
    return Verdict(Reason.INVALID_REQUEST, f"key {reference.key} of ConfigMap {reference.name} {problem}")
