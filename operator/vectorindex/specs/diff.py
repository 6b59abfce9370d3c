"""What differs between an owned object as it is and as it should be, in words: so a rollout states its reason.

Whether anything differs is the API server's to say, by a dry run: it alone knows that ``0.5`` and ``500m`` are one.
"""

from __future__ import annotations

from typing import Any


def differences(live: Any, desired: Any, path: str = "") -> list[str]:
    """One line for each field of ``desired`` that ``live`` has otherwise: ``spec.replicas: 2 → 3``.

    Fields that only ``live`` has are the API server's defaults or somebody else's, and no difference. Elements of a
    list are compared by their ``name`` where they have one, otherwise the list is compared as a whole.
    """
    if isinstance(live, dict) and isinstance(desired, dict):
        lines = []
        for key, value in desired.items():
            lines += differences(live.get(key), value, f"{path}.{key}" if path else key)
        return lines
    if (live_names := _by_name(live)) is not None and (desired_names := _by_name(desired)) is not None:
        lines = [f"{path}[{name}]: removed" for name in live_names if name not in desired_names]
        for name, value in desired_names.items():
            lines += differences(live_names.get(name), value, f"{path}[{name}]")
        return lines
    if live == desired:
        return []
    if isinstance(live, (dict, list)) or isinstance(desired, (dict, list)):
        return [f"{path}: {'added' if live is None else 'changed'}"]
    return [f"{path}: {'unset' if live is None else live} → {desired}"]


def _by_name(value: Any) -> dict[str, Any] | None:
    """The elements by name, or None if this is no list of things that each have a name of their own."""
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        return None
    named = {element.get("name") or element.get("metadata", {}).get("name"): element for element in value}
    return named if None not in named and len(named) == len(value) else None
