"""The story, told inside the cluster: install, load, ask, delete, optimize, rebuild with a kill in the middle, compare.

Every claim is checked where it is shown; the first that does not hold ends the demo with an error.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from demo import data, kube, search
from demo.kube import kubectl, read
from demo.terminal import DemoError, command, console, good, heading, note, require
from devcluster.faults import container_id, container_processes

MANIFESTS = "examples/demo/manifests"
CHART = "charts/vectorindex-operator"
IMAGE = "vectorindex-operator"
SYSTEM = "vectorindex-system"
OPTIMIZE = "nouns-after-animals"
REBUILD = "nouns-larger"
LOSS = 0.02
"""What recall@10 may lose when the graph is repaired instead of built anew."""
KILL_BETWEEN = range(5, 91)
"""Percent of a pod's progress at which its sidecar is killed."""


@dataclass(frozen=True)
class Step:
    """A line of the table at the end. ``bytes``: of the index's files, over all pods."""

    name: str
    seconds: float
    items: int
    quality: search.Quality
    bytes: int


def main() -> int:
    try:
        tell()
    except DemoError as error:
        console.print(f"\n[bold red]The demo failed:[/] {error}", markup=True)
        for argv in (["get", "events"], ["logs", "--tail=40", "--selector=vectorindex.io/index=nouns", "--prefix"]):
            command(["kubectl", "--namespace", kube.NAMESPACE, *argv])
        command(["kubectl", "--namespace", SYSTEM, "logs", "--tail=40", "deployment/vectorindex-operator"])
        return 1
    return 0


def tell() -> None:
    nouns = data.load()
    everything = np.ones(len(nouns.ids), dtype=bool)
    no_animals = nouns.without("animal")

    heading("1. Install the operator with Helm")
    install()

    heading("2. A VectorIndex: three pods, one index")
    with clock() as took:
        create_index()
    note(f"(Ready after {took():.0f} s)")

    heading("3. Load 6,000 nouns into every pod")
    note("Each noun is embedded by its gloss (all-MiniLM-L6-v2, 384 dimensions), and written to the pods over HTTP.")
    with clock() as took:
        search.load_into_every_pod(list(kube.pods().values()), nouns)
    loading = took()
    service = kube.service_address()
    loaded = step("loaded", loading, service, nouns, everything)

    heading("4. Ask in plain English")
    show_answers(service, nouns, ["a poisonous snake", "clothing worn on the feet", "a sweet cake with chocolate"])

    heading("5. Delete the 1,500 animals, on every pod")
    with clock() as took:
        delete_animals(nouns)
    deleting = took()
    deleted = step("animals deleted", deleting, service, nouns, no_animals)
    check_animals_are_gone(service, nouns, no_animals)

    heading("6. The index says that it needs maintenance, and why")
    wait_for_figures(vectors=4_500, deleted=1_500)
    kubectl("get", "vi")
    needed = kube.condition(read("vi", "nouns"), "MaintenanceNeeded")
    note(f"MaintenanceNeeded: {needed.get('message', '')}")
    require(
        needed.get("status") == "True" and needed.get("reason") == "DeletedRatio",
        "maintenance is needed, because too many deleted items are still in the graph",
    )

    heading("7. Optimize: the graph is repaired where the animals were")
    with clock() as took:
        optimize()
    optimizing = took()
    wait_for_figures(vectors=4_500, deleted=0)
    kubectl("get", "vi")
    wait_until_maintained()
    optimized = step("optimized", optimizing, service, nouns, no_animals)

    heading("8. Rebuild with a larger graph, and kill a sidecar in the middle")
    with clock() as took:
        rebuild()
    rebuilding = took()
    wait_for_figures(vectors=4_500, deleted=0)
    kubectl("get", "vi")
    rebuilt = step("rebuilt", rebuilding, service, nouns, no_animals)
    show_answers(service, nouns, ["a poisonous snake"])

    heading("9. What came out")
    show_table([loaded, deleted, optimized, rebuilt])


def install() -> None:
    for namespace in (SYSTEM, kube.NAMESPACE):
        command(["kubectl", "create", "namespace", namespace])
        restricted = "pod-security.kubernetes.io/enforce=restricted"
        command(["kubectl", "label", "namespace", namespace, restricted])
    image = ["--set", f"image.repository={IMAGE}", "--set", "image.tag=dev"]
    command(
        ["helm", "install", "vectorindex-operator", CHART, "--namespace", SYSTEM, "--wait", "--timeout", "90s", *image]
    )


def create_index() -> None:
    console.print(Path(f"{MANIFESTS}/vectorindex.yaml").read_text(), style="dim", markup=False)
    kubectl("apply", "--filename", f"{MANIFESTS}/vectorindex.yaml")
    kubectl("wait", "--for=condition=Ready", "vi/nouns", "--timeout=180s")
    kubectl("get", "vi,pods")


def show_answers(service: str, nouns: data.Nouns, questions: list[str]) -> None:
    row = {name: position for position, name in enumerate(nouns.ids)}
    vectors = np.stack([nouns.question_vectors[nouns.questions.index(each)] for each in questions])
    for question, answer in zip(questions, search.ask(service, vectors, k=3), strict=True):
        console.print(f"\n[bold]“{question}”[/]")
        for name in answer:
            category, words = nouns.categories[row[name]], nouns.words[row[name]]
            console.print(f"  [yellow]{words}[/] [dim]({category})[/]: {nouns.glosses[row[name]]}", soft_wrap=True)


def delete_animals(nouns: data.Nouns) -> None:
    animals = nouns.rows_of("animal")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.txt"
        path.write_text("".join(f"{nouns.ids[row]}\n" for row in animals))
        kubectl("create", "configmap", "animals", f"--from-file={path}")
    console.print(Path(f"{MANIFESTS}/delete-animals.yaml").read_text(), style="dim", markup=False)
    kubectl("apply", "--filename", f"{MANIFESTS}/delete-animals.yaml")
    kubectl("wait", "--for=condition=Succeeded", "videl/animals", "--timeout=60s")
    kubectl("get", "videl")
    status = read("videl", "animals")["status"]
    each = [pod.get("deletedCount") for pod in status["pods"]]
    require(
        status["deletedCount"] == len(animals) and status["notFoundCount"] == 0 and each == [len(animals)] * 3,
        f"{len(animals):,} distinct items were deleted, on each of 3 pods, and none was missing",
    )


def check_animals_are_gone(service: str, nouns: data.Nouns, live: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    show_answers(service, nouns, ["a poisonous snake"])
    animals = {nouns.ids[row] for row in nouns.rows_of("animal")}
    for address in kube.pods().values():
        found = {name for answer in search.ask(address, nouns.question_vectors, k=50) for name in answer}
        if found & animals:
            raise DemoError(f"the pod {address} still finds deleted animals: {sorted(found & animals)[:5]}")
    good("no answer to any question holds an animal, on any pod")
    rest = [name for name, kept in zip(nouns.ids, live, strict=True) if kept]
    own = search.ask(service, nouns.vectors[live], k=5)
    lost = [name for name, answer in zip(rest, own, strict=True) if name not in answer]
    require(not lost, f"nothing else is gone: each of the other {len(rest):,} nouns is found by its own vector")


def optimize() -> None:
    console.print(Path(f"{MANIFESTS}/optimize.yaml").read_text(), style="dim", markup=False)
    kubectl("apply", "--filename", f"{MANIFESTS}/optimize.yaml")
    kubectl("wait", "--for=condition=Succeeded", f"viopt/{OPTIMIZE}", "--timeout=120s")
    kubectl("get", "viopt")
    status = read("viopt", OPTIMIZE)["status"]
    require(
        all(pod["state"] == "Succeeded" and pod["linksRepaired"] > 0 for pod in status["pods"])
        and status["unreachableAfter"] == 0,
        f"{status['linksRepaired']:,} links were put across the gaps, and every noun can be reached; it took at most "
        f"{status['durationSeconds']} s on a pod",
    )
    require(
        status["computationsAfter"] < status["computationsBefore"]
        and float(status["recallAfter"]) > float(status["recallBefore"]) - LOSS,
        f"a query computes {status['computationsAfter']:,} distances instead of {status['computationsBefore']:,}; "
        f"recall@10 {status['recallBefore']} before, {status['recallAfter']} after",
    )


def wait_until_maintained() -> None:
    kubectl("wait", "--for=condition=MaintenanceNeeded=false", "vi/nouns", "--timeout=60s")
    good("no maintenance is needed any more")


def rebuild() -> None:
    console.print(Path(f"{MANIFESTS}/rebuild.yaml").read_text(), style="dim", markup=False)
    kubectl("apply", "--filename", f"{MANIFESTS}/rebuild.yaml")
    victim = watch_rebuild()
    kubectl("wait", "--for=condition=Succeeded", f"vireb/{REBUILD}", "--timeout=10s")
    kubectl("get", "vireb")
    status = read("vireb", REBUILD)["status"]
    pods = {pod["name"]: pod for pod in status["pods"]}
    require(
        victim is not None and pods[victim].get("restarts", 0) >= 1,
        f"the sidecar of {victim} was killed in the middle, took the rebuild up again by itself, and finished it",
    )
    parameters = status["parameters"]
    require(
        all(pod["state"] == "Succeeded" for pod in pods.values())
        and (parameters["m"], parameters["efConstruction"]) == (32, 400),
        f"every pod has the new graph: M {parameters['m']}, efConstruction {parameters['efConstruction']}; "
        f"recall@10 {status['recallBefore']} before, {status['recallAfter']} after",
    )


def watch_rebuild() -> str | None:
    """Show the progress until the run has ended; kill one sidecar on the way. Returns its pod's name."""
    victim = None
    shown = ""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        status = read("vireb", REBUILD)["status"]
        pods = status.get("pods", [])
        line = ", ".join(f"{pod['name']} {pod['state']} {pod.get('progressPercent', 0)} %" for pod in pods)
        if line != shown:
            console.print(f"  {status.get('progressPercent', 0):>3} %  {line}")
            shown = line
        if status.get("completionTime"):
            return victim
        if victim is None and (found := pod_at_work(pods)):
            victim, percent = found
            kill_sidecar(victim, percent)
        time.sleep(0.1)
    raise DemoError("the rebuild did not end within 5 minutes")


def pod_at_work(pods: list[dict[str, Any]]) -> tuple[str, int] | None:
    """The pod that is in the middle of its rebuild, as the status says, and how far it is."""
    for pod in pods:
        if pod["state"] == "Running" and pod.get("progressPercent", 0) in KILL_BETWEEN:
            return pod["name"], int(pod["progressPercent"])
    return None


def kill_sidecar(pod: str, percent: int) -> None:
    front = container_processes(container_id(read("pod", pod), "sidecar"))[0]
    console.print(f"[bold green]$[/] [bold]kill -KILL {front.pid}[/]   [red]# the sidecar of {pod}, at {percent} %[/]")
    os.kill(front.pid, signal.SIGKILL)


def wait_for_figures(vectors: int, deleted: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        status = read("vi", "nouns")["status"]
        ready = kube.condition({"status": status}, "Ready").get("status") == "True"
        if ready and (status.get("vectors"), status.get("deletedVectors")) == (vectors, deleted):
            return
        time.sleep(0.5)
    raise DemoError(f"the VectorIndex does not report {vectors} items and {deleted} deleted, but {status}")


def step(name: str, seconds: float, service: str, nouns: data.Nouns, live: np.ndarray[Any, np.dtype[np.bool_]]) -> Step:
    states = [search.status(address) for address in kube.pods().values()]
    if any(state["counts"]["live"] != live.sum() for state in states):
        raise DemoError(f"every pod should hold {live.sum()} items, but they say {[each['counts'] for each in states]}")
    size = sum(int(state["bytes"]) for state in states)
    return Step(name, seconds, int(live.sum()), search.measure(service, nouns, live), size)


def show_table(steps: list[Step]) -> None:
    table = Table("step", "seconds", "items", "recall@10", "ms/query", "MB")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in steps:
        quality = each.quality
        table.add_row(
            each.name, f"{each.seconds:.1f}", f"{each.items:,}", f"{quality.recall:.4f}",
            f"{quality.milliseconds:.2f}", f"{each.bytes / 1e6:.1f}",
        )  # fmt: skip
    console.print(table)
    note("recall@10: 24 questions against exact search; ms/query: median over HTTP through the Service; MB: all pods.")


@contextmanager
def clock() -> Iterator[Any]:
    started = time.monotonic()
    ended: list[float] = []
    try:
        yield lambda: (ended[0] if ended else time.monotonic()) - started
    finally:
        ended.append(time.monotonic())


if __name__ == "__main__":
    sys.exit(main())
