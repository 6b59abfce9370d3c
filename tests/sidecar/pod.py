"""What the operator gives a pod: its identity file, and tokens by which it calls it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vectorindex.dataplane.tokens import Signer
from vectorindex.domain.keyring import SigningKey
from vectorindex.wire.endpoint import Endpoint

POD = "products-0"
ENVIRONMENT = {"POD_NAME": POD}
KEY = SigningKey.generate()
IDENTITY: dict[str, Any] = {
    "namespace": "shop",
    "index": "products",
    "uid": "uid-1",
    "dimensions": 8,
    "metric": "Cosine",
    "parameters": {"M": 12, "ef_construction": 50},
}


def write_identity(folder: Path, keys: Sequence[SigningKey] = (KEY,), **changes: Any) -> tuple[str, str]:
    """Write the file, all at once; returns the arguments that name it. Without ``keys`` it says nothing of them."""
    content = {**IDENTITY, **changes}
    if keys:
        content["public_keys"] = [key.public.to_json() for key in keys]
    draft = folder / "identity.new"
    draft.write_text(json.dumps(content))
    draft.rename(folder / "identity.json")
    return "--identity", str(folder / "identity.json")


def operator(key: SigningKey = KEY, pod: str = POD) -> Mapping[str, str]:
    """The headers of the operator's calls."""
    signer = Signer(time.time)
    signer.use(key)
    return signer.headers(Endpoint("shop", "products", pod, "127.0.0.1", 0))
