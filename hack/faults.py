"""`make faults`: operator and sidecars killed, paused and cut off at every state of an operation, objects deleted, made
again, stripped and mutated in the middle, and the faults of the API server and of a whole cluster.

The normal tests try a part of this; here is all of it, with how often each fault was tried. A failure says the seed.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
CAMPAIGNS = {
    "operator": ("tests/apiserver/faults/test_operator_killed.py",),
    "index": ("tests/apiserver/faults/test_index_operator_killed.py",),
    "sidecar": ("tests/apiserver/faults/test_sidecar_faults.py",),
    "meanwhile": ("tests/apiserver/faults/test_meanwhile.py",),
    "mutations": ("tests/apiserver/faults/test_mutations.py",),
    "api": ("tests/apiserver/operator/test_api_faults.py",),
    "cluster": ("tests/e2e/test_faults.py", "tests/e2e/test_own_pods.py", "tests/e2e/test_two_operators.py"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, help="how often what depends on the moment is tried")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", nargs="+", choices=CAMPAIGNS, default=list(CAMPAIGNS))
    given = parser.parse_args()
    print(f"==> faults: {', '.join(given.only)}; N={given.repeat} SEED={given.seed}", flush=True)
    started = time.monotonic()
    settings = {"FAULTS": "all", "FAULTS_SEED": str(given.seed), "FAULTS_REPEAT": str(given.repeat)}
    command = [sys.executable, "-m", "pytest", *(file for name in given.only for file in CAMPAIGNS[name])]
    code = subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=False).returncode
    verdict = "held" if code == 0 else f"VIOLATED with SEED={given.seed}"
    print(f"==> {verdict} after {time.monotonic() - started:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
