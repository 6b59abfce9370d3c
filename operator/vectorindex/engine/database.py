"""The SQLite file of an index: its schema, and transactions that end in exactly one of three ways.

A transaction is committed and durable (WAL, ``synchronous=FULL``); or it had no effect (OutOfSpace, or any error of the
caller); or it is unknown what is on disk, and then nothing more is done until a restart (StoreFailed), whose first
act is a checkpoint that truncates the WAL. SQLite has no page checksums: items carry a crc, files a SHA-256.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote

from vectorindex.engine.errors import CopyFailed, CorruptFile, EngineError, OutOfSpace, StoreFailed
from vectorindex.engine.files import fsync_path
from vectorindex.engine.params import IndexSpec

APPLICATION_ID = 0x76656369  # "veci"
FORMAT_VERSION = 2
WAL_LIMIT = 16 * 2**20
SPACE_TO_RECOVER = 4 * 2**20
"""Free bytes at which a volume that was full takes writes again."""

SCHEMA = """
CREATE TABLE state (  -- one row
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL, dimensions INTEGER NOT NULL, metric TEXT NOT NULL, delta_ratio REAL NOT NULL,
    m INTEGER NOT NULL, ef_construction INTEGER NOT NULL, ef_search INTEGER NOT NULL, seed INTEGER NOT NULL,
    configuration TEXT NOT NULL DEFAULT '{}',
    next_label INTEGER NOT NULL DEFAULT 0, next_generation INTEGER NOT NULL DEFAULT 1,
    sequence INTEGER NOT NULL DEFAULT 0,  -- LSN of the last write
    digest TEXT NOT NULL DEFAULT '0000000000000000',  -- of the live items, as of it
    sealed REAL, sealed_lsn INTEGER, sealed_generation INTEGER,  -- seal of the last rebuild or optimize
    erased INTEGER NOT NULL DEFAULT 0  -- whether what it dropped is gone from the files, durably
) STRICT;
CREATE TABLE items (
    external_id TEXT PRIMARY KEY, label INTEGER NOT NULL, fingerprint INTEGER NOT NULL, crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE dead (label INTEGER PRIMARY KEY, lsn INTEGER NOT NULL) STRICT;  -- tombstones still in a graph
CREATE TABLE journal (  -- items that are in no segment yet
    label INTEGER PRIMARY KEY, lsn INTEGER NOT NULL, external_id TEXT NOT NULL, vector BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE TABLE segments (  -- the manifest
    generation INTEGER PRIMARY KEY, role TEXT NOT NULL, count INTEGER NOT NULL,
    min_label INTEGER NOT NULL, max_label INTEGER NOT NULL, first_lsn INTEGER NOT NULL, last_lsn INTEGER NOT NULL,
    m INTEGER NOT NULL, ef_construction INTEGER NOT NULL, ef_search INTEGER NOT NULL, seed INTEGER NOT NULL,
    unreachable INTEGER NOT NULL,
    hnsw_size INTEGER NOT NULL, hnsw_sha256 TEXT NOT NULL, ids_size INTEGER NOT NULL, ids_sha256 TEXT NOT NULL
) STRICT;
CREATE TABLE operations (  -- the ledger; it holds no external IDs
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    object_name TEXT NOT NULL, object_uid TEXT NOT NULL, digest TEXT NOT NULL, request TEXT,
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    progress INTEGER NOT NULL DEFAULT 0,
    restarts INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
    result TEXT, created REAL NOT NULL, finished REAL,
    operation_id TEXT NOT NULL DEFAULT ''  -- what the user calls it; '' for none
) STRICT;
CREATE INDEX operations_of_users ON operations (operation_id) WHERE operation_id <> '';
"""


def create_database(path: Path, spec: IndexSpec) -> None:
    """Writes the file of an empty index. The caller makes it durable, and then known: until then nothing is lost with
    it, so that SQLite needs no journal here, and no fsync of whose failure it would tell nobody. Raises OutOfSpace,
    StoreFailed."""
    parameters = spec.parameters
    try:
        connection = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreFailed(f"index {spec.name}: its database cannot be created ({error})") from error
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        connection.execute(
            "INSERT INTO state (one, name, dimensions, metric, delta_ratio, m, ef_construction, ef_search, seed)"
            " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
            (spec.name, spec.dimensions, spec.metric.value, spec.delta_ratio,
             parameters.m, parameters.ef_construction, parameters.ef_search, parameters.seed),
        )  # fmt: skip
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        raise _translated(error, path, spec.name) from error
    finally:
        connection.close()


def _columns(connection: sqlite3.Connection) -> set[tuple[bytes, bytes, bytes]]:
    """Table, name and type of each column, which need not be text in a damaged file."""
    query = """
        SELECT CAST(tables.name AS BLOB), CAST(columns.name AS BLOB), CAST(columns.type AS BLOB)
        FROM sqlite_schema AS tables JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'
    """
    return set(connection.execute(query).fetchall())


@cache
def _own_columns() -> set[tuple[bytes, bytes, bytes]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _columns(connection)


class Database:
    """The only connection to the file. It belongs to the thread that opened it, as sqlite3 enforces."""

    def __init__(self, path: Path) -> None:
        """Opens, checkpoints and checks the file. Raises CorruptFile, StoreFailed."""
        self.path = path
        self._failure: str | None = None
        self._full = False
        try:
            self.connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None)
        except sqlite3.Error as error:
            raise CorruptFile(path, f"cannot be opened ({error})") from error
        try:
            self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        with self.guarded():
            self.connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            application = self.connection.execute("PRAGMA application_id").fetchone()[0]
            version = self.connection.execute("PRAGMA user_version").fetchone()[0]
            if application != APPLICATION_ID:
                raise CorruptFile(self.path, "is not the database of a vector index")
            if version != FORMAT_VERSION:
                raise CorruptFile(self.path, f"has format {version}; this program reads format {FORMAT_VERSION}")
            if _columns(self.connection) != _own_columns():
                raise CorruptFile(self.path, "does not hold the state of an index (its tables are others)")
            self.connection.execute("PRAGMA journal_mode = WAL")  # a copy by copy_to is not in this mode yet
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("PRAGMA secure_delete = ON")
            self.connection.execute("PRAGMA temp_store = MEMORY")
            self.connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
            self._checkpoint()
            problem = self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise CorruptFile(self.path, f"is damaged ({problem})")

    def _checkpoint(self) -> None:
        """On a full volume there may be no room for it; the WAL is read as it is then, and nothing is written."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            self._full = isinstance(_translated(error, self.path), OutOfSpace)
            if not self._full:
                raise

    def erase(self) -> None:
        """Leaves no byte of a deleted row in the file and its WAL, and makes the names in the folder durable as they
        are. That the WAL is short is durable with the next transaction. Raises OutOfSpace, StoreFailed.

        ``secure_delete`` overwrites a row where it is deleted. But when a B-tree spreads rows over other pages, copies
        stay in the free part of the old ones, which no later delete finds: so the file is written anew."""
        with self.guarded():
            self.connection.execute("VACUUM")
            busy, *_ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreFailed(f"index {self.path.parent.name}: its log cannot be truncated, something still reads it")
        try:
            fsync_path(self.path.parent)
        except OSError as error:
            self._failure = f"index {self.path.parent.name}: its folder cannot be made durable ({error}); restart"
            raise StoreFailed(self._failure) from error

    def close(self) -> None:
        self.connection.close()

    def copy_to(self, path: Path) -> None:
        """Writes what is committed to a new file, compact, complete in itself and not yet durable.

        This file is only read, so that a failure to write the other one does not stop the store. SQLite syncs nothing
        meanwhile: of a folder that it could not sync it would tell nobody, and a later fsync would not make up for it.
        Raises CopyFailed, OutOfSpace, CorruptFile, StoreFailed."""
        if self._failure is not None:
            raise StoreFailed(self._failure)
        try:
            self.connection.execute("PRAGMA synchronous = OFF")
            try:
                self.connection.execute("VACUUM INTO ?", (str(path),))
            finally:
                self.connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            translated = _translated(error, self.path)
            if isinstance(translated, OutOfSpace | CorruptFile):
                raise translated from error
            raise CopyFailed(f"the database of index {self.path.parent.name} cannot be copied: {error}") from error

    @property
    def size(self) -> int:
        """Bytes of the file and of its WAL, which is there after the first write."""
        wal = self.path.with_name(f"{self.path.name}-wal")
        return self.path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

    @property
    def failed(self) -> bool:
        """Whether it is unknown what is on disk."""
        return self._failure is not None

    @property
    def read_only(self) -> str | None:
        """Why writes are refused at the moment, None if they are not."""
        if self._failure is not None:
            return self._failure
        if self._full:
            volume = os.statvfs(self.path)
            self._full = volume.f_bavail * volume.f_frsize < SPACE_TO_RECOVER
        return "the volume is full; writes work again once there is space" if self._full else None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction; an exception within it undoes it."""
        with self.guarded():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            self._full = False

    @contextmanager
    def guarded(self) -> Iterator[sqlite3.Connection]:
        """Reads, with SQLite's errors as ours."""
        if self._failure is not None:
            raise StoreFailed(self._failure)
        try:
            yield self.connection
        except UnicodeDecodeError as error:  # of a text, or of SQLite's own message about a damaged schema
            damage = CorruptFile(self.path, f"is damaged (a text in it is not UTF-8: {error.reason})")
            self._failure = str(damage)
            raise damage from error
        except sqlite3.Error as error:
            translated = _translated(error, self.path)
            self._full = isinstance(translated, OutOfSpace)
            if isinstance(translated, StoreFailed | CorruptFile):
                self._failure = str(translated)
            if translated is error:
                raise  # an error that is its own cause would keep its frames, and in them a cursor and the file's lock
            raise translated from error


def _translated(
    error: sqlite3.Error | UnicodeDecodeError, path: Path, index: str = ""
) -> EngineError | sqlite3.Error | UnicodeDecodeError:
    """What an error of SQLite means for the index, by default the one that its folder is named after; one that is a
    mistake of this program stays what it is. A message that cannot be decoded quotes a damaged schema."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    index = index or path.parent.name
    if code == sqlite3.SQLITE_FULL:
        return OutOfSpace(f"index {index}: no space left on its volume; nothing has changed")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(error, UnicodeDecodeError):
        return CorruptFile(path, f"is damaged ({error})")
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return StoreFailed(f"index {index}: {error} in {path.name}; it takes no more writes, restart to recover")
    return error
