"""Where things are kept: one cache folder, never a path of this machine.

Everything below the cache folder can be removed at any time while no cluster runs.
"""

import os
from pathlib import Path

TOOLS = Path(__file__).resolve().parent / "tools"
"""The Go modules of everything that is built."""


def cache() -> Path:
    """The cache folder: `${XDG_CACHE_HOME:-~/.cache}/vectorindex-devcluster`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vectorindex-devcluster"
