"""The watches: kopf hands every event to the intake.

Pods are watched by the label ``vectorindex.io/index``, which those of the operator have, and which users are told to
give their own (``podSelector``). Pods that match by other labels only are not watched, since that would be every pod of
the cluster: they are looked at whenever their index is, and when a run waits for them.

Invariant: only ``on.event`` is used, so kopf never puts a finalizer or an annotation on anybody's object, and posts no
Events of its own. Whatever goes on belongs to the queue, so a handler returns at once; it is asynchronous, since kopf
calls others in threads, beside the event loop that all that is kept belongs to.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
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
RETRIES = (1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0)
"""Seconds until kopf repeats a request that failed, whether by 5xx, 429, 403 or without an answer; then for ever by the
last of them. Otherwise it would give the watch up after a minute."""
PAGE = 250
IDLE = 0.1
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
    settings.networking.error_backoffs = Endless(RETRIES)
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.watching.inactivity_timeout = INACTIVITY_TIMEOUT
    settings.watching.client_timeout = WATCH_LIFETIME
    settings.watching.chunk_size = PAGE
    settings.queueing.idle_timeout = IDLE
    for resource in CHILDREN:
        settings.watching.label_selectors[resource] = names.OWNED_SELECTOR
    settings.watching.label_selectors[PODS] = names.INDEX_LABEL
    return settings


class Endless(Iterable[float]):
    """These numbers, and then the last of them again and again."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers = numbers

    def __iter__(self) -> Iterator[float]:
        return chain(self._numbers, repeat(self._numbers[-1]))


def watch_failure() -> asyncio.Future[str]:
    """Tells that a watch was given up, and why. kopf tells that its log alone, and may go on with the other ones."""
    failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not failure.done():
                failure.set_result(record.getMessage())

    log = logging.getLogger("kopf._core.reactor.orchestration")
    log.addHandler(Listener(logging.ERROR))
    log.propagate = False  # it is told by whoever takes it from here
    return failure


def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """As the operator's own client does: by the kubeconfig file that KUBECONFIG names, or by the service account."""
    if os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(**kwargs)
    return kopf.login_with_service_account(**kwargs)
