"""A light stand-in for the sidecars of many pods: ``python -m bench.standin FILE``.

One process answers for every pod: by the address that was called (one for each ordinal) and by the index in the path.
What it answers is made of the wire's own models. It measures the operator, and proves nothing about sidecars: deletes
succeed at once, and all items of a request are found.

``FILE`` is JSON: {"namespace": …, "dimensions": …, "metric": …, "uids": {index: UID}, "hosts": [address by ordinal]}.
``GET /asked`` on any address counts the calls by what they asked for, and the pods that were asked, since the last
``DELETE /asked``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from vectorindex.api.names import PORT
from vectorindex.wire.base import WireModel
from vectorindex.wire.operations import (
    DeleteBody,
    DeleteResult,
    OperationList,
    OperationState,
    OperationStatus,
    ParametersInForce,
    pack_bitmap,
)
from vectorindex.wire.state import Configuration, Counts, IndexState, PodIdentity

LIVE = 100_000


@dataclass
class Pod:
    """What one pod would keep on its volume."""

    identity: PodIdentity
    configuration: Configuration = field(default_factory=Configuration)
    ledger: dict[str, OperationStatus] = field(default_factory=dict)

    @property
    def volume(self) -> str:
        return f"volume-of-{self.identity.pod}"


class Pods:
    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told
        self._ordinals = {host: ordinal for ordinal, host in enumerate(told["hosts"])}
        self._pods: dict[tuple[str, int], Pod] = {}
        self._calls: Counter[str] = Counter()
        self._asked: set[str] = set()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**26)
        root = "/v1/indexes/{index}"
        application.router.add_get(f"{root}/state", self._state)
        application.router.add_put(f"{root}/configuration", self._configure)
        application.router.add_get(f"{root}/operations", self._operations)
        application.router.add_put(f"{root}/operations/{{id}}", self._start)
        application.router.add_get(f"{root}/operations/{{id}}", self._look)
        application.router.add_get("/asked", self._count)
        application.router.add_delete("/asked", self._forget)
        return application

    def _pod(self, request: web.Request, what: str) -> Pod:
        self._calls[what] += 1
        assert request.transport is not None
        ordinal = self._ordinals[request.transport.get_extra_info("sockname")[0]]
        index = request.match_info["index"]
        if (index, ordinal) not in self._pods:
            uid = self._told["uids"].get(index)
            if uid is None:
                raise web.HTTPNotFound
            identity = PodIdentity(namespace=self._told["namespace"], index=index, uid=uid, pod=f"{index}-{ordinal}")
            self._pods[index, ordinal] = Pod(identity)
        pod = self._pods[index, ordinal]
        self._asked.add(pod.identity.pod)
        return pod

    async def _state(self, request: web.Request) -> web.Response:
        pod = self._pod(request, "state")
        deletes = len(pod.ledger)
        configuration = pod.configuration
        return _json(
            IndexState(
                volume_id=pod.volume,
                boot_id="boot",
                identity=pod.identity,
                index_name=pod.identity.index,
                dimensions=self._told["dimensions"],
                metric=self._told["metric"],
                sequence=deletes,
                digest=f"{LIVE - deletes:016x}",
                counts=Counts(live=LIVE - deletes, deleted=deletes, delta=0),
                bytes=LIVE * 4 * self._told["dimensions"],
                parameters=ParametersInForce(
                    m=16, ef_construction=200, ef_search=configuration.ef_search or 64, rng_seed=0
                ),
                configuration=configuration,
            )
        )

    async def _configure(self, request: web.Request) -> web.Response:
        pod = self._pod(request, "configuration")
        pod.configuration = Configuration.model_validate(await request.json())
        return _json(pod.configuration)

    async def _operations(self, request: web.Request) -> web.Response:
        pod = self._pod(request, "operations")
        return _json(OperationList(volume_id=pod.volume, operations=tuple(pod.ledger.values())))

    async def _start(self, request: web.Request) -> web.Response:
        pod, identifier = self._pod(request, "start"), request.match_info["id"]
        if identifier not in pod.ledger:
            body = DeleteBody.model_validate(await request.json())
            count = len(body.request.external_ids)
            result = DeleteResult(deleted=count, not_found=0, bitmap=pack_bitmap([True] * count))
            pod.ledger[identifier] = OperationStatus(
                id=identifier,
                kind=body.kind,
                state=OperationState.SUCCEEDED,
                progress=100,
                volume_id=pod.volume,
                object=body.object,
                result=result,
            )
        return _json(pod.ledger[identifier])

    async def _look(self, request: web.Request) -> web.Response:
        pod = self._pod(request, "look")
        if (found := pod.ledger.get(request.match_info["id"])) is None:
            raise web.HTTPNotFound
        return _json(found)

    async def _count(self, request: web.Request) -> web.Response:
        return web.json_response({"calls": dict(self._calls), "pods": len(self._asked)})

    async def _forget(self, request: web.Request) -> web.Response:
        self._calls.clear()
        self._asked.clear()
        return web.Response(status=204)


def _json(model: WireModel) -> web.Response:
    return web.json_response(model.to_json())


async def main(path: Path) -> None:
    told = json.loads(path.read_text())
    runner = web.AppRunner(Pods(told).application(), access_log=None)
    await runner.setup()
    for host in told["hosts"]:
        await web.TCPSite(runner, host, PORT).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
