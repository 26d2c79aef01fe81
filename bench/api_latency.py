"""Calls of the api among few Runs and among many: create, get and list, and what the Runs cost api and operator in memory.

Two api processes of this program's own, each with a namespace of its own, are asked in turn, so that what else the machine
does falls on both alike. The Runs are suspended; those that are created wait for a worker that never comes, and are
deleted again after each round: no pod is made.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from floor import Round
from machine import read_parts, resident
from seen import BenchError, watched
from tasks import Sizes, one

from cluster import KUBECONFIG, Cluster
from maze_crds.base import API_VERSION
from maze_io.kube import Kube, runs_path, workflows_path
from own_api import OwnApi, own_api, own_namespace

AT_ONCE = 32
SETTLE_SECONDS = 300.0
SECONDS = 60
PAGE = 10
PROBLEM = "bench"
Json = dict[str, Any]


@dataclass
class Asked:
    """One api process; `name` ("few", "many") is a part of the names of measures."""

    name: str
    api: OwnApi
    runs: list[str]
    session: requests.Session


def measure_api(sizes: Sizes, rounds: int, say: Callable[[str], None]) -> Iterator[Round]:
    """A round each time; times in seconds, memory (in the first round only) in bytes."""
    cluster = Cluster()
    try:
        with ExitStack() as stack:
            asked = []
            memory = {f"memory.{part}": size for part, size in asyncio.run(_parts()).items()}
            for name, count in (("few", sizes.few), ("many", sizes.many)):
                namespace = stack.enter_context(own_namespace(cluster))
                say(f"making {count} suspended Runs")
                runs = asyncio.run(fill(namespace, count))
                settings = {"LOG_LEVEL": "warning", "AUTO_START_WORKERS": "false"}
                api = stack.enter_context(own_api(namespace, **settings))
                asked.append(Asked(name, api, runs, stack.enter_context(requests.Session())))
            say(f"asking two api processes, {sizes.asked} times each")
            for number in range(rounds):
                found = measure_round(asked, sizes.asked)
                if number == 0:
                    found |= memory | {f"api.{one.name}.memory": resident(one.api.pid) for one in asked}
                    found |= {f"memory.many.{part}": size for part, size in asyncio.run(_parts()).items()}
                yield found
    finally:
        cluster.close()


def measure_round(asked: list[Asked], count: int) -> Round:
    """Every kind of request to each api in turn."""
    found: Round = {}
    with deleted_afterwards(asked) as created:
        kinds: dict[str, Callable[[Asked, int], Json]] = {
            "get": lambda one, n: call(one, "GET", f"/api/maze/runs/{one.runs[n * 7919 % len(one.runs)]}"),
            "list": lambda one, _: call(one, "GET", f"/api/maze/runs?limit={PAGE}"),
            "create": lambda one, _: call(one, "POST", "/api/v1/tasks", json={"problem_id": PROBLEM}),
        }
        for kind, ask in kinds.items():
            times: dict[str, list[float]] = {one.name: [] for one in asked}
            for number in range(count):
                for one in asked:
                    began = time.perf_counter()
                    answer = ask(one, number)
                    times[one.name].append(time.perf_counter() - began)
                    if kind == "create":
                        created.append((one.api.namespace, answer["id"]))
            for name, taken in times.items():
                cut = quantiles(taken, n=100)
                found |= {f"api.{name}.{kind}.p50": cut[49], f"api.{name}.{kind}.p99": cut[98]}
    return found


def call(one: Asked, method: str, path: str, **more: Any) -> Json:
    answer = one.session.request(method, one.api.url + path, timeout=SECONDS, **more)
    if not answer.ok:
        raise BenchError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
    found: Json = answer.json()
    return found


@contextmanager
def deleted_afterwards(asked: list[Asked]) -> Iterator[list[tuple[str, str]]]:
    """Namespaces and names of Runs that are made in the block; the api processes have seen them go when it ends."""
    made: list[tuple[str, str]] = []
    try:
        yield made
    finally:
        asyncio.run(delete(made))
        for namespace, name in made[-len(asked) :]:
            one = next(each for each in asked if each.api.namespace == namespace)
            deadline = time.monotonic() + SECONDS
            while one.session.get(f"{one.api.url}/api/maze/runs/{name}", timeout=SECONDS).status_code != 404:
                if time.monotonic() > deadline:
                    raise BenchError(f"the api still shows {name}, which has been deleted {SECONDS} s ago")
                time.sleep(0.05)


async def fill(namespace: str, count: int) -> list[str]:
    """Names of so many suspended Runs; returns when the operator has seen to all of them. And a Workflow for new tasks."""
    made = [f"held-{number}" for number in range(count)]
    kube = await Kube.connect(KUBECONFIG, limit=AT_ONCE + 4)
    try:
        await kube.post(workflows_path(namespace), build("Workflow", PROBLEM, problems=[PROBLEM], tasks=one()))
        async with watched(kube, namespace) as seen:
            await at_once([partial(kube.post, runs_path(namespace), held(name)) for name in made])
            runs = seen.runs
            await seen.until(
                lambda: len(runs) == count and all(run.status for run in runs.values()),
                f"the operator has seen {count} suspended Runs",
                SETTLE_SECONDS,
            )
    finally:
        await kube.close()
    return made


def held(name: str) -> Json:
    return build("Run", name, workflow={"tasks": one()}, desiredState="Suspended")


def build(kind: str, name: str, **spec: Any) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def delete(made: list[tuple[str, str]]) -> None:
    kube = await Kube.connect(KUBECONFIG, limit=AT_ONCE)
    try:
        await at_once([partial(kube.delete, runs_path(*key)) for key in made])
    finally:
        await kube.close()


async def at_once(calls: list[Callable[[], Any]]) -> None:
    """All of them, AT_ONCE at a time."""
    waiting = iter(calls)

    async def some() -> None:
        for each in waiting:
            await each()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


async def _parts() -> dict[str, float]:
    kube = await Kube.connect(KUBECONFIG)
    try:
        return await read_parts(kube)
    finally:
        await kube.close()
