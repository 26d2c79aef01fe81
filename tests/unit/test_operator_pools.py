"""A pool of thousands does not hold up anybody else's, and follows what is wished meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from maze_crds.queue import EPOCH
from maze_crds.run import Assignment, AssignmentEnd, RunStatus
from maze_crds.worker import WorkerState
from maze_io.cache import Cache, Changed
from maze_io.kube import Kube
from maze_operator.pools import ROUND, Pools, pools_path
from maze_operator.statuses import ROUND as WRITES
from maze_operator.statuses import Statuses

Json = dict[str, Any]
pytestmark = pytest.mark.anyio
MANY = 10_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Api:
    """Stands for the Kubernetes API; `workers` is told of what it deletes."""

    def __init__(self, workers: Cache) -> None:
        self.workers = workers
        self.version = 1
        self.objects: dict[str, Json] = {}
        self.calls: list[str] = []
        self.written = asyncio.Event()

    def made(self, path: str, body: Json) -> Json:
        self.version += 1
        metadata = {"uid": path, "generation": 1, **body["metadata"], "resourceVersion": str(self.version)}
        self.objects[path] = {**body, "metadata": metadata}
        return self.objects[path]

    async def post(self, path: str, body: Json) -> Json:
        await asyncio.sleep(0)
        self.calls.append(path)
        return self.made(f"{path}/{body['metadata']['name']}", body)

    async def delete(self, path: str, options: Json) -> Json:
        await asyncio.sleep(0)
        gone = self.made(path, self.objects[path])
        del self.objects[path]
        self.workers.apply(Changed("DELETED", gone))
        return gone

    async def patch(self, path: str, body: Json) -> Json:
        await asyncio.sleep(0)
        self.calls.append(path)
        path = path.removesuffix("/status")
        old = self.objects[path]
        self.written.set()
        return self.made(path, {**old, "status": old.get("status", {}) | body["status"]})


def pool(api: Api, namespace: str, replicas: int, generation: int = 1) -> Changed:
    metadata = {"name": "internal", "namespace": namespace, "generation": generation}
    return Changed(
        "ADDED", api.made(pools_path(namespace, "internal"), {"metadata": metadata, "spec": {"replicas": replicas}})
    )


def status_of(api: Api, namespace: str) -> Json:
    found: Json = api.objects[pools_path(namespace, "internal")].get("status", {})
    return found


async def until(api: Api, namespace: str, holds: Callable[[Json], bool]) -> Json:
    """Await what the status of the pool says."""
    async with asyncio.timeout(60):
        while not holds(status_of(api, namespace)):
            api.written.clear()
            await api.written.wait()
    return status_of(api, namespace)


async def test_a_pool_of_thousands_holds_up_no_other_and_can_be_made_small_again() -> None:
    workers, opened = Cache(), dict[str, list[str]]()
    api = Api(workers)
    pools = Pools(cast(Kube, api), workers, lambda one, members: opened.update({one: list(members)}), lambda *_: False)
    pools.pools.apply(pool(api, "large", MANY))
    keeping = asyncio.create_task(pools.keep())
    first = await until(api, "large", lambda status: "replicas" in status)
    assert (len(first["members"]), first["replicas"]) == (MANY, ROUND)
    assert len(opened["large"]) >= ROUND, "who is there takes Runs already"

    pools.pools.apply(pool(api, "small", 1))
    await until(api, "small", lambda status: status.get("replicas") == 1)
    assert sum("/large/" in path for path in api.calls) < 4 * ROUND

    pools.pools.apply(pool(api, "large", 3, generation=2))
    await until(api, "large", lambda status: (status.get("observedGeneration"), status.get("replicas")) == (2, 3))
    assert sum("/large/" in path for path in api.calls) < 10 * ROUND, "what is not wanted any more is not made"
    assert sum("/large/workers/" in path for path in api.objects) == 3
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_counter_is_not_written_after_the_states_of_thousands() -> None:
    workers = Cache()
    api = Api(workers)
    statuses = Statuses(cast(Kube, api), workers, lambda *_: WorkerState.IDLE)
    for namespace, number in [*(("large", one) for one in range(1000)), ("small", 0)]:
        path = f"/apis/maze.dev/v1alpha1/namespaces/{namespace}/workers/w-{number}"
        body = {"metadata": {"name": f"w-{number}", "namespace": namespace}, "spec": {"workerId": f"w-{number}"}}
        workers.apply(Changed("ADDED", api.made(path, body)))
        statuses.mark(namespace, f"w-{number}")
    open_ = Assignment(number=1, worker="w-999", start_time=EPOCH, start_event=1)
    ended = open_.model_copy(update={"end": AssignmentEnd.COMPLETED})
    statuses.count("large", RunStatus(assignments=[open_]), RunStatus(assignments=[ended]))
    await statuses.flush(WRITES)
    assert len(api.calls) == WRITES
    assert {path.split("/")[5] + path.split("/")[7] for path in api.calls[:2]} == {"largew-999", "smallw-0"}
    await statuses.flush()
    assert len(api.calls) == 1001
