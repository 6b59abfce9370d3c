"""Names that several parts agree on: of the objects that a VectorIndex owns, their labels, ports and paths."""

from __future__ import annotations

from vectorindex.api.common import GROUP

FIELD_MANAGER = "vectorindex-operator"

INDEX_LABEL = f"{GROUP}/index"
NAME_LABEL = "app.kubernetes.io/name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
OWNED_SELECTOR = f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"
"""Finds what the operator owns, as query parameters have it."""
OWN_LABELS = (INDEX_LABEL, NAME_LABEL, MANAGED_BY_LABEL)
APPLICATION = "vectorindex"

REQUESTED_ANNOTATION = f"{GROUP}/requested"
"""On each pod: the digest of what its VectorIndex asked for when the pod was made. A new pod template with the same one
is not the user's wish, but that of another version of the operator."""

CONTAINER = "sidecar"
PORT = 8080
PORT_NAME = "http"

DATA_VOLUME = "data"
DATA_PATH = "/data"
IDENTITY_VOLUME = "identity"
IDENTITY_DIRECTORY = "/etc/vectorindex"
IDENTITY_KEY = "identity.json"


def stateful_set(index: str) -> str:
    return index


def service(index: str) -> str:
    """The Service of the ready pods, for applications."""
    return index


def pods_service(index: str) -> str:
    """The headless Service of all pods, the ones that are not ready too."""
    return f"{index}-pods"


def pod_disruption_budget(index: str) -> str:
    return index


def identity(index: str) -> str:
    """The ConfigMap that tells the pods which index they hold."""
    return f"{index}-identity"


def pod(index: str, ordinal: int) -> str:
    return f"{index}-{ordinal}"


def labels(index: str) -> dict[str, str]:
    """The labels of every object of the index, its pods included."""
    return {**selector(index), NAME_LABEL: APPLICATION, MANAGED_BY_LABEL: FIELD_MANAGER}


def selector_text(index: str) -> str:
    """The same as text, as query parameters and ``/scale`` have it."""
    return ",".join(f"{key}={value}" for key, value in selector(index).items())


def selector(index: str) -> dict[str, str]:
    """What the pods of the index are found by. A StatefulSet's selector can never be changed, so this is one label."""
    return {INDEX_LABEL: index}
