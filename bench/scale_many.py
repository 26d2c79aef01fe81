"""Many Runs: at once and in a steady stream, and whether a small one gets its turn beside a large one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median, quantiles

from floor import Place, Round, each, measure_bare
from scale_etcd import Etcd
from scale_pods import measure_bare as measure_fake
from scale_runs import LEAST_SECONDS, containers, create_run, delete_runs, new_name, part_done, succeeded
from seen import ENDED, BenchError, watched
from tasks import NOW, Json, fan_out, one, read_output, task
from writes import counted

from maze_cluster.layout import Layout
from own_api import own_namespace

EACH = 10
"""Tasks of each of the many Runs."""
DRAIN_SECONDS = 120.0
TRIES = 3
"""Small Runs, alone and beside others; of the latter the slowest counts."""


@dataclass(frozen=True)
class Small:
    """A Run of one tiny task: when it was created, its pod was seen, and its code ran."""

    created: float
    pod: float
    ran: float

    @property
    def taken(self) -> float:
        return self.ran - self.created


async def measure_burst(place: Place, layout: Layout, count: int, rest: Etcd, name: str) -> Round:
    """So many Runs of container tasks on fake nodes, created as fast as the API server takes them; and as many bare pods."""
    found = await measure_fake(place, layout, count * EACH, rest, f"{name}.bare")
    seconds = await measure_at_once(place, containers(EACH, place.image), count)
    return found | {
        f"{name}.seconds": seconds,
        f"{name}.rate": count * EACH / seconds,
        f"{name}.runs_rate": count / seconds,
    }


async def measure_warm_burst(place: Place, count: int, name: str) -> Round:
    """So many Runs of tiny Python tasks on the real node, and as many bare pods: each Run needs at least one of its own."""
    found = await measure_bare(place, count, f"{name}.bare")
    return found | {f"{name}.seconds": await measure_at_once(place, fan_out(EACH), count)}


async def measure_at_once(place: Place, tasks: list[Json], count: int) -> float:
    """Seconds from the first request until all have succeeded.

    Raises:
        BenchError: one does not.
    """
    created = [new_name("many") for _ in range(count)]
    began = time.time()
    try:
        await each(lambda name: create_run(place, name, tasks), created)
        ended = [(await succeeded(place, name, count * len(tasks))).ended for name in created]
    finally:
        await delete_runs(place, [name for name in created if name in place.seen.runs])
    return max(ended) - began


async def measure_stream(place: Place, per_second: float, seconds: float, name: str) -> Round:
    """Runs of one container task on fake nodes, created at this rate; seconds from the creation of each until its end is seen.

    The backlog are those that have been created for longer than five seconds and have not ended when the last one is created.
    """
    count = round(per_second * seconds)
    created: dict[str, float] = {}
    tasks = containers(1, place.image)
    seen = place.seen.runs

    async def create(number: int, began: float) -> None:
        await asyncio.sleep(max(0.0, began + number / per_second - time.time()))
        run = new_name("stream")
        created[run] = time.time()
        await create_run(place, run, tasks)

    try:
        began = time.time()
        await asyncio.gather(*(create(number, began) for number in range(count)))
        late = time.time() - began - seconds
        old = [run for run, at in created.items() if at < time.time() - 5]
        backlog = sum(run not in seen or seen[run].phase not in ENDED for run in old)
        over = lambda: all(run in seen and seen[run].phase in ENDED for run in created)  # noqa: E731
        await place.seen.until(over, f"{count} Runs end", DRAIN_SECONDS + seconds)
        if failed := [run for run in created if seen[run].phase != "Succeeded"]:
            raise BenchError(f"{len(failed)} of {count} Runs did not succeed: {seen[failed[0]].status}")
        times = [seen[run].ended - at for run, at in created.items()]
    finally:
        await delete_runs(place, [run for run in created if run in seen])
    cuts = quantiles(times, n=100)
    return {
        f"{name}.p50": cuts[49],
        f"{name}.p99": cuts[98],
        f"{name}.backlog": float(backlog),
        f"{name}.late": late,
        f"{name}.rate": count / (seconds + late),
    }


async def measure_fair_pods(place: Place, count: int, name: str) -> Round:
    """Seconds until the pod of a small Run runs on a fake node: alone, and when a large Run has a twentieth of its pods."""

    async def small() -> float:
        run, began = new_name("small"), time.time()
        try:
            await create_run(place, run, containers(1, place.image))
            await succeeded(place, run, count)
            return min(pod.running for pod in place.seen.pods.values() if pod.run == run) - began
        finally:
            await delete_runs(place, [run])

    alone = median([await small() for _ in range(TRIES)])
    large = new_name("large")
    try:
        await create_run(place, large, containers(count, place.image))
        pods = place.seen.pods
        few = lambda: sum(pod.run == large for pod in pods.values()) >= count / 20  # noqa: E731
        await place.seen.until(few, f"pods of {large}", LEAST_SECONDS)
        beside = await small()
        busy = place.seen.runs[large].phase not in ENDED
        await succeeded(place, large, count)
    finally:
        await delete_runs(place, [large])
    if not busy:
        raise BenchError(f"the Run of {count} pods was over before the small one: take more")
    return {f"{name}.alone": alone, f"{name}.beside": beside}


async def measure_fair_tasks(place: Place, count: int, name: str) -> Round:
    """Seconds until a small Run's task runs on the real node, alone, and while all pods that a large Run may have are busy."""
    alone = await measure_alone(place)
    large = new_name("large")
    await place.at_rest()
    try:
        await create_run(place, large, fan_out(count))
        await part_done(place, large, 0.05)
        beside: list[float] = []
        while len(beside) < TRIES:
            small = await begin_small(place, count)
            if place.seen.runs[large].phase in ENDED:
                break
            beside.append(small.taken)
        await succeeded(place, large, count)
    finally:
        await delete_runs(place, [large])
    if not beside:
        raise BenchError(f"the Run of {count} tasks was over before the small one: take more")
    return {f"{name}.alone": alone, f"{name}.beside": max(beside)}


async def measure_fair_namespaces(place: Place, crowd: Place, count: int, name: str) -> Round:
    """Seconds until the task of a namespace's only Run runs on the real node: alone, and when so many Runs have just been
    created in another namespace, each of which needs a pod of its own; when its pod was made; and how many of these Runs had
    not begun by then.
    """
    alone = await measure_alone(place)
    beside = [await begin_beside(place, crowd, count) for _ in range(TRIES)]
    small, waiting = max(beside, key=lambda one: one[0].taken)
    found = {f"{name}.alone": alone, f"{name}.beside": small.taken, f"{name}.waiting": float(waiting)}
    # A pod that was there before shows nothing of the turns.
    return found if place.spares else found | {f"{name}.first_pod": small.pod - small.created}


async def begin_beside(place: Place, crowd: Place, count: int) -> tuple[Small, int]:
    """A small Run, and how many Runs of the crowd had not begun when its task did."""
    await place.at_rest()
    await crowd.at_rest()
    tasks = [task(f"t{number}", NOW, ["began"]) for number in range(EACH)]
    runs = [new_name("crowd") for _ in range(count)]
    try:
        await each(lambda run: create_run(crowd, run, tasks), runs)
        small = await begin_small(place, count * EACH)
        uids = [(await succeeded(crowd, run, count * EACH)).uid for run in runs]
        first = [
            min(await asyncio.gather(*(read_output(crowd, uid, one["name"], "began") for one in tasks))) for uid in uids
        ]
    finally:
        await delete_runs(crowd, [run for run in runs if run in crowd.seen.runs])
    return small, sum(moment > small.ran for moment in first)


async def measure_alone(place: Place) -> float:
    """Seconds until the task of a small Run runs."""
    taken = []
    for _ in range(TRIES):
        await place.at_rest()
        taken.append((await begin_small(place, 1)).taken)
    return median(taken)


async def begin_small(place: Place, count: int) -> Small:
    """`count`: tasks that may go first."""
    run, created = new_name("small"), time.time()
    try:
        await create_run(place, run, one())
        uid = (await succeeded(place, run, count)).uid
        pod = min(pod.added for pod in place.seen.pods.values() if pod.run == run)
        return Small(created, pod, await read_output(place, uid, "t", "began"))
    finally:
        await delete_runs(place, [run])


@asynccontextmanager
async def another_namespace(place: Place) -> AsyncIterator[Place]:
    """A place without spare pods that is gone when the block ends."""
    with own_namespace() as name:
        async with watched(place.kube, name) as seen, counted(place.kube, name) as writes:
            yield replace(place, namespace=name, seen=seen, writes=writes, spares=0)
