"""The ``state`` row and the ``segments`` table: what an index is, and which files it consists of."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from vectorindex.engine.digest import as_text
from vectorindex.engine.erasure import Seal
from vectorindex.engine.params import IndexSpec, Metric, Parameters
from vectorindex.engine.segments import FileStamp, Role, Segment


@dataclass(frozen=True)
class State:
    """``parameters`` are those in force; ``sequence`` is the LSN of the last write, and ``digest`` that of the live
    items as of it; ``seal`` is that of the last rebuild or optimize, None when there was none."""

    spec: IndexSpec
    configuration: dict[str, Any]
    sequence: int
    digest: int
    seal: Seal | None

    @property
    def parameters(self) -> Parameters:
        return self.spec.parameters


def read_state(connection: sqlite3.Connection) -> State:
    (name, dimensions, metric, delta_ratio, m, ef_construction, ef_search, seed, configuration, sequence,
     digest, sealed, sealed_lsn, sealed_generation, erased) = connection.execute(
        "SELECT name, dimensions, metric, delta_ratio, m, ef_construction, ef_search, seed, configuration, sequence,"
        " digest, sealed, sealed_lsn, sealed_generation, erased FROM state"
    ).fetchone()  # fmt: skip
    parameters = Parameters(m, ef_construction, ef_search, seed)
    spec = IndexSpec(name, dimensions, Metric(metric), parameters, delta_ratio)
    seal = None if sealed is None else Seal(float(sealed), int(sealed_lsn), int(sealed_generation), bool(erased))
    return State(spec, json.loads(configuration), sequence, int(digest, 16), seal)


def write_name(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("UPDATE state SET name = ?", (name,))


def write_configuration(connection: sqlite3.Connection, configuration: dict[str, Any]) -> None:
    connection.execute("UPDATE state SET configuration = ?", (json.dumps(configuration),))


def write_parameters(connection: sqlite3.Connection, parameters: Parameters) -> None:
    connection.execute(
        "UPDATE state SET m = ?, ef_construction = ?, ef_search = ?, seed = ?",
        (parameters.m, parameters.ef_construction, parameters.ef_search, parameters.seed),
    )


def write_sequence(connection: sqlite3.Connection, lsn: int, digest: int) -> None:
    """The last write, and the digest of the live items after it."""
    connection.execute("UPDATE state SET sequence = ?, digest = ?", (lsn, as_text(digest)))


def write_seal(connection: sqlite3.Connection, seal: Seal) -> None:
    connection.execute(
        "UPDATE state SET sealed = ?, sealed_lsn = ?, sealed_generation = ?, erased = ?",
        (seal.time, seal.lsn, seal.generation, seal.erased),
    )


def reserve(connection: sqlite3.Connection, generations: int, labels: int) -> tuple[tuple[int, ...], int]:
    """Takes the next generations and labels, for ever: the generations and the first of the labels."""
    generation, label = connection.execute("SELECT next_generation, next_label FROM state").fetchone()
    connection.execute(
        "UPDATE state SET next_generation = next_generation + ?, next_label = next_label + ?", (generations, labels)
    )
    return tuple(range(generation, generation + generations)), label


def next_label(connection: sqlite3.Connection) -> int:
    """The first label that no item of this index has had."""
    return int(connection.execute("SELECT next_label FROM state").fetchone()[0])


def next_generation(connection: sqlite3.Connection) -> int:
    """The first generation that no build of this index has had."""
    return int(connection.execute("SELECT next_generation FROM state").fetchone()[0])


def read_segments(connection: sqlite3.Connection) -> tuple[Segment, ...]:
    """By ascending labels."""
    rows = connection.execute(
        "SELECT generation, role, count, min_label, max_label, first_lsn, last_lsn,"
        " m, ef_construction, ef_search, seed, unreachable, hnsw_size, hnsw_sha256, ids_size, ids_sha256"
        " FROM segments ORDER BY min_label"
    ).fetchall()  # so that no statement is left open by a row that is none of ours
    return tuple(
        Segment(generation, Role(role), count, min_label, max_label, first_lsn, last_lsn,
                Parameters(m, ef_construction, ef_search, seed), unreachable,
                FileStamp(hnsw_size, hnsw_sha256), FileStamp(ids_size, ids_sha256))
        for (generation, role, count, min_label, max_label, first_lsn, last_lsn, m, ef_construction, ef_search, seed,
             unreachable, hnsw_size, hnsw_sha256, ids_size, ids_sha256) in rows
    )  # fmt: skip


def add_segment(connection: sqlite3.Connection, segment: Segment) -> None:
    parameters = segment.parameters
    connection.execute(
        f"INSERT INTO segments VALUES ({', '.join('?' * 16)})",  # noqa: S608 - question marks alone
        (segment.generation, segment.role.value, segment.count, segment.min_label, segment.max_label,
         segment.first_lsn, segment.last_lsn, parameters.m, parameters.ef_construction, parameters.ef_search,
         parameters.seed, segment.unreachable, segment.hnsw.size, segment.hnsw.sha256, segment.ids.size,
         segment.ids.sha256),
    )  # fmt: skip


def drop_segment(connection: sqlite3.Connection, segment: Segment) -> None:
    connection.execute("DELETE FROM segments WHERE generation = ?", (segment.generation,))
