"""Run inside the cluster's namespaces, where pods can be reached: what an application does with an index.

`python -m tests.e2e.inside load ROWS ADDRESS…` writes the first ROWS nouns to each address, `search ADDRESS` prints the
answers to all questions, `found ROWS ADDRESS` prints which of the first ROWS nouns are found by their own vector.
"""

from __future__ import annotations

import asyncio
import json
import sys

from demo import data
from vectorindex.dataplane.items import Replicas, SidecarIndex
from vectorindex.dataplane.transport import Transport

INDEX = "nouns"


async def main(arguments: list[str]) -> None:
    nouns = data.load()
    async with Transport() as transport:
        match arguments:
            case ["load", rows, *addresses]:
                count = int(rows)
                indexes = [SidecarIndex(transport, f"http://{address}:8080", INDEX) for address in addresses]
                await Replicas(indexes).load(nouns.ids[:count], nouns.vectors[:count])
            case ["search", address]:
                index = SidecarIndex(transport, f"http://{address}:8080", INDEX)
                print(json.dumps(await index.search(nouns.question_vectors, k=10)))
            case ["found", rows, address]:
                count = int(rows)
                index = SidecarIndex(transport, f"http://{address}:8080", INDEX)
                answers = await index.search(nouns.vectors[:count], k=5)
                own = zip(nouns.ids[:count], answers, strict=True)
                print(json.dumps([name for name, answer in own if name in answer]))
            case _:
                sys.exit(str(__doc__))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
