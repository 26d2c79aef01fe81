"""The benchmark of tasks: Runs of several shapes against bare pods, calls of the api, memory; as a table, and as JSON.

python3 bench/run.py [--rounds N] [--only NAME] [--quick | --full] [--with-ray]      needs a running system (`make up`)

Everything is measured in a namespace of its own, which goes afterwards. `python3 bench/check.py` compares the JSON with
the gates.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import tasks
from api_latency import measure_api
from check import RESULTS
from floor import Place, Round, measure_bare
from machine import read_facts
from on_ray import measure_original
from report import build_results, combine, table
from seen import BenchError, watched
from tasks import SCALES, Sizes, measure_run
from writes import counted

from cluster import KUBECONFIG, Cluster, object_store
from maze_io.kube import Kube, resource_path
from maze_io.store import ObjectStore
from own_api import own_namespace

WORK = ("one", "chain", "fan_out", "tiny", "map", "large")
NAMES = (*WORK, "api")
WARM_UPS = 5
Json = dict[str, Any]


class Clock:
    """How much of the time for the whole is left."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + minutes * 60

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._end


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (3; --quick: 1)")
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this, and what it is compared with")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick", help="small sizes: does it work?")
    parser.add_argument("--full", dest="scale", action="store_const", const="full", help="1,000 tiny tasks, 100 items")
    parser.add_argument("--with-ray", action="store_true", help="Maze on Ray, too; the first time it is installed")
    parser.add_argument("--minutes", type=float, default=8, help="no new round begins after so many minutes (8)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the JSON goes (bench/results.json)")
    parser.set_defaults(scale="default")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended; what was made is deleted"))
    count = 1 if options.scale == "quick" else options.rounds
    chosen = [*(options.only or NAMES), *(["ray"] if options.with_ray else [])]
    machine = read_facts()
    clock = Clock(options.minutes)
    rounds, notes, complete = measure(chosen, SCALES[options.scale], count, clock)
    results = build_results(rounds, options.scale, asdict(SCALES[options.scale]), machine, notes)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    if not complete:
        sys.exit(1)


def measure(chosen: Sequence[str], sizes: Sizes, count: int, clock: Clock) -> tuple[list[Round], list[str], bool]:
    """Rounds; what a reader of them must know; whether all that was chosen is in them."""
    rounds: list[Round] = [{} for _ in range(count)]
    notes: list[str] = []
    work = [name for name in WORK if name in chosen]
    if {"tiny", "map"} & set(work) and sizes.tiny < SCALES["full"].tiny:
        notes.append(
            f"{sizes.tiny} of 1,000 tiny tasks and {sizes.items} of 100 items are measured; --full measures all."
        )
    parts: dict[str, tuple[bool, Callable[[], Iterable[Round]]]] = {
        "work": (bool(work), lambda: measure_work(work, sizes, count, clock, notes)),
        "Maze on Ray": ("ray" in chosen, lambda: measure_original(sizes.chain, sizes.fan_out, count)),
        "the api": ("api" in chosen, lambda: measure_api(sizes, count, say)),
    }
    complete = True
    for name, (wanted, part) in parts.items():
        if not wanted:
            continue
        say(f"measuring {name}")
        try:
            for one, found in zip(rounds, part(), strict=False):
                one.update(found)
        except BenchError as error:
            complete = False
            notes.append(f"Not (all) measured: {name}: {error}")
    return [one for one in rounds if one], notes, complete


def measure_work(work: list[str], sizes: Sizes, count: int, clock: Clock, notes: list[str]) -> list[Round]:
    cluster = Cluster()
    try:
        with own_namespace(cluster) as namespace, object_store(cluster) as store:
            done = asyncio.run(measure_rounds(namespace, store, work, sizes, count, clock))
    finally:
        cluster.close()
    if len(done) < count:
        notes.append(f"The time was over after {len(done)} of {count} rounds of work.")
    return done


async def measure_rounds(
    namespace: str, store: ObjectStore, work: list[str], sizes: Sizes, count: int, clock: Clock
) -> list[Round]:
    """At least one round, and no new one when the time is over."""
    done: list[Round] = []
    async with make_place(namespace, store) as place:
        await warm_up(place)
        while len(done) < count and not (done and clock.is_over):
            say(f"round {len(done) + 1} of {count}: {', '.join(work)}")
            done.append(await measure_round(place, work, sizes))
    return done


@asynccontextmanager
async def make_place(namespace: str, store: ObjectStore) -> AsyncIterator[Place]:
    kube = await Kube.connect(KUBECONFIG)
    try:
        image = await find_image(kube)
        async with watched(kube, namespace) as seen, counted(kube, namespace) as writes:
            yield Place(kube, namespace, seen, writes, store, image)
    finally:
        await kube.close()


async def find_image(kube: Kube) -> str:
    """The one in which Python tasks run."""
    operator = await kube.get(resource_path("apps/v1", "deployments", "maze-system", "maze-operator"))
    env = operator["spec"]["template"]["spec"]["containers"][0]["env"]
    image: str = next(one["value"] for one in env if one["name"] == "MAZE_RUNNER_IMAGE")
    return image


async def warm_up(place: Place) -> None:
    """Everything has run once before it is measured, and the API server counts."""
    await measure_bare(place, 1, "warm")
    for _ in range(WARM_UPS):
        if (await measure_run(place, tasks.one(), "warm"))["warm.writes"] > 0:
            return
    raise BenchError(f"the API server counts no writes of the operator into {place.namespace}")


async def measure_round(place: Place, work: list[str], sizes: Sizes) -> Round:
    """Each workload right after the bare pods that it is compared with."""
    found: Round = {}
    samples: list[Round] = []
    for _ in range(sizes.singles):
        samples.append(await measure_bare(place, 1, "bare_one"))
        if "one" in work:
            samples.append(await measure_run(place, tasks.one(), "one"))
    found |= combine(samples)
    for name in ("chain", "large"):
        if name in work:
            found |= await measure_run(place, build(name, sizes), name)
    if not {"fan_out", "tiny", "map"}.isdisjoint(work):
        bare = await measure_bare(place, sizes.fan_out, "bare_many")
        found |= bare | {"bare_many.rate": sizes.fan_out / bare["bare_many.ended"]}
    for name in ("fan_out", "tiny", "map"):
        if name in work:
            found |= await measure_run(place, build(name, sizes), name)
    return found


def build(name: str, sizes: Sizes) -> list[Json]:
    """The tasks of a workload."""
    made = {
        "chain": lambda: tasks.chain(sizes.chain),
        "fan_out": lambda: tasks.fan_out(sizes.fan_out),
        "tiny": lambda: tasks.fan_out(sizes.tiny),
        "map": lambda: tasks.mapped(sizes.items, sizes.item_bytes),
        "large": lambda: tasks.large(sizes.large_bytes),
    }
    return made[name]()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
