"""Large Runs and many Runs: pods, time and bytes against bare pods and small Runs; what a dead operator costs.

python3 bench/scale.py [--only PART,…] [--tasks N] [--runs N] [--seconds S] [--quick]      needs a running system (`make up`)

Parts with pods that nobody needs to run have them on fake nodes (kwok), for which they take the embedded cluster; the others are
real. What was measured of a part replaces at once what bench/scale_results.json has of it, so that nothing is lost with what is
interrupted; --table shows that, and measures nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from floor import Place, Round
from machine import read_facts
from run import Places, make_places, say, warm_up
from scale_etcd import Etcd, at_rest
from scale_many import (
    another_namespace,
    measure_burst,
    measure_fair_namespaces,
    measure_fair_pods,
    measure_fair_tasks,
    measure_stream,
    measure_warm_burst,
)
from scale_pods import measure_pods
from scale_recovery import measure_kill, measure_memory, measure_standby
from scale_report import FAKE, GROUPS, Sizes, build_part, missed, read_parts, table
from scale_work import measure_shape
from seen import BenchError

from cluster import Cluster, object_store
from maze_cluster.errors import ClusterError
from maze_cluster.kwok import DEFAULT_LIMITS, fake_nodes, scheduler_limits
from maze_cluster.layout import Layout, build_layout, find_checkout
from maze_io.kube import KubeError
from maze_io.store import ObjectStore, StoreError
from own_api import own_namespace

RESULTS = Path(__file__).with_name("scale_results.json")
QUICK = Sizes(tasks=300, pods=100, chain=100, runs=20, warm_runs=5, seconds=10, nodes=5)
Json = dict[str, Any]
Keep = Callable[[str, Json], None]
"""Takes a part and what build_part made of it."""


@dataclass(frozen=True)
class Bench:
    """Everything that a part needs. `cold`: without spare pods. `warm`: with them, and with the cluster's own api."""

    cold: Place
    warm: Place
    layout: Layout
    sizes: Sizes
    rest: Etcd


async def pods(bench: Bench, name: str) -> Round:
    return await measure_pods(bench.cold, bench.layout, bench.sizes.pods, bench.rest, name)


async def pods_default(bench: Bench, name: str) -> Round:
    with scheduler_limits(bench.layout, *DEFAULT_LIMITS):
        return await pods(bench, name)


async def fair_namespaces(bench: Bench, name: str) -> Round:
    async with another_namespace(bench.cold) as place:
        found = await measure_fair_namespaces(place, bench.cold, bench.sizes.warm_runs, name)
    if not bench.warm.spares:
        return found
    return found | await measure_fair_namespaces(bench.warm, bench.cold, bench.sizes.warm_runs, f"{name}.spares")


def shape(name: str) -> Callable[[Bench], Awaitable[Round]]:
    def measure(bench: Bench) -> Awaitable[Round]:
        count = bench.sizes.chain if name.endswith("chain") else bench.sizes.tasks
        return measure_shape(bench.warm, bench.layout, name, count, bench.rest)

    return measure


PARTS: dict[str, Callable[[Bench], Awaitable[Round]]] = {
    "memory": lambda b: measure_memory(b.warm, b.sizes.tasks, "memory"),
    "pods": lambda b: pods(b, "pods"),
    "pods_default": lambda b: pods_default(b, "pods_default"),
    "fair_pods": lambda b: measure_fair_pods(b.cold, b.sizes.tasks, "fair_pods"),
    "stream": lambda b: measure_stream(b.cold, b.sizes.per_second, b.sizes.seconds, "stream"),
    "pods_flat": shape("pods_flat"),
    "pods_layers": shape("pods_layers"),
    "pods_chain": shape("pods_chain"),
    "many": lambda b: measure_burst(b.cold, b.layout, b.sizes.runs, b.rest, "many"),
    "warm": lambda b: measure_warm_burst(b.cold, b.sizes.warm_runs, "warm"),
    "flat": shape("flat"),
    "layers": shape("layers"),
    "chain": shape("chain"),
    "fair": lambda b: measure_fair_tasks(b.warm, b.sizes.tasks, "fair"),
    "fair_namespaces": lambda b: fair_namespaces(b, "fair_namespaces"),
    "recovery": lambda b: measure_kill(b.warm, b.sizes.tasks, "recovery"),
    "standby": lambda b: measure_standby(b.warm, b.sizes.tasks, "standby"),
}
"""In this order: first the memory of an operator that has not seen any large Run, if it is new."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=read_parts, help=f"parts, with commas: {', '.join((*PARTS, *GROUPS))}")
    parser.add_argument("--quick", dest="sizes", action="store_const", const=QUICK, help="small sizes: does it work?")
    for name, kind, text in (
        ("tasks", int, "of a large Run"),
        ("pods", int, "of a Run beside as many bare pods"),
        ("chain", int, "tasks one after the other"),
        ("runs", int, "at once, with pods on fake nodes"),
        ("warm-runs", int, "at once, with real pods"),
        ("per-second", float, "Runs of a steady stream"),
        ("seconds", float, "of that stream"),
        ("nodes", int, "fake ones"),
    ):
        default = getattr(Sizes(), name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=kind, help=f"{text} ({default:g})")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the JSON goes (bench/scale_results.json)")
    parser.add_argument("--table", action="store_true", help="show what that JSON has")
    parser.set_defaults(sizes=Sizes(), only=tuple(PARTS))
    options = parser.parse_args()
    kept: dict[str, Json] = json.loads(options.json.read_text()) if options.json.exists() else {}
    if options.table:
        print(table(kept, []))
        return
    given = {key: value for key in vars(Sizes()) if (value := getattr(options, key)) is not None}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended; what was made is deleted"))
    found: dict[str, Json] = {}

    def keep(part: str, made: Json) -> None:
        found[part] = made
        write_parts(options.json, kept | found)

    notes = measure(options.only, replace(options.sizes, **given), keep)
    print(table(found, notes))
    if notes or missed(found):
        sys.exit(f"not measured, or a goal is not met: {'; '.join([*notes, *missed(found)])}")


def write_parts(path: Path, parts: Mapping[str, Json]) -> None:
    """At no moment is there only a part of the file."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(parts, indent=1) + "\n")
    partial.replace(path)


def measure(parts: tuple[str, ...], sizes: Sizes, keep: Keep) -> list[str]:
    """What was not measured, and why."""
    cluster = Cluster()
    try:
        with own_namespace(cluster) as namespace, object_store(cluster) as store:
            return asyncio.run(measure_all(namespace, store, parts, sizes, keep))
    finally:
        cluster.close()


async def measure_all(
    namespace: str, store: ObjectStore, parts: tuple[str, ...], sizes: Sizes, keep: Keep
) -> list[str]:
    layout = build_layout(find_checkout(), os.environ)
    notes: list[str] = []
    async with make_places(namespace, store, False, notes) as places:
        bench = await prepare(places, layout, sizes)
        for part in (one for one in PARTS if one in parts):
            say(f"measuring {part}")
            machine = read_facts()
            try:
                async with AsyncExitStack() as stack:
                    if part in FAKE:
                        stack.enter_context(fake_nodes(layout, sizes.nodes, FAKE[part]))
                    keep(part, build_part(await PARTS[part](bench), sizes, machine))
            except (BenchError, ClusterError, KubeError, StoreError, TimeoutError) as error:
                notes.append(f"Not measured: {part}: {error or type(error).__name__}")
    return notes


async def prepare(places: Places, layout: Layout, sizes: Sizes) -> Bench:
    await warm_up(places.cold)
    await warm_up(places.warm)
    await places.warm.at_rest()
    return Bench(places.cold, places.warm, layout, sizes, await at_rest(layout))


if __name__ == "__main__":
    main()
