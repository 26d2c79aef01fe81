"""Workloads as Runs of tiny Python functions, made through the Kubernetes API: no api process and no client in between."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from cpu import Snapshot, snapshot, spent
from floor import Place, Round
from seen import ENDED, BenchError

from maze_crds import names
from maze_crds.base import API_VERSION
from maze_io.kube import KubeError, runs_path

SECONDS = 300.0
TTL = 3600
"""Seconds after which a Run goes by itself, should this program not come to delete it."""
NOW = "import time\ndef f(p):\n    return {'began': time.time()}"
NEXT = "def f(p):\n    return {'n': p['n'] + 1}"
TINY = "def f(p):\n    return {'n': p['n']}"
MAKE = "def f(p):\n    return {'data': bytes([p['n'] % 256]) * p['size']}"
PASS = "def f(p):\n    return {'data': p['data']}"
COUNT = "def f(p):\n    return {'n': len(p['data'])}"
Json = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much of everything one round measures."""

    singles: int = 2
    """Single tasks, single bare pods and chains, one after the other; the round's number is their median."""
    chain: int = 10
    fan_out: int = 50
    """Also the number of bare pods at once."""
    tiny: int = 1000
    items: int = 100
    item_bytes: int = 1_000_000
    large_bytes: int = 64 * 2**20
    few: int = 10
    many: int = 5000
    """Runs in the namespaces that api processes are asked about."""
    asked: int = 200
    """Requests of each kind to each of them."""


SCALES = {
    "default": Sizes(),
    "quick": Sizes(singles=1, fan_out=10, tiny=100, items=4, large_bytes=8 * 2**20, many=500, asked=50),
}


def one() -> list[Json]:
    return [task("t", NOW, ["began"])]


def chain(length: int) -> list[Json]:
    first = task("t0", NEXT, ["n"], n=0)
    return [first, *(task(f"t{n}", NEXT, ["n"], n=f"t{n - 1}.output.n") for n in range(1, length))]


def fan_out(width: int) -> list[Json]:
    return [task(f"t{n}", TINY, ["n"], n=n) for n in range(width)]


def mapped(items: int, size: int) -> list[Json]:
    """Three stages for each item, with `size` bytes (of a pickle) from each to the next."""
    return [one for n in range(items) for one in _stages(f"-{n}", n, size)]


def large(size: int) -> list[Json]:
    return _stages("", 1, size)


def _stages(suffix: str, number: int, size: int) -> list[Json]:
    return [
        task(f"make{suffix}", MAKE, ["data"], n=number, size=size),
        task(f"pass{suffix}", PASS, ["data"], data=f"make{suffix}.output.data"),
        task(f"count{suffix}", COUNT, ["n"], data=f"pass{suffix}.output.data"),
    ]


def task(name: str, source: str, outputs: list[str], **inputs: Any) -> Json:
    """Inputs that are text are references."""
    given = {key: {"from": value} if isinstance(value, str) else {"value": value} for key, value in inputs.items()}
    return {"name": name, "python": {"source": source}, "inputs": given, "outputs": outputs}


async def measure_run(place: Place, tasks: list[Json], name: str, profile: bool = False) -> Round:
    """Seconds from the request that creates the Run: until its first pod is seen, is seen running, and its end is seen.

    And how many writes of ours it took for each task, all told until nothing is left to do, such as making new spares.
    profile: and the CPU seconds of every part of the system for each task, until its end is seen.

    Raises:
        BenchError: it does not succeed in time.
    """
    run = f"bench-{name.replace('_', '-')}-{uuid.uuid4().hex[:6]}"
    spec = {"workflow": {"tasks": tasks}, "ttlSecondsAfterFinished": TTL}
    body = {"apiVersion": API_VERSION, "kind": "Run", "metadata": {"name": run}, "spec": spec}
    writes = await place.at_rest()
    cpu = snapshot() if profile else None
    began = time.time()
    try:
        await place.kube.post(runs_path(place.namespace), body)
        seen = place.seen.runs
        await place.seen.until(lambda: run in seen and seen[run].phase in ENDED, f"{run} ends", SECONDS)
        if seen[run].phase != "Succeeded":
            raise BenchError(f"{run}: {json.dumps(seen[run].status)[:2000]}")
        found = read_cpu(name, cpu, len(tasks))
        after = await place.at_rest()
        found |= {f"{name}.{kind}_writes": (after[kind] - writes[kind]) / len(tasks) for kind in after}
        found[f"{name}.writes"] = sum(after.values()) / len(tasks) - sum(writes.values()) / len(tasks)
        found[f"{name}.ended"] = seen[run].ended - began
        found[f"{name}.rate"] = len(tasks) / found[f"{name}.ended"]
        if len(tasks) == 1:
            found[f"{name}.began"] = await read_output(place, seen[run].uid, "t", "began") - began
    finally:
        await delete_run(place, run)
    pods = [pod for pod in place.seen.pods.values() if pod.run == run and pod.added >= began]
    if pods and not place.spares:
        found[f"{name}.first_pod"] = min(pod.added for pod in pods) - began
        found[f"{name}.running"] = min(pod.running for pod in pods) - began
    return found


def read_cpu(name: str, before: Snapshot | None, tasks: int) -> Round:
    """CPU seconds for each task by part; none where there is nothing to compare with."""
    after = snapshot() if before else None
    if before is None or after is None:
        return {}
    return {f"{name}.cpu.{part}": seconds / tasks for part, seconds in spent(before, after).items()}


async def read_output(place: Place, uid: str, task: str, key: str) -> float:
    data = await asyncio.to_thread(place.store.get, names.result_key(uid, task, 1))
    if data is None:
        raise BenchError(f"no result of {task} in the object store")
    return float(json.loads(data)["outputs"][key]["value"])


async def delete_run(place: Place, run: str) -> None:
    """Returns when it and its pods are gone."""
    try:
        await place.kube.delete(runs_path(place.namespace, run), {"propagationPolicy": "Background"})
    except KubeError as error:
        if not error.not_found:
            raise
    await place.seen.until(lambda: is_gone(place, run), f"{run} and its pods are gone", SECONDS)


def is_gone(place: Place, run: str) -> bool:
    pods = {name for name, pod in place.seen.pods.items() if pod.run == run}
    return run not in place.seen.present and place.seen.present.isdisjoint(pods)
