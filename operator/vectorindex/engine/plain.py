"""Plain hnswlib files: an index from one, and an index as some.

Outside, the labels of a file are line numbers: line i of its ID list, counted from 0, is the ID of label i. An item
that is marked as deleted needs no line; what stands there is not read, and an export leaves it empty.

Inside, an imported file is the main segment of a new index, with labels from 0 in the order of those it had. Its
deleted items are tombstones, which the next rebuild drops; their IDs are not kept. It is parsed and checked before
anything else reads it, and the files given are only read. What hnswlib does not store is lost either way: under
cosine the lengths of the vectors (they are 1 after an import), the seed, ef_search.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vectorindex.engine import items, manifest
from vectorindex.engine.build import build
from vectorindex.engine.catalog import new_index
from vectorindex.engine.database import Database, create_database
from vectorindex.engine.digest import fingerprints
from vectorindex.engine.errors import CorruptFile, InvalidInput
from vectorindex.engine.files import fsync_whole, stamp
from vectorindex.engine.folders import whole_folder
from vectorindex.engine.hnsw_file import COUNT_MASK, DELETED_BIT, HEADER, HnswFile, chunks, element_layout
from vectorindex.engine.ids_file import IdsFile, write_ids
from vectorindex.engine.params import (
    MAX_NORM,
    IndexSpec,
    Metric,
    Parameters,
    validate_external_ids,
    vector_norms,
)
from vectorindex.engine.segments import Role, Segment, hnsw_path, ids_path
from vectorindex.engine.store import DATABASE_NAME, IndexStatus, Store
from vectorindex.engine.structure import StructureReport, check_structure

DESCRIPTION_NAME = "index.json"
FORMAT = "vectorindex-export"
VERSION = 1
UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a vector may be that hnswlib has normalised."""
NO_ID = b"-"
"""Stands in ``.ids`` for the ID of a deleted item, which is never asked for."""

_GENERATION, _LSN = 1, 1  # of the one segment of a new index, and of the write that named it

Report = Callable[[str], None]


@dataclass(frozen=True)
class Imported:
    """``spec`` of the new index; ``live`` items and ``deleted`` ones; ``unreachable`` by any search; lines of the list
    that are of no item."""

    spec: IndexSpec
    live: int
    deleted: int
    unreachable: int
    unused_lines: int


@dataclass(frozen=True)
class Exported:
    """``graphs``: names of the files; ``live`` items in them and ``deleted`` ones, which are marked."""

    graphs: tuple[str, ...]
    live: int
    deleted: int


def import_hnsw(
    data_dir: Path, name: str, hnsw: Path, ids: Path, dimensions: int, metric: Metric, report: Report
) -> Imported:
    """Makes an index of a plain hnswlib file and its list of IDs (UTF-8). ``report`` is told each step as it begins.

    Raises InvalidInput (the message names the line or label), CorruptFile (hnswlib could not be trusted with the
    file), IndexExists, OutOfSpace, OSError; the volume is as it was then."""
    with new_index(data_dir, name) as folder:
        report(f"copying {hnsw.name}")
        path = hnsw_path(folder, _GENERATION)
        shutil.copyfile(hnsw, path)
        try:
            report("verifying its graph")
            given = HnswFile.open(path, dimensions, metric)
            spec = IndexSpec(name, dimensions, metric, Parameters(given.m, given.ef_construction))
            order = np.argsort(given.labels)
            external_ids, unused = _ids_in_order(given, order, ids)
            norms = _norms_in_order(given, order, metric)
            dead = np.flatnonzero(given.deleted[order])
            ranks = np.empty(given.count, np.uint64)
            ranks[order] = np.arange(given.count)
            _rewrite(given, path, ranks, np.zeros(given.count, np.bool_))
            structure = check_structure(HnswFile.open(path, dimensions, metric))
        except CorruptFile as error:
            raise CorruptFile(hnsw, error.why) from error
        report("writing the index")
        write_ids(ids_path(folder, _GENERATION), np.arange(given.count, dtype=np.uint64), external_ids, norms)
        create_database(folder / DATABASE_NAME, spec)
        fsync_whole(folder)  # SQLite may fail to sync and tell nobody: what is there must not depend on it
        live = _items_in_order(given, order, external_ids)
        _name(folder, spec, structure, live, dead)
        with closing(Store.open(folder)):  # everything is verified once more, as at a start
            pass
    return Imported(spec, len(live.labels), len(dead), structure.unreachable, unused)


def export_hnsw(store: Store, folder: Path, report: Report) -> Exported:
    """Writes the graphs of an index as plain hnswlib files with their IDs into a new ``folder``; items that are in no
    graph yet get one first. Raises InvalidInput (the index is empty), TargetExists, OutOfSpace, OSError."""
    while (job := store.builds.plan_flush()) is not None:
        report(f"putting {len(job.view.live_tail):,} new items into a graph")
        store.builds.commit(job, build(job, lambda _phase, _fraction: None))
    view, status = store.view_spec(), store.status()
    if not view.segments:
        raise InvalidInput(f"index {status.spec.name} holds no items, so that there is nothing to export")
    graphs: dict[str, dict[str, object]] = {}
    live = deleted = deltas = 0
    with whole_folder(folder) as draft:
        for segment in view.segments:
            deltas += segment.role is Role.DELTA
            name = "main" if segment.role is Role.MAIN else f"delta-{deltas}"
            path = draft / f"{name}.hnsw"
            report(f"writing {path.name}")
            shutil.copyfile(segment.hnsw_path(view.folder), path)
            graph, known = (
                HnswFile.open(path, view.dimensions, view.metric),
                IdsFile.open(segment.ids_path(view.folder)),
            )
            dead = np.isin(known.labels, view.dead)
            ranks = np.searchsorted(known.labels, graph.labels)
            _rewrite(graph, path, ranks.astype(np.uint64), dead[ranks])
            lines = [b"" if dead[row] else known.raw_id(row) for row in range(segment.count)]
            (draft / f"{name}.ids.txt").write_bytes(b"".join(line + b"\n" for line in lines))
            count = int(dead.sum())
            graphs[path.name] = {
                "ids": f"{name}.ids.txt", "live": segment.count - count, "deleted": count,
                "M": segment.parameters.m, "ef_construction": segment.parameters.ef_construction,
            }  # fmt: skip
            live += segment.count - count
            deleted += count
        description = {
            "format": FORMAT, "version": VERSION, "index": status.spec.name, "dimensions": view.dimensions,
            "metric": view.metric.value, "space": _SPACES[view.metric], "ef_search": status.parameters.ef_search,
            "sequence": status.sequence, "graphs": graphs,
        }  # fmt: skip
        (draft / DESCRIPTION_NAME).write_text(json.dumps(description, indent=2) + "\n")
        (draft / "README.md").write_text(_readme(status, next(iter(graphs))))
    return Exported(tuple(graphs), live, deleted)


_SPACES = {Metric.COSINE: "cosine", Metric.L2: "l2", Metric.INNER_PRODUCT: "ip"}


def _readme(status: IndexStatus, graph: str) -> str:
    name = graph.removesuffix(".hnsw")
    return f"""\
# Index {status.spec.name}

Plain hnswlib files. Line i of a list of IDs, counted from 0, is the ID of label i; a deleted item is marked in the
graph and has an empty line. `{DESCRIPTION_NAME}` has the parameters.

```python
import hnswlib, pathlib
index = hnswlib.Index(space="{_SPACES[status.spec.metric]}", dim={status.spec.dimensions})
index.load_index("{graph}")
ids = pathlib.Path("{name}.ids.txt").read_text("utf-8").split("\\n")
```

Then `[ids[label] for label in index.knn_query(vector, k=10)[0][0]]` are the nearest. Where there are several graphs,
search each of them and keep the nearest of all.
"""


def _name(
    folder: Path, spec: IndexSpec, structure: StructureReport, live: items.NewItems, dead: NDArray[np.int64]
) -> None:
    """The first commit of the index: its segment, its items, its tombstones."""
    segment = Segment(
        generation=_GENERATION,
        role=Role.MAIN,
        count=structure.count,
        min_label=0,
        max_label=structure.count - 1,
        first_lsn=_LSN,
        last_lsn=_LSN,
        parameters=spec.parameters,
        unreachable=structure.unreachable,
        hnsw=stamp(hnsw_path(folder, _GENERATION)),
        ids=stamp(ids_path(folder, _GENERATION)),
    )
    with closing(Database(folder / DATABASE_NAME)) as database, database.transaction() as connection:
        reserved = manifest.reserve(connection, 1, structure.count)
        assert reserved == ((_GENERATION,), 0)
        items.fill(connection, live, dead.tolist(), _LSN)
        manifest.add_segment(connection, segment)
        manifest.write_sequence(connection, _LSN, live.digest)


def _ids_in_order(graph: HnswFile, order: NDArray[np.int64], path: Path) -> tuple[list[bytes], int]:
    """The ID of each label of ``graph.labels[order]``, and how many lines are of no item. Raises InvalidInput."""
    lines = _read_lines(path)
    labels, deleted = graph.labels[order], graph.deleted[order]
    wanted = labels[~deleted]
    if len(wanted) and wanted[-1] >= len(lines):
        raise InvalidInput(
            f"{path.name} has {len(lines):,} lines, so that label {wanted[-1]} has none: line i, counted from 0, is"
            " the ID of label i"
        )
    needed = set(wanted.tolist())
    try:
        validate_external_ids([line if number in needed else "unused" for number, line in enumerate(lines)])
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}, lines counted from 0: {error}") from None
    uses = Counter(lines[label] for label in needed)
    if len(uses) < len(needed):
        twice = [label for label in sorted(needed) if uses[lines[label]] > 1]
        raise InvalidInput(
            f"{path.name}: {len(twice):,} items share their ID with another one; such are the labels"
            f" {', '.join(map(str, twice[:5]))}"
        )
    external_ids = [
        NO_ID if dead else lines[label].encode()
        for label, dead in zip(labels.tolist(), deleted.tolist(), strict=True)
    ]  # fmt: skip
    return external_ids, len(lines) - int((labels < len(lines)).sum())


def _items_in_order(graph: HnswFile, order: NDArray[np.int64], external_ids: Sequence[bytes]) -> items.NewItems:
    """Those that are not deleted, with their new labels, which are their places in ``order``; ``external_ids`` (n) of
    all of them. What the file holds of a vector is what was received."""
    labels = np.flatnonzero(~graph.deleted[order])
    hashes = np.empty(len(labels), np.int64)
    for part in chunks(len(labels)):
        chosen = labels[part]
        hashes[part] = fingerprints((external_ids[label] for label in chosen.tolist()), graph.vectors[order[chosen]])
    names = [external_ids[label].decode() for label in labels.tolist()]
    return items.NewItems(names, labels.astype(np.uint64), hashes)


def _read_lines(path: Path) -> list[str]:
    """Lines end with a newline, as of Windows too; the last one need not. Raises InvalidInput, OSError."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = bytes(error.object[: error.start]).count(b"\n")
        raise InvalidInput(f"{path.name}: line {number}, counted from 0, is not UTF-8") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def _norms_in_order(graph: HnswFile, order: NDArray[np.int64], metric: Metric) -> NDArray[np.float32]:
    """The lengths of the vectors as received, as far as they are known. Raises InvalidInput on a vector that could not
    have been received, and names its label."""
    norms = np.empty(graph.count, np.float64)
    for part in chunks(graph.count):
        norms[part] = vector_norms(graph.vectors[part])
    _refuse(graph, norms > MAX_NORM, norms, "distances to it exceed float32")
    if metric is Metric.COSINE:
        strange = ~graph.deleted & (np.abs(norms - 1) > UNIT_TOLERANCE)
        _refuse(graph, strange, norms, "under cosine hnswlib stores length 1; was the index of another space?")
        norms = np.ones(graph.count)
    return norms[order].astype(np.float32)


def _refuse(graph: HnswFile, bad: NDArray[np.bool_], norms: NDArray[np.float64], why: str) -> None:
    if bad.any():
        first = int(bad.argmax())
        raise InvalidInput(f"the vector of label {graph.labels[first]} has length {norms[first]:.4g}: {why}")


def _rewrite(graph: HnswFile, path: Path, labels: NDArray[np.uint64], deleted: NDArray[np.bool_]) -> None:
    """Gives the elements (n,) of a graph other labels and marks, in its file at ``path``, a copy that is ours."""
    layout = element_layout(graph.m, graph.vectors.shape[1])
    elements = np.memmap(path, layout, "r+", HEADER.size, (graph.count,))
    elements["label"] = labels
    elements["head"] = (elements["head"] & COUNT_MASK) | (deleted * np.uint32(DELETED_BIT))
    elements.flush()
