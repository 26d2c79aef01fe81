"""The benchmark of tasks: Runs of several shapes against bare pods, calls of the api, memory; as a table, and as JSON.

python3 bench/run.py [--rounds N] [--only NAME] [--quick] [--with-ray]      needs a running system (`make up`)

What has no spare pods is measured in a namespace of its own, which goes afterwards; what has, in the one where they are
kept, each time when all of them are ready. `python3 bench/check.py` compares the JSON with the gates.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import tasks
from api_latency import measure_api
from check import RESULTS
from client import KINDS, NAMESPACE, Client, our_client
from cpu_report import cpu_table
from floor import Place, Round, measure_bare
from loop import measure_loop
from machine import read_facts
from on_ray import measure_ray
from report import build_results, combine, table
from seen import BenchError, watched
from spares import kept_in, read_settings
from tasks import SCALES, Sizes, measure_run
from writes import counted

from cluster import KUBECONFIG, Cluster, object_store
from maze_crds import names
from maze_io.kube import Kube, runs_path
from maze_io.store import ObjectStore
from own_api import own_namespace

WORK = ("one", "chain", "fan_out", "tiny", "map", "large", "client")
NAMES = (*WORK, "api")
SPARED = ("one", "chain", "fan_out", "tiny")
"""What is measured with spare pods, too."""
RAY = "Maze on Ray"
"""A reference where it can be installed: without it, the rest is complete."""
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
    parser.add_argument("--with-ray", action="store_true", help="Maze on Ray, too; the first time it is installed")
    parser.add_argument("--minutes", type=float, default=4.5, help="no new round of work begins then (4.5)")
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
    if profile := cpu_table(results):
        print(f"\n{profile}")
    if not complete:
        sys.exit(1)


def measure(chosen: Sequence[str], sizes: Sizes, count: int, clock: Clock) -> tuple[list[Round], list[str], bool]:
    """Rounds; what a reader of them must know; whether all that was chosen is in them."""
    rounds: list[Round] = [{} for _ in range(count)]
    notes: list[str] = []
    work = [name for name in WORK if name in chosen]
    parts: dict[str, tuple[bool, Callable[[], Iterable[Round]]]] = {
        "work": (bool(work), lambda: measure_work(work, sizes, count, clock, notes)),
        RAY: ("ray" in chosen, lambda: measure_ray(client_counts(sizes), count)),
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
            complete = complete and name == RAY
            notes.append(f"Not (all) measured: {name}: {error}")
    return [one for one in rounds if one], notes, complete


def measure_work(work: list[str], sizes: Sizes, count: int, clock: Clock, notes: list[str]) -> list[Round]:
    cluster = Cluster()
    try:
        with own_namespace(cluster) as namespace, object_store(cluster) as store:
            done = asyncio.run(measure_rounds(namespace, store, work, sizes, count, clock, notes))
    finally:
        cluster.close()
    if len(done) < count:
        notes.append(f"The time was over after {len(done)} of {count} rounds of work.")
    return done


@dataclass(frozen=True)
class Places:
    """`cold`: a namespace without spare pods. `warm`: the one where they are kept, if they are, and of the cluster's api."""

    cold: Place
    warm: Place
    client: Client | None


async def measure_rounds(
    namespace: str, store: ObjectStore, work: list[str], sizes: Sizes, count: int, clock: Clock, notes: list[str]
) -> list[Round]:
    """At least one round, and no new one when the time is over."""
    done: list[Round] = []
    async with make_places(namespace, store, "client" in work, notes) as places:
        if not places.warm.spares:
            notes.append(f"No spare pods are kept in the namespace {NAMESPACE}: what they change is not measured.")
        await warm_up(places.cold)
        await warm_up(places.warm)
        while len(done) < count and not (done and clock.is_over):
            say(f"round {len(done) + 1} of {count}: {', '.join(work)}")
            done.append(await measure_round(places, work, sizes))
    return done


@asynccontextmanager
async def make_places(namespace: str, store: ObjectStore, with_client: bool, notes: list[str]) -> AsyncIterator[Places]:
    kube = await Kube.connect(KUBECONFIG)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(kube.close)
        settings = await read_settings(kube)
        image, spares = settings["MAZE_RUNNER_IMAGE"], kept_in(NAMESPACE, settings)

        async def make(name: str, count: int) -> Place:
            seen = await stack.enter_async_context(watched(kube, name))
            writes = await stack.enter_async_context(counted(kube, name))
            return Place(kube, name, seen, writes, store, image, count)

        cold, warm, client = await make(namespace, 0), await make(NAMESPACE, spares), None
        try:
            client = stack.enter_context(our_client()) if with_client else None
        except BenchError as error:
            notes.append(f"Not measured: the original client: {error}")
        yield Places(cold, warm, client)


async def warm_up(place: Place) -> None:
    """Everything has run once before it is measured, and the API server counts."""
    await measure_bare(place, 1, "warm")
    for _ in range(WARM_UPS):
        if (await measure_run(place, tasks.one(), "warm"))["warm.writes"] > 0:
            return
    raise BenchError(f"the API server counts no writes of the operator into {place.namespace}")


async def measure_round(places: Places, work: list[str], sizes: Sizes) -> Round:
    """Each workload right after what it is compared with."""
    samples: list[Round] = []
    for _ in range(sizes.singles):
        samples.append(await measure_bare(places.cold, 1, "bare_one"))
        for name in ("one", "chain"):
            if name in work:
                samples.append(await measure_both(places, name, sizes))
    found = combine(samples)
    if places.client:
        found |= await measure_client(places, "chain", sizes)
    if "large" in work:
        found |= await measure_both(places, "large", sizes)
    if not {"fan_out", "tiny", "map"}.isdisjoint(work):
        bare = await measure_bare(places.cold, sizes.fan_out, "bare_many")
        found |= bare | {"bare_many.rate": sizes.fan_out / bare["bare_many.ended"]}
    if "fan_out" in work:
        found |= await measure_both(places, "fan_out", sizes)
    if places.client:
        found |= await measure_client(places, "fan_out", sizes)
    for name in ("tiny", "map"):
        if name in work:
            found |= await measure_both(places, name, sizes)
    if "tiny" in work:
        found |= await asyncio.to_thread(measure_loop, sizes.tiny)
    return found


async def measure_both(places: Places, name: str, sizes: Sizes) -> Round:
    """Without spare pods, and with them where that says something."""
    made, profile = build(name, sizes), name == "tiny"
    found = await measure_run(places.cold, made, name, profile)
    if places.warm.spares and name in SPARED:
        found |= await measure_run(places.warm, made, f"warm_{name}", profile)
    return found


async def measure_client(places: Places, kind: str, sizes: Sizes) -> Round:
    """The original client, and then the very same tasks as a Run that is made through Kubernetes' API."""
    client, place = places.client, places.warm
    assert client is not None
    await place.at_rest()
    found = await asyncio.to_thread(client.measure, "client", kind, client_counts(sizes)[kind])
    selector = {"labelSelector": f"{names.LABEL_WORKFLOW_ID}={client.workflows[-1]}"}
    made = await place.kube.get(runs_path(place.namespace), selector)
    return found | await measure_run(place, made["items"][0]["spec"]["workflow"]["tasks"], f"same_{kind}")


def client_counts(sizes: Sizes) -> dict[str, int]:
    return dict(zip(KINDS, (sizes.chain, sizes.fan_out), strict=True))


def build(name: str, sizes: Sizes) -> list[Json]:
    """The tasks of a workload."""
    made: dict[str, Callable[[], list[Json]]] = {
        "one": tasks.one,
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
