"""The picture: recall against distance computations of the same items, before and after maintenance."""

from __future__ import annotations

from pathlib import Path

from bench.graphs import Curve

LABELS = {
    "tombstones": "30 % deleted, tombstones",
    "optimized": "then optimized",
    "rebuilt": "then rebuilt",
    "hnswlib": "the live items, hnswlib alone",
}
TICKS = (250, 500, 1_000, 2_000, 4_000)
STYLES = {
    "tombstones": ("#999999", "o", "-"),
    "optimized": ("#d95f02", "s", "-"),
    "rebuilt": ("#1b9e77", "^", "-"),
    "hnswlib": ("#7570b3", "x", "--"),
}


def draw(path: Path, curves: dict[str, dict[str, Curve]], what: str) -> None:
    """``curves`` by metric, then by kind of graph. The same curves give the same file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "vectorindex", "svg.fonttype": "none"})
    from matplotlib import pyplot

    size = 5.2 * len(curves), 3.8
    figure, axes = pyplot.subplots(1, len(curves), figsize=size, squeeze=False, layout="constrained")
    for place, (metric, kinds) in zip(axes[0], curves.items(), strict=True):
        for kind, curve in kinds.items():
            color, marker, line = STYLES[kind]
            place.plot(
                curve.computations, curve.recalls, color=color, marker=marker, linestyle=line, markersize=4,
                linewidth=1.2, label=LABELS[kind],
            )  # fmt: skip
        place.set(title=metric, xlabel="distance computations per query", xscale="log")
        place.set_xticks(TICKS, labels=[f"{tick:,}" for tick in TICKS])
        place.minorticks_off()
        place.grid(visible=True, alpha=0.25)
    axes[0][0].set_ylabel("recall@10")
    axes[0][0].legend(loc="lower right", fontsize="small")
    figure.suptitle(what, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
