"""The pod path: one Run of container tasks, each with a pod of its own, against as many bare pods on the same fake nodes."""

from __future__ import annotations

import asyncio
import time
import uuid

from cpu import snapshot
from floor import Place, Round, build_pod, delete_pods
from report import combine
from scale_etcd import objects, read_etcd
from scale_runs import LEAST_SECONDS, SECONDS_A_TASK, containers, create_run, delete_runs, new_name, succeeded
from seen import BenchError
from tasks import Json, read_cpu

from maze_cluster.kwok import GPU_MEMORY_LABEL, GPU_MEMORY_MIB
from maze_cluster.layout import Layout
from maze_io.kube import pods_path


def build_fake_pod(name: str, image: str) -> Json:
    """With the affinity that the operator gives to pods which ask for that much of a GPU's memory."""
    pod = build_pod(name, image)
    wanted = {"key": GPU_MEMORY_LABEL, "operator": "Gt", "values": [str(GPU_MEMORY_MIB - 1)]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
    pod["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return pod


async def measure_pods(place: Place, layout: Layout, count: int, name: str) -> Round:
    """Bare pods, the Run, and bare pods again, for a machine that changes.

    Pods per second, from the first request until the last one's end is seen; and CPU seconds of every part of the system
    for each pod (kwok is one of the others).
    """
    before = await measure_bare(place, layout, count, f"{name}.bare")
    found = await measure_run(place, layout, count, f"{name}.run")
    return found | combine([before, await measure_bare(place, layout, count, f"{name}.bare")])


async def measure_bare(place: Place, layout: Layout, count: int, name: str) -> Round:
    """The shortest script: so many requests, as many at once as there are connections, and a watch."""
    prefix = f"bare-{uuid.uuid4().hex[:6]}-"
    made = [f"{prefix}{number}" for number in range(count)]
    pods, path = place.seen.pods, pods_path(place.namespace)
    cpu, before, began = snapshot(), read_etcd(layout), time.time()
    try:
        await asyncio.gather(*(place.kube.post(path, build_fake_pod(one, place.image)) for one in made))
        created = time.time() - began
        await place.seen.until(
            lambda: all(one in pods and pods[one].phase in ("Succeeded", "Failed") for one in reversed(made)),
            f"{count} bare pods end",
            max(LEAST_SECONDS, count * SECONDS_A_TASK),
        )
        after, used = read_etcd(layout), read_cpu(name, cpu, count)
        if any(pods[one].phase == "Failed" for one in made):
            raise BenchError("bare pods failed on fake nodes")
        seconds = max(pods[one].ended for one in made) - began
    finally:
        await delete_pods(place, made)
    rates = {f"{name}.rate": count / seconds, f"{name}.created_rate": count / created}
    return rates | used | {f"{name}.put": (after.put - before.put) / count}


async def measure_run(place: Place, layout: Layout, count: int, name: str) -> Round:
    """The same as tasks of a Run, until its end is seen; bytes put into etcd for each, and how much of that is Maze's own."""
    run = new_name("pods")
    writes = await place.at_rest()
    async with objects(place.kube, place.namespace) as ours:
        cpu, before, began = snapshot(), read_etcd(layout), time.time()
        try:
            await create_run(place, run, containers(count, place.image))
            ended = (await succeeded(place, run, count)).ended
            after, used = read_etcd(layout), read_cpu(name, cpu, count)
            settled = await place.writes.settled()
            made = [pod for pod in place.seen.pods.values() if pod.run == run]
        finally:
            await delete_runs(place, [run])
    return used | {
        f"{name}.rate": count / (ended - began),
        f"{name}.created_rate": count / (max(pod.added for pod in made) - began),
        f"{name}.first_pod": min(pod.added for pod in made) - began,
        f"{name}.told_late": ended - max(pod.ended for pod in made),
        f"{name}.put": (after.put - before.put) / count,
        f"{name}.own_put": ours.put / count,
        f"{name}.largest": ours.largest,
        f"{name}.writes": sum(settled.values()) / count - sum(writes.values()) / count,
    }
