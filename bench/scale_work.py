"""The warm path: large Runs of tiny Python tasks, each compared with the same shape of a hundred tasks."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import Counter
from itertools import pairwise
from statistics import median
from typing import Any

from client import OURS
from cpu import snapshot
from floor import Place, Round
from scale_etcd import Etcd, objects, read_etcd, spent
from scale_runs import SHAPES, create_run, delete_runs, new_name, succeeded
from seen import BenchError
from tasks import read_cpu

from maze_cluster.layout import Layout

SMALL = 100
SMALLS = 3
"""Small Runs, of which the middle one counts."""
SHOWN_SECONDS = 30.0
Json = dict[str, Any]


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
            events = await asyncio.to_thread(replay_events, name, count) if replay else {}
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


def replay_events(run: str, count: int) -> dict[str, float]:
    """All messages of a Run that has succeeded without a retry, page by page; how long, and how many numbers are wrong.

    Its start is event 1 and no message; the start and end of each task and its own end are the numbers after that.
    """
    numbers: list[int] = []
    began = time.monotonic()
    ended = False
    while not ended:
        page = read_page(run, numbers[-1] if numbers else 0)
        ended = page["ended"]
        numbers += [event["id"] for event in page["events"]]
        if not page["events"] and not ended and time.monotonic() > began + SHOWN_SECONDS:
            raise BenchError(f"the api does not show the end of {run}: {len(numbers)} events")
    return {"replay": time.monotonic() - began, "replay_wrong": float(wrong_numbers(numbers, 2 * count + 1))}


def read_page(run: str, after: int) -> Json:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{OURS}/api/maze/runs/{run}/events?after={after}", timeout=60) as answer:
        found: Json = json.load(answer)
        return found


def wrong_numbers(numbers: list[int], count: int) -> int:
    """How many of the numbers from 2 on are missing, there twice, or not in order; and those that should not be there."""
    wanted = range(2, count + 2)
    found = Counter(numbers)
    wrong = sum(found[number] != 1 for number in wanted) + sum(number not in wanted for number in found)
    return wrong + sum(one > following for one, following in pairwise(numbers))
