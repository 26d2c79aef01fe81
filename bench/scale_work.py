"""The warm path: large Runs of tiny Python tasks, each compared with the same shape of a hundred tasks."""

from __future__ import annotations

import asyncio
import time
from statistics import median

from client import OURS
from cpu import snapshot
from floor import Place, Round
from scale_etcd import Etcd, objects, read_etcd, spent
from scale_events import replay_events
from scale_runs import SHAPES, create_run, delete_runs, new_name, succeeded
from tasks import read_cpu

from maze_cluster.layout import Layout

SMALL = 100
SMALLS = 3
"""Small Runs, of which the middle one counts."""


async def measure_shape(place: Place, layout: Layout, shape: str, count: int, rest: Etcd) -> Round:
    """`rest`: what comes into etcd in a second without any Run."""
    found: Round = {}
    small = [await measure_run(place, layout, shape, SMALL, rest) for _ in range(SMALLS)]
    found |= {f"{shape}.small.{key}": median(one[key] for one in small) for key in small[0]}
    large = await measure_run(place, layout, shape, count, rest, replay=True)
    return found | {f"{shape}.{key}": value for key, value in large.items()}


async def measure_run(
    place: Place, layout: Layout, shape: str, count: int, rest: Etcd, replay: bool = False
) -> dict[str, float]:
    """For each task: seconds (from the creation of the Run until its end is seen), CPU seconds, writes, and bytes.

    replay: and read all its events from the api.
    """
    made, name = SHAPES[shape](count), new_name(shape)
    writes = await place.at_rest()
    async with objects(place.kube, place.namespace) as ours:
        cpu, before, began = snapshot(), read_etcd(layout), time.time()
        try:
            await create_run(place, name, made)
            ended = (await succeeded(place, name, count)).ended
            after, used = read_etcd(layout), read_cpu("cpu", cpu, count)
            settled = await place.writes.settled()
            events = await asyncio.to_thread(replay_events, OURS, name, count) if replay else {}
        finally:
            await delete_runs(place, [name])
    put = spent(before, after, rest)
    return {
        "seconds": ended - began,
        "task": (ended - began) / count,
        "rate": count / (ended - began),
        "operator": used.get("cpu.cpu.operator", 0.0),
        **{key: value / count for key, value in put.items()},
        "own_put": ours.put / count,
        "largest": ours.largest,
        "writes": (sum(settled.values()) - sum(writes.values())) / count,
        **events,
    }
