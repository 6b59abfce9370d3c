"""Whom a call of a sidecar is for: where it listens, and who must answer there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoint:
    """One pod's sidecar. ``host``: an IP address or a host name; the others name the index and the pod that are meant,
    which may not be what listens there by now."""

    namespace: str
    index: str
    pod: str
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"
