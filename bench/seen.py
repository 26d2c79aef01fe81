"""What a watch shows of the Runs and pods of one namespace, and when it showed it: the clock of every benchmark here.

Times are seconds of time.time(), the clock that a function in a pod has, too; the cluster's nodes must agree on it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from maze_crds import names
from maze_io.cache import Changed, Replaced
from maze_io.kube import Kube, pods_path, runs_path

ENDED = ("Succeeded", "Failed", "Cancelled")
SYNC_SECONDS = 30.0
Json = dict[str, Any]
Path = Callable[[str], str]
"""Namespace -> path of a list."""


class BenchError(Exception):
    """Something that was to be measured did not happen; the text says what."""


@dataclass
class Pod:
    """`run`: the name of its Run, or "" for a bare pod and for a spare that waits for one.

    A pod that is never shown as running runs when its end is shown.
    """

    added: float
    run: str = ""
    spare: bool = False
    running: float = math.inf
    ended: float = math.inf
    phase: str = ""
    message: str = ""
    """What it left in its termination log."""


@dataclass
class Run:
    uid: str
    ended: float = math.inf
    phase: str = ""
    status: Json = field(default_factory=dict)


class Seen:
    """`pods` and `runs` by name, also those that are gone; `present`: names of the pods and Runs that are there now."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.runs: dict[str, Run] = {}
        self.present: set[str] = set()
        self._changed = asyncio.Event()

    def spares(self) -> list[str]:
        """Names of the pods that wait for a Run."""
        return [name for name, pod in self.pods.items() if pod.spare and name in self.present]

    async def until(self, holds: Callable[[], bool], what: str, seconds: float) -> None:
        """Returns when it holds.

        Raises:
            BenchError: it did not within `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise BenchError(f"after {seconds:.0f} s not yet: {what}") from None

    def take(self, kind: str, obj: Json, at: float) -> None:
        """One object as the watch showed it."""
        name = obj["metadata"]["name"]
        if kind == "DELETED":
            self.present.discard(name)
        else:
            self.present.add(name)
            (self._take_run if obj.get("kind") == "Run" else self._take_pod)(name, obj, at)
        self._changed.set()

    def _take_run(self, name: str, obj: Json, at: float) -> None:
        run = self.runs.setdefault(name, Run(obj["metadata"]["uid"]))
        run.status = obj.get("status") or {}
        run.phase = run.status.get("phase", "")
        if run.phase in ENDED:
            run.ended = min(run.ended, at)

    def _take_pod(self, name: str, obj: Json, at: float) -> None:
        pod = self.pods.setdefault(name, Pod(at))
        labels = obj["metadata"].get("labels") or {}
        pod.run, pod.spare = labels.get(names.LABEL_RUN, ""), names.LABEL_SPARE in labels
        status = obj.get("status") or {}
        pod.phase = status.get("phase", "")
        if pod.phase in ("Running", "Succeeded", "Failed"):
            pod.running = min(pod.running, at)
        if pod.phase in ("Succeeded", "Failed"):
            pod.ended = min(pod.ended, at)
        for container in status.get("containerStatuses") or ():
            pod.message = (container["state"].get("terminated") or {}).get("message", "") or pod.message


@asynccontextmanager
async def watched(kube: Kube, namespace: str, paths: Sequence[Path] = (runs_path, pods_path)) -> AsyncIterator[Seen]:
    """Watches for as long as the block lasts; `paths`: of what."""
    seen = Seen()
    synced = [asyncio.Event() for _ in paths]

    async def follow(path: str, ready: asyncio.Event) -> None:
        async for event in kube.list_and_watch(path):
            at = time.time()
            if isinstance(event, Replaced):
                for obj in event.items:
                    seen.take("ADDED", obj, at)
                ready.set()
            elif isinstance(event, Changed):
                seen.take(event.type, event.object, at)

    tasks = [asyncio.create_task(follow(path(namespace), ready)) for path, ready in zip(paths, synced, strict=True)]
    try:
        async with asyncio.timeout(SYNC_SECONDS):
            await asyncio.gather(*(ready.wait() for ready in synced))
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
