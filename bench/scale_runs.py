"""Large Runs: what they are made of, and how they are made, watched and deleted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from floor import Place, each
from seen import ENDED, BenchError, Run
from tasks import TTL, chain, fan_out, task

from maze_cluster.kwok import GPU_MEMORY_MIB
from maze_crds import names
from maze_crds.base import API_VERSION
from maze_io.kube import KubeError, runs_path

INLINE = 100
"""Tasks of a Run whose list is in itself; a longer one is in the object store, as our clients do it."""
BEFORE = 3
"""Tasks of the layer before that each one waits for."""
SOURCE = "def f(p):\n    return {'n': 0}"
SECONDS_A_TASK = 0.5
LEAST_SECONDS = 120.0
GONE_SECONDS = 300.0
Json = dict[str, Any]


Before = Callable[[int, int], Iterable[int]]
"""Number of a task and of all tasks -> numbers of the tasks that it waits for."""


def none_before(number: int, count: int) -> Iterable[int]:
    return ()


def layer_before(number: int, count: int) -> Iterable[int]:
    """As many layers as each has tasks (nearly): each task waits for three of the layer before."""
    width = math.isqrt(count)
    layer, column = divmod(number, width)
    return {(layer - 1) * width + (column + step) % width for step in range(BEFORE)} if layer else ()


def one_before(number: int, count: int) -> Iterable[int]:
    return (number - 1,) if number else ()


def depends_on(number: int, count: int, before: Before) -> Json:
    return {"dependsOn": sorted(f"t{one}" for one in before(number, count))}


def layers(count: int) -> list[Json]:
    return [task(f"t{number}", SOURCE, ["n"]) | depends_on(number, count, layer_before) for number in range(count)]


def containers(count: int, image: str, before: Before = none_before) -> list[Json]:
    """Each has a pod of its own, on a fake node."""
    return [
        {
            "name": f"t{number}",
            "container": {"image": image, "command": ["true"]},
            "resources": {"gpuMemory": f"{GPU_MEMORY_MIB}Mi"},
            **depends_on(number, count, before),
        }
        for number in range(count)
    ]


Shape = Callable[[int, str], list[Json]]
"""Number of tasks and image -> tasks."""
TINY: dict[str, Shape] = {
    "flat": lambda count, image: fan_out(count),
    "layers": lambda count, image: layers(count),
    "chain": lambda count, image: chain(count),
}
"""Python tasks, which share pods."""
CONTAINERS: dict[str, Shape] = {
    "pods_flat": containers,
    "pods_layers": lambda count, image: containers(count, image, layer_before),
    "pods_chain": lambda count, image: containers(count, image, one_before),
}
SHAPES = TINY | CONTAINERS


def new_name(name: str) -> str:
    return f"scale-{name.replace('_', '-')}-{uuid.uuid4().hex[:8]}"


async def create_run(place: Place, name: str, tasks: list[Json], **spec: Any) -> None:
    """`spec`: more fields of it."""
    body = {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": {"name": name},
        "spec": {"workflow": await put_tasks(place, tasks), "ttlSecondsAfterFinished": TTL, **spec},
    }
    await place.kube.post(runs_path(place.namespace), body)


async def put_tasks(place: Place, tasks: list[Json]) -> Json:
    """The workflow of a Run that has them."""
    if len(tasks) <= INLINE:
        return {"tasks": tasks}
    data = json.dumps(tasks, separators=(",", ":")).encode()
    sha = hashlib.sha256(data).hexdigest()
    await asyncio.to_thread(place.store.put, names.payload_key(sha), data)
    return {"tasksFrom": {"key": names.payload_key(sha), "sha256": sha, "size": len(data)}}


async def succeeded(place: Place, name: str, tasks: int) -> Run:
    """When it has.

    Raises:
        BenchError: it does not, or takes too long.
    """
    runs = place.seen.runs
    seconds = max(LEAST_SECONDS, tasks * SECONDS_A_TASK)
    await place.seen.until(lambda: name in runs and runs[name].phase in ENDED, f"{name} ends", seconds)
    if runs[name].phase != "Succeeded":
        raise BenchError(f"{name}: {json.dumps(runs[name].status)[:2000]}")
    return runs[name]


async def part_done(place: Place, name: str, share: float) -> None:
    """Returns when this share of its tasks has succeeded."""
    await place.seen.until(lambda: _done(place, name) >= share, f"{share:.0%} of {name}", LEAST_SECONDS)


def _done(place: Place, name: str) -> float:
    run = place.seen.runs.get(name)
    counts = run.status.get("counts", {}) if run else {}
    return counts.get("succeeded", 0) / counts["total"] if counts.get("total") else 0.0


async def delete_runs(place: Place, created: Sequence[str]) -> None:
    """Returns when they and their pods are gone."""

    async def delete(name: str) -> None:
        try:
            await place.kube.delete(runs_path(place.namespace, name), {"propagationPolicy": "Background"})
        except KubeError as error:
            if not error.not_found:
                raise

    await each(delete, created)
    await place.seen.until(lambda: place.seen.present.isdisjoint(created), "the Runs are gone", GONE_SECONDS)
    runs = set(created)
    pods = {name for name, pod in place.seen.pods.items() if pod.run in runs}
    await place.seen.until(lambda: place.seen.present.isdisjoint(pods), "the pods of Runs are gone", GONE_SECONDS)
