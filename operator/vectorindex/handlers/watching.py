"""The watches: kopf hands every event to the intake.

Pods are watched by the label ``vectorindex.io/index``, which those of the operator have, and which users are told to
give their own (``podSelector``). Pods that match by other labels only are not watched, since that would be every pod of
the cluster: they are looked at whenever their index is, and when a run waits for them.

Invariant: only ``on.event`` is used, so kopf never puts a finalizer or an annotation on anybody's object, and posts no
Events of its own. Whatever goes on belongs to the queue, so a handler returns at once; it is asynchronous, since kopf
calls others in threads, beside the event loop that all that is kept belongs to.
"""

from __future__ import annotations

import os
from typing import Any

import kopf

from vectorindex.api import KINDS, names
from vectorindex.api.common import GROUP, VERSION
from vectorindex.reconcile.intake import Intake

CHILDREN = (
    ("apps", "v1", "statefulsets"),
    ("", "v1", "services"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("", "v1", "configmaps"),
)
PODS = ("", "v1", "pods")

CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
INACTIVITY_TIMEOUT = 70.0
WATCH_LIFETIME = 600.0
"""Seconds after which a watch is closed and opened again, in case that it has stalled without anybody noticing."""
PAGE = 500
IDLE = 1.0
"""Seconds for which kopf keeps the last state of an object in memory after it has been handled."""


def build_registry(intake: Intake) -> kopf.OperatorRegistry:
    """The handlers for our kinds, their pods and what they own."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(log_in)

    async def own(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 - kopf's name
        intake.own(body, deleted=type == "DELETED")

    async def child(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 - kopf's name
        intake.child(body, deleted=type == "DELETED")

    for model in KINDS:
        kopf.on.event(GROUP, VERSION, model.definition.plural, registry=registry, id="own")(own)
    for resource in (*CHILDREN, PODS):
        kopf.on.event(*resource, registry=registry, id="child")(child)
    return registry


def build_settings() -> kopf.OperatorSettings:
    """How kopf watches; everything that would write is off."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.watching.inactivity_timeout = INACTIVITY_TIMEOUT
    settings.watching.client_timeout = WATCH_LIFETIME
    settings.watching.chunk_size = PAGE
    settings.queueing.idle_timeout = IDLE
    ours = f"{names.MANAGED_BY_LABEL}={names.FIELD_MANAGER}"
    for resource in CHILDREN:
        settings.watching.label_selectors[resource] = ours
    settings.watching.label_selectors[PODS] = names.INDEX_LABEL
    return settings


def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """As the operator's own client does: by the kubeconfig file that KUBECONFIG names, or by the service account."""
    if os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(**kwargs)
    return kopf.login_with_service_account(**kwargs)
