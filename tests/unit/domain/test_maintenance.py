"""When an index needs a rebuild: figures and limits in, reason and message out."""

from __future__ import annotations

import pytest

from vectorindex.api.common import Parameters, ParametersInForce
from vectorindex.api.vectorindex import Estimate, Maintenance, PodStatus
from vectorindex.domain.maintenance import Figures, maintenance_needed


def pod(live: int, deleted: int = 0, delta: int = 0, m: int = 16, name: str = "vi-0") -> PodStatus:
    in_force = ParametersInForce(m=m, ef_construction=200, ef_search=64, seed=0)
    return PodStatus(
        name=name, ready=True, vectors=live, deleted_vectors=deleted, delta_vectors=delta, parameters=in_force
    )


def estimated(optimize: int, rebuild: int, rebuild_memory: int) -> PodStatus:
    """A pod of which a quarter is deleted, with estimates in seconds and MB."""

    def estimate(seconds: int, memory: int) -> Estimate:
        return Estimate(seconds=seconds, memory_bytes=memory * 1_000_000, disk_bytes=0, measured=True)

    estimates = {"optimize_estimate": estimate(optimize, 30), "rebuild_estimate": estimate(rebuild, rebuild_memory)}
    return pod(4_500, 1_500).model_copy(update=estimates)


@pytest.mark.parametrize(
    ("pods", "limits", "wanted", "standing", "reason"),
    [
        pytest.param([pod(10_000)], {}, {}, None, None, id="nothing deleted"),
        pytest.param([pod(0)], {"min_items": 0}, {}, None, None, id="an empty index"),
        pytest.param([pod(4_500, 1_500)], {}, {}, None, "DeletedRatio", id="25 % deleted"),
        pytest.param([pod(4_000, 1_000)], {}, {}, None, "DeletedRatio", id="the limit itself"),
        pytest.param([pod(4_004, 1_000)], {}, {}, None, None, id="just below the limit"),
        pytest.param([pod(10, 999)], {}, {}, None, None, id="too few items to matter"),
        pytest.param([pod(10, 5)], {"min_items": 5}, {}, None, "DeletedRatio", id="a lower minimum"),
        pytest.param([pod(6_000), pod(4_500, 1_500)], {}, {}, None, "DeletedRatio", id="one pod is enough"),
        pytest.param([pod(5_600, 1_000)], {}, {}, "DeletedRatio", "DeletedRatio", id="stands above three quarters"),
        pytest.param([pod(5_667, 1_000)], {}, {}, "DeletedRatio", None, id="cleared below three quarters"),
        pytest.param([pod(5_600, 1_000)], {}, {}, "DeltaRatio", None, id="another reason's standing does not count"),
        pytest.param([pod(10_000, 0, 1_000)], {}, {}, None, "DeltaRatio", id="10 % in the delta"),
        pytest.param([pod(10_000, 0, 999)], {"min_items": 1}, {}, None, None, id="below 10 % in the delta"),
        pytest.param([pod(4_000, 2_000, 2_000)], {}, {}, None, "DeletedRatio", id="deleted comes before delta"),
        pytest.param([pod(10)], {}, {"m": 32}, None, "ParametersChanged", id="another m"),
        pytest.param([pod(10)], {}, {"ef_construction": 400}, None, "ParametersChanged", id="another efConstruction"),
        pytest.param([pod(10)], {}, {"ef_search": 400, "seed": 7}, None, None, id="efSearch needs no rebuild"),
        pytest.param([pod(10)], {}, {"m": 16}, None, None, id="the same m"),
    ],
)
def test_reasons(
    pods: list[PodStatus], limits: dict[str, int], wanted: dict[str, int], standing: str | None, reason: str | None
) -> None:
    verdict = maintenance_needed(Figures(pods, Maintenance(**limits), Parameters(**wanted), standing))
    assert (verdict.reason.value if verdict else None) == reason


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        pytest.param(
            Figures([pod(4_500, 1_500)], Maintenance(), Parameters()),
            "25.0 % of the stored items are deleted (1,500 of 6,000), the limit is 20 %; create an IndexOptimize, or "
            "an IndexRebuild",
            id="deleted",
        ),
        pytest.param(
            Figures([estimated(1, 9, 38), estimated(2, 8, 40)], Maintenance(), Parameters()),
            "25.0 % of the stored items are deleted (1,500 of 6,000), the limit is 20 %; create an IndexOptimize "
            "(about 2 s and 30 MB of memory on each pod), or an IndexRebuild (about 9 s and 40 MB of memory on each "
            "pod)",
            id="what the runs would take, where it is most",
        ),
        pytest.param(
            Figures([pod(10_000, 0, 2_000)], Maintenance(), Parameters()),
            "20.0 % of the items lie outside the main graph (2,000 of 10,000), the limit is 10 %; create an "
            "IndexRebuild",
            id="delta",
        ),
        pytest.param(
            Figures([pod(10, m=8, name="vi-2")], Maintenance(), Parameters(m=32)),
            "spec.hnsw.m is 32, the graph of vi-2 was built with 8; create an IndexRebuild",
            id="parameters",
        ),
    ],
)
def test_messages_give_the_figures_and_what_to_do(figures: Figures, message: str) -> None:
    verdict = maintenance_needed(figures)
    assert verdict is not None
    assert verdict.message == message
