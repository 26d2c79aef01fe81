"""Large Runs of each shape, of tiny Python tasks or of containers, compared with the same shape of a hundred tasks."""

from __future__ import annotations

import asyncio
import time

from client import OURS
from cpu import snapshot
from floor import Place, Round
from report import combine
from scale_etcd import Etcd, objects, read_etcd, spent
from scale_events import replay_events
from scale_runs import CONTAINERS, SHAPES, create_run, delete_runs, new_name, succeeded
from tasks import read_cpu

from maze_cluster.kubectl import Kubectl
from maze_cluster.layout import Layout
from maze_cluster.tools import find_bin_dir

SMALL = 100
SMALLS = 3
"""Small Runs, of which the middle one counts."""


async def measure_shape(place: Place, layout: Layout, shape: str, count: int, rest: Etcd) -> Round:
    """`rest`: what comes into etcd in a second without any Run."""
    small = [await measure_run(place, layout, shape, SMALL, rest, f"{shape}.small") for _ in range(SMALLS)]
    return combine(small) | await measure_run(place, layout, shape, count, rest, shape, told=True)


async def measure_run(
    place: Place, layout: Layout, shape: str, count: int, rest: Etcd, name: str, told: bool = False
) -> Round:
    """For each task: seconds (from the creation of the Run until its end is seen), CPU seconds, writes, and bytes.

    told: and what its user is told of it: all its events by the api, and a line by kubectl.
    """
    tasks, run = SHAPES[shape](count, place.image), new_name(shape)
    writes = await place.at_rest()
    async with objects(place.kube, place.namespace) as ours:
        cpu, before, began = snapshot(), read_etcd(layout), time.time()
        try:
            await create_run(place, run, tasks)
            ended = (await succeeded(place, run, count)).ended
            after, found = read_etcd(layout), read_cpu(name, cpu, count)
            settled = await place.writes.settled()
            if shape in CONTAINERS and place.seen.pods:
                found |= pod_times(place, run, began, ended, name)
            if told:
                found |= await asyncio.to_thread(replay_events, OURS, run, count, name)
                found[f"{name}.line"] = await asyncio.to_thread(line_length, layout, place.namespace, run)
        finally:
            await delete_runs(place, [run])
    seconds = ended - began
    return found | {
        f"{name}.seconds": seconds,
        f"{name}.task": seconds / count,
        f"{name}.rate": count / seconds,
        **{f"{name}.{key}": value / count for key, value in spent(before, after, rest).items()},
        f"{name}.own_put": ours.put / count,
        f"{name}.largest": ours.largest,
        f"{name}.writes": (sum(settled.values()) - sum(writes.values())) / count,
    }


def pod_times(place: Place, run: str, began: float, ended: float, name: str) -> Round:
    pods = [pod for pod in place.seen.pods.values() if pod.run == run]
    return {
        f"{name}.first_pod": min(pod.added for pod in pods) - began,
        f"{name}.created_rate": len(pods) / (max(pod.added for pod in pods) - began),
        f"{name}.told_late": ended - max(pod.ended for pod in pods),
    }


def line_length(layout: Layout, namespace: str, run: str) -> float:
    """Characters of the longest line that `kubectl get run` prints of it."""
    kubectl = Kubectl(str(find_bin_dir(layout) / "kubectl"), layout.kubeconfig)
    return float(max(map(len, kubectl.run("get", "run", run, "-n", namespace).splitlines())))
