"""`make check`: everything that needs no test run. All checks run, then the first failure decides the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

CHECKS = {
    "lint": ["-m", "ruff", "check", "--quiet", "."],
    "format": ["-m", "ruff", "format", "--quiet", "--check", "."],
    "types": ["-m", "mypy", "operator/vectorindex", "hack", "tests"],
    "layers": ["-c", "from importlinter.cli import lint_imports_command as run; run()"],
    "generated files": ["hack/generate.py", "--check"],
}


def main() -> int:
    failed = []
    for name, command in CHECKS.items():
        result = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(f"==> check: {name:<16} {'ok' if result.returncode == 0 else 'FAILED'}", flush=True)
        if result.returncode:
            failed.append(name)
            print(result.stdout, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
