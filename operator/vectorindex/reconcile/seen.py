"""What events have shown of indexes, of what they own, and of their pods.

It answers as Kubernetes would, as far as it can: so a look may be taken at it that asks the API server nothing. It may
be behind; so it decides only whether there is anything to do, and what is done follows from the newest state.

It is filled by the watches, and by each resync, which also finds what is gone without anybody having seen it go.
Objects are kept as compressed JSON, a fiftieth of what they take as dictionaries.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from vectorindex.api import names
from vectorindex.cluster.errors import ClusterError
from vectorindex.reconcile.ports import Manifest

POD = "Pod"
Name = tuple[str, str, str]
"""Kind, namespace and name of an object."""


class UnseenError(ClusterError):
    """Only the API server can tell."""


class Seen:
    def __init__(self) -> None:
        self._objects: dict[Name, tuple[int, bytes]] = {}
        self._pods: dict[tuple[str, str | None], set[Name]] = {}
        """By namespace and index."""
        self.complete = False
        """Every object has been listed once."""

    def note(self, manifest: Mapping[str, Any]) -> bool:
        """Keep an object as it was seen; False: it was seen so before, or in a newer state."""
        name, version = name_of(manifest), int(manifest["metadata"]["resourceVersion"])
        if name in self._objects and self._objects[name][0] >= version:
            return False
        if name in self._objects:
            self._drop(name)
        self._objects[name] = (version, _packed(manifest))
        if name[0] == POD:
            self._pods.setdefault((name[1], index_of(manifest)), set()).add(name)
        return True

    def forget(self, manifest: Mapping[str, Any]) -> None:
        """The object is gone, unless one that was made after it has been seen already."""
        name, version = name_of(manifest), int(manifest["metadata"]["resourceVersion"])
        if name in self._objects and self._objects[name][0] <= version:
            self._drop(name)

    def take(self, name: Name) -> Manifest | None:
        """The object as it was last seen, which is forgotten."""
        if name not in self._objects:
            return None
        manifest = self._unpacked(name)
        self._drop(name)
        return manifest

    def names(self, kind: str, namespace: str | None) -> set[Name]:
        """What was seen of this kind in a namespace, None: in all."""
        return {name for name in self._objects if name[0] == kind and namespace in (None, name[1])}

    def _drop(self, name: Name) -> None:
        if name[0] == POD:
            index = (name[1], index_of(self._unpacked(name)))
            self._pods[index].discard(name)
            if not self._pods[index]:
                del self._pods[index]
        del self._objects[name]

    def _unpacked(self, name: Name) -> Manifest:
        manifest: Manifest = json.loads(zlib.decompress(self._objects[name][1]))
        return manifest

    # As a ClusterPort

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """The object, or None if there is none. Raises UnseenError while not all have been listed."""
        if not self.complete:
            raise UnseenError("not everything has been listed so far")
        key = (kind, namespace, name)
        return self._unpacked(key) if key in self._objects else None

    async def pods(self, namespace: str, labels: str) -> list[Manifest]:
        """The pods with these labels. Raises UnseenError where they are not the ones that are watched."""
        parts = labels.split(",")
        wanted = dict(part.partition("=")[::2] for part in parts)
        index = wanted.get(names.INDEX_LABEL)
        simple = all("=" in part and "!" not in part for part in parts)  # not `key in (a,b)`, `key`, `!key`, `key!=a`
        if not (self.complete and index and simple):
            raise UnseenError(f"pods with the labels {labels} are not watched")
        pods = [self._unpacked(name) for name in sorted(self._pods.get((namespace, index), ()))]
        return [pod for pod in pods if wanted.items() <= pod["metadata"]["labels"].items()]

    def objects(self, kind: str, namespace: str | None, labels: str = "", fields: str = "") -> AsyncIterator[Manifest]:
        raise UnseenError(f"objects of the kind {kind} are not kept")

    async def apply(self, manifest: Manifest) -> Manifest:
        raise UnseenError("nothing is written by what was seen")

    async def apply_status(self, manifest: Manifest, status: Manifest) -> Manifest:
        raise UnseenError("nothing is written by what was seen")

    async def delete(self, manifest: Manifest) -> None:
        raise UnseenError("nothing is written by what was seen")

    async def record(self, manifest: Manifest, reason: str, note: str, *, warning: bool, transition: str) -> None:
        raise UnseenError("nothing is written by what was seen")


def name_of(manifest: Mapping[str, Any]) -> Name:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata["namespace"], metadata["name"]


def index_of(manifest: Mapping[str, Any]) -> str | None:
    """The index whose object it is, by its label."""
    index: str | None = manifest["metadata"].get("labels", {}).get(names.INDEX_LABEL)
    return index


def _packed(manifest: Mapping[str, Any]) -> bytes:
    """Without what only other managers have set: what is owned is compared by our own fields."""
    metadata = manifest["metadata"]
    ours = [entry for entry in metadata.get("managedFields", ()) if entry["manager"] == names.FIELD_MANAGER]
    text = json.dumps({**manifest, "metadata": {**metadata, "managedFields": ours}}, separators=(",", ":"))
    return zlib.compress(text.encode(), level=1)
