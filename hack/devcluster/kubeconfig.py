"""Kubeconfig files: everything inside (no paths), so that a copy of the file works anywhere it can reach the server."""

import base64
from dataclasses import dataclass
from pathlib import Path

import yaml

from devcluster.certificates import Pair


@dataclass(frozen=True)
class Kubeconfig:
    """What is needed to write kubeconfig files for one API server."""

    server: str
    """URL of the API server."""
    ca: Path
    """Its CA, as a PEM file."""

    def for_certificate(self, path: Path, user: str, pair: Pair) -> Path:
        """Write a kubeconfig for the holder of a client certificate."""
        credentials = {
            "client-certificate-data": _base64(pair.certificate),
            "client-key-data": _base64(pair.key),
        }
        return self._write(path, user, credentials)

    def for_token(self, path: Path, user: str, token: str) -> Path:
        """Write a kubeconfig for the holder of a bearer token."""
        return self._write(path, user, {"token": token})

    def _write(self, path: Path, user: str, credentials: dict[str, str]) -> Path:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "devcluster",
                    "cluster": {"server": self.server, "certificate-authority-data": _base64(self.ca)},
                }
            ],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": user}}],
            "current-context": "devcluster",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
