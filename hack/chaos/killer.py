"""Kills the sidecar's processes at random moments, and notes what went on then."""

from __future__ import annotations

import asyncio
import random
import time

from chaos.history import History, Violation
from chaos.sidecar import DEADLINE, HOST, Sidecar
from vectorindex.dataplane.errors import SidecarError
from vectorindex.dataplane.operations import Sidecars
from vectorindex.dataplane.transport import Transport
from vectorindex.engine.jobs import PROGRESS_AT, JobKind
from vectorindex.wire.identity import Metric
from vectorindex.wire.operations import OperationState

WEIGHTS = {"front": 4, "searcher": 3, "builder": 4}


class Killer:
    """Kills ``count`` processes, one after the other."""

    def __init__(self, transport: Transport, sidecar: Sidecar, history: History, seed: int, count: int) -> None:
        self._sidecars = Sidecars(transport)
        self._transport = transport
        self._sidecar = sidecar
        self._history = history
        self._random = random.Random(f"{seed} killer")
        self._count = count

    async def run(self) -> None:
        while (done := self._history.kills.total()) < self._count:
            if self._random.random() < 0.75:
                await self._until_ready()
            await asyncio.sleep(self._random.random() * self._random.choice([0.1, 1.0, 3.0]))
            self._sidecar.check_alive()
            target = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            phase = await self._phase()
            if target == "front":
                self._sidecar.kill_front()
            elif not self._sidecar.kill_child(target, self._random):
                continue
            self._history.kills[target, phase] += 1
            self._history.note(f"SIGKILL of {target} at {phase}")
            if (done + 1) % 25 == 0:
                print(f"  {done + 1} of {self._count} kills", flush=True)

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return await self._ask_readiness()
            except SidecarError as error:
                self._sidecar.check_alive()
                if time.monotonic() > deadline:
                    raise Violation(f"it is not ready within {DEADLINE:.0f} s: {error}") from None
                await asyncio.sleep(0.02)

    async def _ask_readiness(self) -> None:
        await self._transport.call("GET", f"http://{HOST}:{self._sidecar.port}/readyz", timeout=1.0)

    async def _phase(self) -> str:
        """What goes on: the step of a build, if there is one."""
        try:
            await self._ask_readiness()
            states = [await self._sidecars.state(self._sidecar.endpoint(metric.value.lower())) for metric in Metric]
        except SidecarError:
            return "start-up"
        for operation in (operation for state in states for operation in state.operations):
            if operation.state is OperationState.RUNNING:
                steps = PROGRESS_AT[JobKind(str(operation.kind).lower())]
                if operation.progress >= max(end for _, end in steps.values()):
                    return f"{operation.kind}, swap"
                begun = [phase for phase, (start, _) in steps.items() if operation.progress >= start]
                return f"{operation.kind}, {begun[-1]}"
        return "no build"
