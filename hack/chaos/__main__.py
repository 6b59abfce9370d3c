"""The run: actors and killer together, then a last look at everything."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from chaos.actor import Actor
from chaos.history import History, Violation
from chaos.killer import Killer
from chaos.sidecar import Sidecar
from vectorindex.dataplane.transport import Transport
from vectorindex.engine.store import Store
from vectorindex.wire.identity import Metric


async def chaos(folder: Path, sidecar: Sidecar, history: History, seed: int, kills: int) -> None:
    async with Transport() as transport:
        actors = [Actor(transport, sidecar, history, metric, seed) for metric in Metric]
        for actor in actors:
            await actor.create()
        killer = asyncio.create_task(Killer(transport, sidecar, history, seed, kills).run())

        async def play(actor: Actor) -> None:
            while not killer.done():
                await actor.act()

        try:
            async with asyncio.TaskGroup() as group:
                for actor in actors:
                    group.create_task(play(actor))
        finally:
            killer.cancel()
            await asyncio.wait([killer])
        killer.result()
        for actor in actors:
            await actor.check()
    sidecar.stop()
    for actor in actors:
        store = Store.open(folder / "data" / "indexes" / actor.name)
        named = {path.name for segment in store.status().segments
                 for path in (segment.hnsw_path(store.folder), segment.ids_path(store.folder))}  # fmt: skip
        store.close()
        left = {path.name for path in store.folder.iterdir()} - named - {"lock", "index.db"}
        if left:
            raise Violation(f"index {actor.name}: files are left that nothing names: {sorted(left)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    print(f"==> chaos: {arguments.kills} kills, SEED={arguments.seed}", flush=True)
    history = History()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vectorindex-chaos-") as name:
        sidecar = Sidecar(Path(name))
        try:
            asyncio.run(chaos(Path(name), sidecar, history, arguments.seed, arguments.kills))
        except* Violation as violations:
            print(f"VIOLATED with SEED={arguments.seed}: {violations.exceptions[0]}", file=sys.stderr)
            print(f"The last actions:\n{history.last_actions()}", file=sys.stderr)
            print(f"The sidecar's log:\n{sidecar.last_lines()}", file=sys.stderr)
            return_code = 1
        else:
            return_code = 0
        finally:
            sidecar.end()
    print(history.report())
    print(f"==> {'held' if return_code == 0 else 'VIOLATED'} after {time.monotonic() - started:.0f} s")
    return return_code


if __name__ == "__main__":
    sys.exit(main())
