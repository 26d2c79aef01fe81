"""The floor: bare pods, made by the shortest script there is. Nothing that makes a pod for each task can be faster."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from seen import BenchError, Seen
from spares import all_ready
from writes import Counts, Writes

from maze_io.kube import Kube, KubeError, pods_path
from maze_io.store import ObjectStore

PROGRAM = "import time; open('/dev/termination-log', 'w').write(str(time.time()))"
SECONDS = 180.0
AT_ONCE = 100
"""Requests under way at once: as many as a client has connections, for the time that one waits for a connection counts, too."""
Json = dict[str, Any]
Round = dict[str, float]
"""Name of a measure -> what it was."""


@dataclass(frozen=True)
class Place:
    """Where is measured: a namespace, and everything that looks at it.

    `image`: the one that runs Python tasks. `spares`: pods that the operator keeps ready there.
    """

    kube: Kube
    namespace: str
    seen: Seen
    writes: Writes
    store: ObjectStore
    image: str
    spares: int = 0

    async def at_rest(self) -> Counts:
        """Returns when nothing is left of what was before: all spares are ready, and the operator writes no more.

        Its writes so far.
        """
        if self.spares:
            await all_ready(self.kube, self.seen, self.spares)
        return await self.writes.settled()


async def each(call: Callable[[str], Awaitable[Any]], names: Iterable[str]) -> None:
    """Calls it for all of them, AT_ONCE at once."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with free:
            await call(name)

    await asyncio.gather(*(one(name) for name in names))


async def measure_bare(place: Place, count: int, name: str) -> Round:
    """So many at once; seconds from the first request until the last one's code runs, it is seen running, and succeeded."""
    prefix = f"bare-{uuid.uuid4().hex[:6]}-"
    made = [f"{prefix}{number}" for number in range(count)]
    path, pods = pods_path(place.namespace), place.seen.pods
    began = time.time()
    try:
        await each(lambda one: place.kube.post(path, build_pod(one, place.image)), made)
        await place.seen.until(
            lambda: all(one in pods and pods[one].phase in ("Succeeded", "Failed") for one in made),
            f"{count} bare pods end",
            SECONDS,
        )
        if failed := [one for one in made if pods[one].phase == "Failed"]:
            raise BenchError(f"{len(failed)} of {count} bare pods failed: {pods[failed[0]].message}")
    finally:
        await delete_pods(place, made)
    return {
        f"{name}.began": max(float(pods[one].message) for one in made) - began,
        f"{name}.running": max(pods[one].running for one in made) - began,
        f"{name}.ended": max(pods[one].ended for one in made) - began,
    }


def build_pod(name: str, image: str) -> Json:
    container = {"name": "bare", "image": image, "command": ["python3", "-S", "-c", PROGRAM]}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def delete_pods(place: Place, made: list[str]) -> None:
    """Returns when they are gone: no measure is taken beside what an earlier one left."""

    async def delete(name: str) -> None:
        try:
            await place.kube.delete(pods_path(place.namespace, name), {"gracePeriodSeconds": 0})
        except KubeError as error:
            if not error.not_found:
                raise

    await each(delete, made)
    await place.seen.until(lambda: place.seen.present.isdisjoint(made), "the bare pods are gone", SECONDS)
