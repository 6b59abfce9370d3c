"""Where the API server keeps the kinds that the operator reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from vectorindex.api import KINDS
from vectorindex.api.common import GROUP, VERSION, Kind


@dataclass(frozen=True)
class Resource:
    """A namespaced kind and its REST path."""

    kind: str
    plural: str
    version: str
    group: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path under which the group and version are discovered."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of an object, or of the collection; ``namespace`` None is all namespaces."""
        parts = [self.root]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part is not None]
        return "/".join(parts)


def _own(kind: Kind) -> Resource:
    return Resource(kind.kind, kind.plural, VERSION, GROUP)


PODS = Resource("Pod", "pods", "v1")
SECRETS = Resource("Secret", "secrets", "v1")
CONFIG_MAPS = Resource("ConfigMap", "configmaps", "v1")
SERVICES = Resource("Service", "services", "v1")
STATEFUL_SETS = Resource("StatefulSet", "statefulsets", "v1", "apps")
DISRUPTION_BUDGETS = Resource("PodDisruptionBudget", "poddisruptionbudgets", "v1", "policy")
EVENTS = Resource("Event", "events", "v1", "events.k8s.io")
LEASES = Resource("Lease", "leases", "v1", "coordination.k8s.io")

OWN = tuple(_own(model.definition) for model in KINDS)
"""Our own kinds."""

CHILDREN = (STATEFUL_SETS, SERVICES, DISRUPTION_BUDGETS, CONFIG_MAPS)
"""What a VectorIndex owns."""

_BY_KIND = {resource.kind: resource for resource in (*OWN, *CHILDREN, PODS, SECRETS)}


def resource_of(kind: str) -> Resource:
    """The resource of a kind that the operator knows."""
    return _BY_KIND[kind]
