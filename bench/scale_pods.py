"""The pod path: one Run of container tasks, each with a pod of its own, against as many bare pods on the same fake nodes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from cpu import snapshot
from floor import Place, Round, build_pod, delete_pods, each
from report import combine
from scale_etcd import Etcd, read_etcd, spent
from scale_runs import GONE_SECONDS, LEAST_SECONDS, SECONDS_A_TASK
from scale_work import measure_run
from seen import BenchError, watched
from tasks import Json, read_cpu
from writes import counted

from maze_cluster.kwok import GPU_MEMORY_LABEL, GPU_MEMORY_MIB
from maze_cluster.layout import Layout
from maze_io.kube import pods_path, runs_path
from own_api import own_namespace

RUNS = 3
"""That are measured, after one that is not."""


def build_fake_pod(name: str, image: str) -> Json:
    """With the affinity that the operator gives to pods which ask for that much of a GPU's memory."""
    pod = build_pod(name, image)
    wanted = {"key": GPU_MEMORY_LABEL, "operator": "Gt", "values": [str(GPU_MEMORY_MIB - 1)]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
    pod["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return pod


async def measure_pods(place: Place, layout: Layout, count: int, rest: Etcd, name: str) -> Round:
    """Runs, each with bare pods before and after it, for a machine that changes; and what is in the middle of each kind.

    Pods per second, from the first request until the last one's end is seen; and CPU seconds of every part of the system
    for each pod (kwok is one of the others). Both sides watch what their users have to watch, which is a part of the work:
    who makes pods the pods, and who has made a Run only that.
    """
    kube = place.kube
    with own_namespace() as namespace:
        async with counted(kube, namespace) as writes:

            async def bare() -> Round:
                async with watched(kube, namespace, [pods_path]) as seen:
                    here = replace(place, namespace=namespace, seen=seen, writes=writes)
                    return await measure_bare(here, layout, count, rest, f"{name}.bare")

            async def run() -> Round:
                async with watched(kube, namespace, [runs_path]) as seen:
                    here = replace(place, namespace=namespace, seen=seen, writes=writes)
                    found = await measure_run(here, layout, "pods_flat", count, rest, f"{name}.run")
                async with watched(kube, namespace, [pods_path]) as seen:
                    await seen.until(lambda: not seen.present, "the pods of the Run are gone", GONE_SECONDS)
                return found

            await run()  # so that kwok, scheduler and operator have had as many pods before
            bares, runs = [await bare()], []
            for _ in range(RUNS):
                runs.append(await run())
                bares.append(await bare())
    return {
        **combine(runs),
        **combine(bares),
        f"{name}.run.spread": spread([one[f"{name}.run.rate"] for one in runs]),
        f"{name}.bare.spread": spread([one[f"{name}.bare.rate"] for one in bares]),
    }


def spread(rates: Sequence[float]) -> float:
    """Percent of the middle one from the slowest to the fastest: a ratio that differs by less says nothing."""
    return (max(rates) - min(rates)) / median(rates) * 100


async def measure_bare(place: Place, layout: Layout, count: int, rest: Etcd, name: str) -> Round:
    """The shortest script: so many requests, as many at once as there are connections, and a watch."""
    prefix = f"bare-{uuid.uuid4().hex[:6]}-"
    made = [f"{prefix}{number}" for number in range(count)]
    pods, path = place.seen.pods, pods_path(place.namespace)
    cpu, before, began = snapshot(), read_etcd(layout), time.time()
    try:
        await each(lambda one: place.kube.post(path, build_fake_pod(one, place.image)), made)
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
    return used | {
        f"{name}.seconds": seconds,
        f"{name}.rate": count / seconds,
        f"{name}.created_rate": count / created,
        f"{name}.put": spent(before, after, rest)["put"] / count,
    }
