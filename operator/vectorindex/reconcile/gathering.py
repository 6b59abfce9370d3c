"""What every reconcile looks at: the pods of an index and what they answer, and when a status was last written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from vectorindex.api import IndexOptimize, IndexRebuild, VectorIndex, names
from vectorindex.api.common import UnreadableError
from vectorindex.dataplane.errors import NotFoundError, SidecarError, UnauthorizedError
from vectorindex.domain.members import (
    KEY_ARRIVES,
    Answer,
    KeyPending,
    Member,
    NoAnswer,
    WrongIdentity,
    judge,
    label_selector,
    members,
    read_pods,
)
from vectorindex.domain.run import BuildRun
from vectorindex.reconcile.ports import Manifest, Ports
from vectorindex.wire.endpoint import Endpoint

BUILDS: tuple[type[BuildRun], ...] = (IndexRebuild, IndexOptimize)
"""The kinds that share one line for each index."""


def index_name(manifest: Mapping[str, Any]) -> str:
    """The index that a run is for; empty where the object does not say, which is for its own reconcile to find."""
    name: str = manifest.get("spec", {}).get("indexRef", {}).get("name", "")
    return name


async def gather_index(ports: Ports, namespace: str, name: str) -> VectorIndex | None:
    """The index, or None if there is none, by a GET. Raises UnreadableError."""
    manifest = await ports.cluster.get(VectorIndex.definition.kind, namespace, name)
    return None if manifest is None else VectorIndex.read(manifest)


async def gather_members(ports: Ports, index: VectorIndex) -> tuple[Member, ...]:
    """The pods that the index has, or should have, each asked for its state, all at once."""
    pods = read_pods(index, await ports.cluster.pods(index.metadata.namespace, label_selector(index)))
    running = [pod.endpoint for pod in pods if pod.endpoint is not None]
    answers = await asyncio.gather(*(_ask(ports, index, endpoint) for endpoint in running))
    return members(index, pods, {each.pod: answer for each, answer in zip(running, answers, strict=True)})


async def _ask(ports: Ports, index: VectorIndex, endpoint: Endpoint) -> Answer:
    try:
        state = await ports.sidecars.state(endpoint)
    except NotFoundError as error:
        # A sidecar of this index knows it as soon as it listens.
        return WrongIdentity(f"answers as another one: {error}")
    except UnauthorizedError as error:
        if error.audience is not None:
            return WrongIdentity(f"answers as another one: as {error.audience}")
        return await _key_pending(ports, index, str(error))
    except SidecarError as error:
        return NoAnswer(str(error))
    return judge(index, endpoint.pod, state)


async def _key_pending(ports: Ports, index: VectorIndex, refusal: str) -> KeyPending:
    """Whether the pod has had the time to learn the operator's key, its identity's ConfigMap says."""
    name = names.identity(index.metadata.name)
    config_map = await ports.cluster.get("ConfigMap", index.metadata.namespace, name)
    changed = None if config_map is None else last_apply(config_map)
    if changed is None or ports.now() - changed < KEY_ARRIVES:
        return KeyPending.because(refusal)
    return KeyPending.overdue(refusal, name)


async def gather_builds(ports: Ports, namespace: str, index: str) -> list[BuildRun]:
    """The builds of an index that have not ended, less those that cannot be read: their own reconcile ends them. Those
    that have ended, of which there are ever more, the API server leaves out."""
    builds: list[BuildRun] = []
    for model in BUILDS:
        fields = f"spec.indexRef.name={index},status.completionTime="
        async for manifest in ports.cluster.objects(model.definition.kind, namespace, fields=fields):
            with suppress(UnreadableError):
                builds.append(model.read(manifest))
    return builds


def last_write(manifest: Manifest) -> datetime | None:
    """When the operator last changed the object's status, as the API server remembers it."""
    return _last_change(manifest, "status")


def last_apply(manifest: Manifest) -> datetime | None:
    """The same of the object itself."""
    return _last_change(manifest, None)


def _last_change(manifest: Manifest, subresource: str | None) -> datetime | None:
    times = [
        datetime.fromisoformat(entry["time"])
        for entry in manifest["metadata"].get("managedFields", ())
        if (entry["manager"], entry.get("subresource")) == (names.FIELD_MANAGER, subresource) and "time" in entry
    ]
    return max(times, default=None)
