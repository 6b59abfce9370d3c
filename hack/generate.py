"""`make generate`: writes what is made from other files, and `--check` says what differs.

    operator/vectorindex/api ─┬► charts/vectorindex-operator/files/crds ──► manifests/{crds,rbac,operator}
                              └► docs/reference

Invariant: what is generated is a function of the sources and of Helm's version alone, so that a difference is always
a forgotten `make generate`.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devcluster import build
from devcluster.errors import DevClusterError
from vectorindex.api import KINDS, crd, reference

ROOT = Path(__file__).resolve().parent.parent
CHART = Path("charts/vectorindex-operator")
CRDS = crd.DIRECTORY
MANIFESTS = Path("manifests")
RELEASE = "vectorindex-operator"
NAMESPACE = "vectorindex-system"
FOLDERS = (CRDS, *(MANIFESTS / path.name for path in sorted((ROOT / CHART / "templates").iterdir()) if path.is_dir()))
"""All that lies in these is generated: one folder of manifests for each folder of templates."""
HEADER = f"# Generated from {CHART} by `make generate`. Do not edit.\n"
_SOURCE = re.compile(rf"# Source: {CHART.name}/templates/(\S+)\n(.*)", re.DOTALL)


def generated(helm: Path) -> dict[Path, str]:
    """What the generated files should hold, by their paths from the root of the repository."""
    crds = {CRDS / f"{model.definition.plural}.yaml": crd.render(model) for model in KINDS}
    return crds | {reference.PATH: reference.render()} | _manifests(helm, crds)


def differing(files: dict[Path, str]) -> list[Path]:
    """Those that are missing, outdated, or there although nothing makes them any more."""
    there = {path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()}
    return sorted(path for path in there | files.keys() if _read(path) != files.get(path))


def write(files: dict[Path, str]) -> list[Path]:
    """Make the generated folders hold exactly these files; returns what was written or removed."""
    changed = differing(files)
    for path in changed:
        if path in files:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(files[path], encoding="utf-8")
        else:
            (ROOT / path).unlink()
    return changed


def _manifests(helm: Path, crds: dict[Path, str]) -> dict[Path, str]:
    """The chart with its defaults, without what only Helm understands: a file for each template."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder) / CHART.name
        shutil.copytree(ROOT / CHART, chart)
        shutil.rmtree(chart / CRDS.relative_to(CHART))
        (chart / CRDS.relative_to(CHART)).mkdir()
        for path, text in crds.items():
            (chart / path.relative_to(CHART)).write_text(text, encoding="utf-8")
        command: list[str | Path] = [
            helm,
            "template",
            RELEASE,
            chart,
            "--namespace",
            NAMESPACE,
            "--set",
            "crds.keep=false",
        ]
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise DevClusterError(f"The chart does not render:\n{result.stderr.strip()}")
    files: dict[Path, str] = {}
    for document in re.split(r"^---\n", result.stdout, flags=re.MULTILINE):
        if match := _SOURCE.fullmatch(document):
            path = MANIFESTS / match[1]
            before = f"{files[path]}---\n" if path in files else HEADER
            files[path] = f"{before}{match[2].strip()}\n"
    return files


def _read(path: Path) -> str | None:
    """The text of a file, None where there is none."""
    return (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else None


def main() -> int:
    """Entry point; 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail when something differs")
    check: bool = parser.parse_args().check
    try:
        files = generated(build.control_plane() / "helm")
    except DevClusterError as error:
        print(error, file=sys.stderr)
        return 2
    if check:
        outdated = differing(files)
        for path in outdated:
            print(f"{path} differs from its sources: type `make generate`, and commit the result", file=sys.stderr)
        return 1 if outdated else 0
    for path in write(files):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
