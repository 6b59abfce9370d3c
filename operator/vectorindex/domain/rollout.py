"""Rollouts and builds keep out of each other's way.

Invariants: no build begins while pods are being replaced, added or removed; and a new pod template waits until no build
is at work, unless a pod is not ready, since it may be the repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vectorindex.domain.children import requested


@dataclass(frozen=True)
class Rollout:
    """What the StatefulSet says of its pods; all False before there is one."""

    pending: bool = False
    """Its controller has not seen its newest spec, or pods are being added or removed."""
    rolling: bool = False
    """Pods of an older template are left."""
    replicas: int = 0
    """Pods that exist, also such as are to be removed."""
    template: str | None = None
    """The digest of what was asked for, when it is not known yet that every pod has the newest template."""

    @classmethod
    def read(cls, stateful_set: Mapping[str, Any] | None) -> Rollout:
        """From the object of the API; None: there is none."""
        if stateful_set is None:
            return cls()
        spec, status = stateful_set["spec"], stateful_set.get("status", {})
        seen = status.get("observedGeneration") == stateful_set["metadata"].get("generation")
        wanted = spec.get("replicas", 1)
        rolling = seen and status.get("currentRevision") != status.get("updateRevision")
        replicas = status.get("replicas", 0)
        return cls(
            pending=not seen or replicas != wanted,
            rolling=rolling,
            replicas=replicas,
            template=requested(spec["template"]) if rolling or not seen else None,
        )

    def is_upgrade(self, pods: Iterable[str | None]) -> bool:
        """Are pods being replaced by such as another version of the operator makes? ``pods``: the digest of what was
        asked for when each one was made. Where it is another one, the user's own change is under way."""
        return self.template is not None and all(pod in (None, self.template) for pod in pods)

    @property
    def trouble(self) -> str | None:
        """What is going on, or None."""
        if self.rolling:
            return "pods of the previous template are being replaced"
        return "pods are being added or removed" if self.pending else None
