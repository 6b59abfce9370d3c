"""What an IndexRebuild and an IndexOptimize ask of a pod, and what is said of them: all in which the two differ."""

from __future__ import annotations

from dataclasses import dataclass

from vectorindex.api import IndexRebuild, VectorIndex
from vectorindex.api.common import Parameters
from vectorindex.api.reasons import Reason
from vectorindex.domain.run import BuildRun, End
from vectorindex.wire.identity import GraphParameters
from vectorindex.wire.operations import (
    BuildBody,
    ObjectReference,
    OptimizeBody,
    OptimizeRequest,
    RebuildBody,
    RebuildRequest,
    Verification,
)


@dataclass(frozen=True)
class Wording:
    """The run's verb, in the present and the past."""

    doing: str
    done: str


def wording(run: BuildRun) -> Wording:
    return Wording("rebuilding", "rebuilt") if isinstance(run, IndexRebuild) else Wording("optimizing", "optimized")


def contradiction(run: BuildRun, index: VectorIndex) -> End | None:
    """The end of a run that asks for another value than the index fixes. An optimize asks for none."""
    if not isinstance(run, IndexRebuild):
        return None
    asked, fixed = run.spec.params or Parameters(), index.spec.hnsw or Parameters()
    for field, name in (("m", "m"), ("ef_construction", "efConstruction"), ("ef_search", "efSearch"), ("seed", "seed")):
        wanted, set_value = getattr(asked, field), getattr(fixed, field)
        if None not in (wanted, set_value) and wanted != set_value:
            return End(
                Reason.INVALID_REQUEST,
                f"params.{name} is {wanted}, but VectorIndex {index.metadata.name} sets {set_value}: "
                f"change VectorIndex.spec.hnsw.{name}, or leave params.{name} unset, and create a new IndexRebuild",
            )
    return None


def pinned(run: BuildRun, index: VectorIndex) -> dict[str, object]:
    """The fields of the status that hold what the run takes from its index: every pod is asked for the same, and again
    when a start is repeated, though the index may be changed meanwhile. Not efSearch: that is configured at once, and
    a graph that was built with an older one would put it back."""
    if not isinstance(run, IndexRebuild) or index.spec.hnsw is None:
        return {}
    return {"index_parameters": index.spec.hnsw.model_copy(update={"ef_search": None})}


def build_body(run: BuildRun) -> BuildBody:
    """The operation on each pod, of a run that has begun."""
    reference = ObjectReference(name=run.metadata.name, uid=run.metadata.uid)
    asked = run.spec.verify
    verify = Verification(samples=asked.samples, k=asked.k, min_recall_percent=asked.min_recall_percent)
    if isinstance(run, IndexRebuild):
        request = RebuildRequest(
            params=_graph_parameters(run.spec.params),
            index_params=_graph_parameters(run.status.index_parameters),
            verify=verify,
        )
        return RebuildBody(object=reference, operation_id=run.spec.operation_id, request=request)
    return OptimizeBody(object=reference, operation_id=run.spec.operation_id, request=OptimizeRequest(verify=verify))


def _graph_parameters(wanted: Parameters | None) -> GraphParameters:
    wanted = wanted or Parameters()
    return GraphParameters(
        m=wanted.m, ef_construction=wanted.ef_construction, ef_search=wanted.ef_search, rng_seed=wanted.seed
    )
