"""What a power loss may leave of files: a disk with a page cache, fed with recorded system calls.

It promises no more than POSIX does. Content is on disk after an fsync of the file; a name (new, changed or removed)
after an fsync of its folder; everything else may be there, be missing, or be there in part, independently of each
other. An fsync that fails drops what it should have written: a later one that succeeds does not make up for it (Linux
marks the pages clean).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.crash.tracing import RENAMES, SYNCS, Call

SECTOR = 512
Tree = dict[str, bytes | None]
"""Relative paths: the content of a file; None for a folder."""


@dataclass(frozen=True)
class Write:
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.data)] = self.data

    def sectors(self) -> list[Write]:
        """Its parts, each of which a disk writes whole or not at all."""
        cuts = range(self.offset // SECTOR * SECTOR, self.offset + len(self.data), SECTOR)
        bounds = [(max(cut, self.offset), min(cut + SECTOR, self.offset + len(self.data))) for cut in cuts]
        return [Write(start, self.data[start - self.offset : end - self.offset]) for start, end in bounds]


@dataclass(frozen=True)
class Resize:
    size: int

    def apply(self, content: bytearray) -> None:
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


@dataclass
class File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write | Resize] = field(default_factory=list)
    size: int = 0

    def change(self, change: Write | Resize) -> None:
        self.pending.append(change)
        self.size = change.size if isinstance(change, Resize) else max(self.size, change.offset + len(change.data))

    def sync(self) -> None:
        for change in self.pending:
            change.apply(self.durable)
        self.pending = []


@dataclass(frozen=True)
class Entry:
    """A change of a folder: ``removed`` goes, ``added`` comes; a rename is both at once."""

    removed: str | None
    added: str | None
    node: Node | None

    def apply(self, entries: dict[str, Node]) -> None:
        if self.removed is not None:
            entries.pop(self.removed, None)
        if self.added is not None and self.node is not None:
            entries[self.added] = self.node


@dataclass
class Folder:
    entries: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)
    pending: list[Entry] = field(default_factory=list)

    def change(self, entry: Entry) -> None:
        self.pending.append(entry)
        entry.apply(self.entries)

    def sync(self) -> None:
        for entry in self.pending:
            entry.apply(self.durable)
        self.pending = []


Node = File | Folder


@dataclass
class Descriptor:
    path: str
    node: Node
    position: int = 0
    appends: bool = False


@dataclass(frozen=True)
class Loss:
    """How a power loss treats what was not synced: keep it all or none of it, or each part by a seed."""

    names: str
    content: str
    seed: int = 0


KEPT, DROPPED, TORN = "kept", "dropped", "torn"
STRICT = Loss(DROPPED, DROPPED)
"""Nothing but what was synced."""
NAMES_ONLY = Loss(KEPT, DROPPED)
"""As file systems do that delay allocation: the new names are there, the files are empty."""
CONTENT_ONLY = Loss(DROPPED, KEPT)
EVERYTHING = Loss(KEPT, KEPT)
"""As after SIGKILL."""


def torn(seed: int) -> Loss:
    """Each change of a name, and each sector of each write, is kept or not."""
    return Loss(TORN, TORN, seed)


class Disk:
    """The files below one folder, as the calls of a process (or of several, one after the other) make them."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._top = Folder()
        self._open: dict[int, Descriptor] = {}

    def restart(self) -> None:
        """The process has ended, the page cache lives."""
        self._open.clear()

    def path_of(self, call: Call) -> str | None:
        """What the call is about, relative to the folder; None if it lies elsewhere. Before the call is applied."""
        if call.name in {"fsync", "fdatasync", "write", "writev", "pwrite64", "ftruncate", "sendfile"}:
            opened = self._open.get(_number(call, 0))
            return None if opened is None else opened.path
        paths = self._paths(call)
        return paths[-1] if paths else None

    def apply(self, call: Call, *, synced: bool = True) -> None:
        """``synced``: whether an fsync does anything. Raises NotImplementedError on a call that changes the files and
        that this disk does not know."""
        if call.name in SYNCS:
            if synced:
                self._sync(call)
        elif call.result is None or call.result < 0:
            return
        elif call.name == "openat":
            self._openat(call)
        elif call.name == "close":
            self._open.pop(_number(call, 0), None)
        elif call.name == "lseek":
            if (opened := self._open.get(_number(call, 0))) is not None:
                opened.position = call.result
        elif call.name in {"write", "writev", "pwrite64"}:
            self._write(call)
        elif call.name == "ftruncate":
            if (opened := self._open.get(_number(call, 0))) is not None:
                _file(opened.node).change(Resize(_number(call, 1)))
        elif call.name in {"link", "linkat"}:
            if paths := self._paths(call):
                self._add(paths[1], self._find(paths[0]))
        elif call.name == "sendfile":
            self._sendfile(call)
        elif call.name == "mkdir":
            if paths := self._paths(call):
                self._add(paths[0], Folder())
        elif call.name in {"unlink", "rmdir", "unlinkat"}:
            if paths := self._paths(call):
                folder, name = self._parent(paths[0])
                folder.change(Entry(name, None, None))
        elif call.name in RENAMES:
            if paths := self._paths(call):
                self._rename(*paths)
        elif call.changes or (call.name == "mmap" and self._maps_for_writing(call)):
            raise NotImplementedError(f"{call.name}({call.arguments})")

    def crash(self, loss: Loss) -> Tree:
        """The folder after a power loss now."""
        tree: Tree = {}
        _collect(self._top, "", loss, random.Random(loss.seed), tree)
        return tree

    # --- calls

    def _openat(self, call: Call) -> None:
        paths = self._paths(call)
        assert call.result is not None
        if not paths:
            return
        path = paths[0]
        node = self._find(path)
        if node is None:
            assert "O_CREAT" in call.arguments, f"opened, and this disk does not know it: {path}"
            node = File()
            self._add(path, node)
        elif "O_TRUNC" in call.arguments:
            _file(node).change(Resize(0))
        self._open[call.result] = Descriptor(path, node, appends="O_APPEND" in call.arguments)

    def _write(self, call: Call) -> None:
        opened = self._open.get(_number(call, 0))
        if opened is None:
            return
        assert call.result is not None
        data = b"".join(call.strings)[: call.result]
        file = _file(opened.node)
        if call.name == "pwrite64":
            offset = _number(call, 3)
        else:
            offset = file.size if opened.appends else opened.position
            opened.position = offset + len(data)
        file.change(Write(offset, data))

    def _sendfile(self, call: Call) -> None:
        """From the file of the second descriptor, at the offset given, to the position of the first."""
        target, source = self._open.get(_number(call, 0)), self._open.get(_number(call, 1))
        if target is None:
            return
        assert source is not None, "copied from somewhere else"
        assert call.result is not None
        match = re.search(r"\[(\d+)", call.arguments)
        start = int(match[1]) if match else source.position
        content = _content(_file(source.node), EVERYTHING, random.Random(0))
        _file(target.node).change(Write(target.position, content[start : start + call.result]))
        target.position += call.result

    def _sync(self, call: Call) -> None:
        opened = self._open.get(_number(call, 0))
        if opened is None or call.result is None:
            return
        if call.result < 0:
            opened.node.pending.clear()
        else:
            opened.node.sync()

    def _rename(self, old: str, new: str) -> None:
        folder, old_name = self._parent(old)
        target, new_name = self._parent(new)
        node = folder.entries[old_name]
        if folder is target:
            folder.change(Entry(old_name, new_name, node))
        else:  # on disk these are two changes, and either may come first
            target.change(Entry(None, new_name, node))
            folder.change(Entry(old_name, None, None))

    def _maps_for_writing(self, call: Call) -> bool:
        opened = self._open.get(_number(call, 4))
        shared = "MAP_SHARED" in call.arguments and "PROT_WRITE" in call.arguments
        return shared and opened is not None and not opened.path.endswith("-shm")

    # --- names

    def _paths(self, call: Call) -> list[str]:
        """The paths that a call names, those below the root, relative to it."""
        start = self._root
        first = call.arguments.split(",")[0].strip()
        if call.name in {"openat", "unlinkat"} and first != "AT_FDCWD":
            opened = self._open.get(int(first))
            if opened is None:
                return []
            start = f"{self._root}/{opened.path}"
        paths = [str(PurePosixPath(start) / string.decode()) for string in call.strings]
        return [
            path[len(self._root) + 1 :] for path in paths if path == self._root or path.startswith(self._root + "/")
        ]

    def _find(self, path: str) -> Node | None:
        node: Node | None = self._top
        for part in PurePosixPath(path).parts:
            node = node.entries.get(part) if isinstance(node, Folder) else None
        return node

    def _parent(self, path: str) -> tuple[Folder, str]:
        folder = self._find(str(PurePosixPath(path).parent))
        assert isinstance(folder, Folder), f"no folder for {path}"
        return folder, PurePosixPath(path).name

    def _add(self, path: str, node: Node | None) -> None:
        if path:  # the root itself is there for good
            folder, name = self._parent(path)
            folder.change(Entry(None, name, node))


_FOLDERS = {
    (False, 0): "data folder",
    (False, 1): "folder of the indexes",
    (True, 1): "folder of all snapshots",
    (True, 2): "folder of an index's snapshots",
    (True, 4): "folder of a snapshot",
}
"""By whether it is of snapshots, and how deep it lies."""


def site(call: Call, path: str) -> str:
    """What an fsync is about, the same for all files of a kind: SQLite's are ``fdatasync``, ours ``fsync``."""
    name = PurePosixPath(path)
    if name.name.startswith(".unfinished-"):
        return f"{call.name} folder that is emptied"
    unfinished = any(part.startswith(".unfinished-") for part in name.parts)
    of_snapshots = name.parts[:1] == ("snapshots",)
    if name.suffix in {".hnsw", ".ids"}:
        kind = f"segment {name.suffix}"
    elif name.name.startswith("index.db") or name.name in {"volume.json.new", "snapshot.json"}:
        kind = name.name
    else:
        kind = _FOLDERS.get((of_snapshots, len(name.parts)), "folder of the index")
    when = ", in a snapshot" if of_snapshots else ", at creation"
    return f"{call.name} {kind}" + (when if unfinished else "")


def write_tree(tree: Tree, folder: Path) -> None:
    """Make these files, in an empty folder that is there."""
    for path, content in tree.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def _collect(folder: Folder, prefix: str, loss: Loss, random: random.Random, tree: Tree) -> None:
    entries = dict(folder.durable)
    for entry in folder.pending:
        if loss.names == KEPT or (loss.names == TORN and random.random() < 0.5):
            entry.apply(entries)
    for name, node in sorted(entries.items()):
        if isinstance(node, Folder):
            tree[prefix + name] = None
            _collect(node, f"{prefix}{name}/", loss, random, tree)
        elif not name.endswith("-shm"):  # SQLite's shared memory, which it makes anew
            tree[prefix + name] = _content(node, loss, random)


def _content(file: File, loss: Loss, random: random.Random) -> bytes:
    content = bytearray(file.durable)
    keep: Callable[[], bool] = (
        (lambda: random.random() < 0.5) if loss.content == TORN else (lambda: loss.content == KEPT)
    )
    for change in file.pending:
        if isinstance(change, Resize):
            if keep():
                change.apply(content)
        else:
            for part in change.sectors():
                if keep():
                    part.apply(content)
    return bytes(content)


def _file(node: Node) -> File:
    assert isinstance(node, File), "a folder is no file"
    return node


def _number(call: Call, position: int) -> int:
    """An argument that is a number."""
    text = call.arguments.split(",")[position].strip()
    return int(text) if text.lstrip("-").isdigit() else -1
