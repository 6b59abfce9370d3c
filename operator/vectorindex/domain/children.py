"""What to do about each object that a VectorIndex should own: nothing, apply it, or leave it alone as another's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Self

from vectorindex.api import names
from vectorindex.domain.quantities import amount

Manifest = dict[str, Any]

_QUANTITY_PATH = re.compile(r"\.resources\.(limits|requests)\.")
"""Where quantities stand. The API server stores them in its own form, ``500m`` for ``0.5``."""


_WHOLE_PATH = re.compile(r"^\.spec\.template\.spec\.(nodeSelector|tolerations|affinity|topologySpreadConstraints)$")
"""Values that are the user's as a whole: in these nothing stands by default, and nothing may be left of former ones.
Managed fields do not tell that, since parts of them are atomic."""


_TEMPLATE_PATH = ".spec.template"


class Step(Enum):
    KEEP = "keep"
    APPLY = "apply"
    CONFLICT = "conflict"
    """An object of that name exists and is not ours: it is left as it is."""
    AWAIT_REMOVAL = "await removal"
    """It belongs to a VectorIndex of the same name that was deleted, and goes with it."""


@dataclass(frozen=True)
class Child:
    """An owned object as it should be, and the step to take."""

    desired: Manifest
    step: Step
    difference: str = ""
    """The field for which it is applied."""
    version: str | None = None
    """The resourceVersion of the object as it is: applying changed something only if it moved."""
    replaces_pods: bool = False
    """Applying it replaces pods by others, one after the other."""
    is_upgrade: bool = False
    """It replaces them although the VectorIndex asks for the same: another version of the operator does."""
    meanwhile: Self | None = None
    """What is to be applied as long as the pods are to stay as they are; None: nothing."""

    @property
    def title(self) -> str:
        return f"{self.desired['kind']} {self.desired['metadata']['name']}"


def plan(desired: Manifest, live: Manifest | None) -> Child:
    """``live``: the object of that name as it is, None if there is none."""
    if live is None:
        return Child(desired, Step.APPLY, "it does not exist")
    [owner] = desired["metadata"]["ownerReferences"]
    owners = live["metadata"].get("ownerReferences", ())
    if not any(reference["uid"] == owner["uid"] for reference in owners):
        if any((reference["kind"], reference["name"]) == (owner["kind"], owner["name"]) for reference in owners):
            return Child(desired, Step.AWAIT_REMOVAL)
        return Child(desired, Step.CONFLICT)
    difference = _missing(desired, live) or _left_over(_owned_fields(live), desired)
    if difference is None:
        return Child(desired, Step.KEEP)
    child = Child(desired, Step.APPLY, difference, live["metadata"].get("resourceVersion"))
    if not _replaces_pods(desired, live):
        return child
    asked, before = requested(desired["spec"]["template"]), requested(live["spec"]["template"])
    return replace(
        child, replaces_pods=True, is_upgrade=before in (None, asked), meanwhile=_with_the_pods_as_they_are(child, live)
    )


def requested(pod: Mapping[str, Any]) -> str | None:
    """The digest of what the VectorIndex asked for when this pod, or template of one, was made."""
    digest: str | None = pod["metadata"].get("annotations", {}).get(names.REQUESTED_ANNOTATION)
    return digest


def _replaces_pods(desired: Manifest, live: Manifest) -> bool:
    wanted = desired.get("spec", {}).get("template")
    if wanted is None:
        return False
    path, owned = _TEMPLATE_PATH, _owned_template(live)
    return (_missing(wanted, live["spec"]["template"], path) or _left_over(owned, wanted, path)) is not None


def _with_the_pods_as_they_are(child: Child, live: Manifest) -> Child | None:
    """All that differs but the template, which is applied as it was the last time."""
    former = _restrict(live["spec"]["template"], _owned_template(live))
    desired = {**child.desired, "spec": {**child.desired["spec"], "template": former}}
    difference = _missing(desired, live) or _left_over(_owned_fields(live), desired)
    return None if difference is None else Child(desired, child.step, difference, child.version)


def _missing(desired: Any, live: Any, path: str = "") -> str | None:
    """The first field of ``desired`` that ``live`` does not have so. What ``live`` has beyond it is defaults, or
    another manager's."""
    if _WHOLE_PATH.match(path):
        return None if desired == live else path
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            return path
        differences = (_missing(value, live.get(key), f"{path}.{key}") for key, value in desired.items())
        return next((difference for difference in differences if difference is not None), None)
    if isinstance(desired, list):
        return None if isinstance(live, list) and _contains(live, desired) else path
    return None if desired == live or _same_amount(desired, live, path) else path


def _same_amount(desired: Any, live: Any, path: str) -> bool:
    if live is None or not _QUANTITY_PATH.search(path):
        return False
    return amount(str(desired)) == amount(str(live))


def _contains(live: list[Any], desired: list[Any]) -> bool:
    if not any(isinstance(element, dict) for element in desired):
        return live == desired
    # Objects in a list: each is found again in the same order, others may stand between them.
    rest = iter(live)
    return all(any(_missing(element, candidate) is None for candidate in rest) for element in desired)


def _owned_fields(live: Manifest) -> dict[str, Any]:
    """The fields that we applied last, as the API server remembers them (FieldsV1)."""
    for entry in live["metadata"].get("managedFields", ()):
        if (entry["manager"], entry["operation"]) == (names.FIELD_MANAGER, "Apply") and "subresource" not in entry:
            fields: dict[str, Any] = entry["fieldsV1"]
            return fields
    return {}


def _owned_template(live: Manifest) -> dict[str, Any]:
    owned: dict[str, Any] = _owned_fields(live).get("f:spec", {}).get("f:template", {})
    return owned


def _restrict(value: Any, owned: Mapping[str, Any]) -> Any:
    """Only these fields of a value; all of it where none are told apart."""
    fields = {mark[2:]: inner for mark, inner in owned.items() if mark.startswith("f:")}
    if fields:
        return {field: _restrict(value[field], inner) for field, inner in fields.items() if field in value}
    elements = {mark[2:]: inner for mark, inner in owned.items() if mark.startswith("k:")}
    if elements:
        # Keys may stand by default in what is there, such as a port's protocol.
        keyed = [(json.loads(text), inner) for text, inner in elements.items()]
        found = ((each, keys, inner) for each in value for keys, inner in keyed if keys.items() <= each.items())
        return [keys | _restrict(each, inner) for each, keys, inner in found]
    chosen = [json.loads(mark[2:]) for mark in owned if mark.startswith("v:")]
    return [each for each in value if each in chosen] if chosen else value


def _left_over(owned: Mapping[str, Any], desired: Any, path: str = "") -> str | None:
    """The first field that we applied earlier and no longer want. Field sets hold ``f:`` and a field's name, ``k:``
    and the keys of a list's element, ``v:`` and a set's value."""
    for mark, inner in owned.items():
        sort, _, text = mark.partition(":")
        if sort == "f":
            here = f"{path}.{text}"
            if not isinstance(desired, dict) or text not in desired:
                return here
            value = desired[text]
        elif sort == "k":
            here = f"{path}[{text}]"
            keys = json.loads(text)
            elements = [
                element for element in desired if all(element.get(key, value) == value for key, value in keys.items())
            ]
            if not elements:
                return here
            value = elements[0]
        elif sort == "v":
            here = f"{path}[{text}]"
            if json.loads(text) not in desired:
                return here
            continue
        else:
            continue
        if (left := _left_over(inner, value, here)) is not None:
            return left
    return None
