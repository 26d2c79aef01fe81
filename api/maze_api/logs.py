"""What a task printed: from its pod while it runs, from the object store once it has ended.

The pod prints what the task does and, at times, a line of the runner's own; the stored log is the task's alone. So what a
reader has got from the pod is counted, and only what is missing of it is taken from elsewhere. A pod that several tasks share
prints a marker before each of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from enum import Enum, auto

from maze_api import metrics
from maze_api.cache import Runs, RunView
from maze_api.errors import Unavailable
from maze_crds import names
from maze_crds.base import format_time
from maze_crds.podlog import Cutter
from maze_crds.run import TERMINAL_TASKS, TaskPhase, TaskStatus
from maze_io.kube import Kube, KubeError, pods_path
from maze_io.store import AsyncStore

CONTAINER = "task"
"""Name of the container in the pod of a task, as the operator makes it."""
AGAIN_SECONDS = (0.2, 2.0)
"""When a pod has nothing (more) to say and nobody has said that the task has ended, it is asked again after this, and each
time after twice as long. The kubelet gives the log of a container about a second after its start."""

MOST_FOLLOWERS = 200
"""Of one api process."""
CLOCKS_DIFFER = timedelta(minutes=5)
"""At most, between a node and the operator. From so long before its start the log of a shared pod is read for a task."""
NOT_THERE = (400, 404)
"""The pod's container has not started, or there is no pod (any more)."""

Chunks = AsyncGenerator[bytes, None]
States = AsyncGenerator[RunView | None, None]


class Standing(Enum):
    TO_COME = auto()
    RUNNING = auto()
    ENDED = auto()


def standing(task: TaskStatus, attempt: int) -> Standing:
    """How it is with one attempt. Pending with an attempt means: that one has failed, and the next is waited for."""
    if attempt > task.attempt:
        return Standing.TO_COME
    if attempt < task.attempt or task.phase in TERMINAL_TASKS or task.phase is TaskPhase.PENDING:
        return Standing.ENDED
    return Standing.RUNNING if task.phase is TaskPhase.RUNNING else Standing.TO_COME


def is_over(task: TaskStatus, attempt: int) -> bool:
    """Whether nothing more is to come from this attempt: it has ended, or there will never be one of this number."""
    return standing(task, attempt) is Standing.ENDED or task.phase in TERMINAL_TASKS


class Again:
    """When to ask a pod again."""

    def __init__(self) -> None:
        self._delay, last = AGAIN_SECONDS
        self._last = last
        self._due = 0.0

    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def later(self) -> None:
        self._due = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, self._last)


class Logs:
    """The logs of all tasks. `kube` is a client of its own: each follower holds a connection for as long as a task runs."""

    def __init__(self, kube: Kube, runs: Runs, store: AsyncStore) -> None:
        self._kube, self._runs, self._store = kube, runs, store
        self._open = 0

    def require_room(self) -> None:
        """Raise Unavailable where MOST_FOLLOWERS are here already."""
        if self._open >= MOST_FOLLOWERS:
            raise Unavailable(f"{self._open} logs are being followed already; try again, or read without follow")

    async def read(self, run: RunView, task: TaskStatus, attempt: int | None) -> Chunks:
        """What there is now; nothing for an attempt that has not started or has left no log. `attempt`: default the last.

        Raises:
            KubeError, StoreError: out of reach.
        """
        number = task.attempt if attempt is None else attempt
        now = standing(task, number)
        if now is Standing.RUNNING:
            try:
                async with aclosing(self._from_pod(run, task, follow=False, skip=0)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except KubeError as error:
                if error.status not in NOT_THERE:
                    raise
            now = Standing.ENDED
        if now is Standing.ENDED:
            async for chunk in self._from_store(run, task.name, number, skip=0):
                yield chunk

    async def follow(self, name: str, task_name: str, attempt: int | None) -> Chunks:
        """The same and what is to come, until the task (or the attempt that was asked for) has ended or the Run is deleted.

        Raises:
            StoreError: out of reach.
        """
        self._open += 1
        metrics.FOLLOWERS.set(self._open)
        try:
            async with (
                aclosing(self._runs.states(name, AGAIN_SECONDS[0])) as states,
                aclosing(self._follow(name, states, task_name, attempt)) as chunks,
            ):
                async for chunk in chunks:
                    yield chunk
        finally:
            self._open -= 1
            metrics.FOLLOWERS.set(self._open)

    async def _follow(self, name: str, states: States, task_name: str, attempt: int | None) -> Chunks:
        number, sent, again = attempt, 0, Again()
        async for run in states:
            task = run.task(task_name) if run is not None else None
            if run is None or task is None:
                return
            if number is None:
                number = max(task.attempt, 1)
            while is_over(task, number):
                async for chunk in self._from_store(run, task_name, number, sent):
                    yield chunk
                if attempt is not None or (number >= task.attempt and task.phase in TERMINAL_TASKS):
                    return
                number, sent, again = number + 1, 0, Again()
            if standing(task, number) is Standing.RUNNING and again.is_due():
                over = asyncio.create_task(self._await_end(name, task_name, number))
                try:
                    async with aclosing(self._from_pod(run, task, follow=True, skip=sent)) as chunks:
                        async for chunk in _until(over, chunks):
                            sent += len(chunk)
                            yield chunk
                except KubeError:
                    pass  # the task's end, or the next try, tells
                finally:
                    over.cancel()
                again.later()

    async def _await_end(self, name: str, task_name: str, attempt: int) -> None:
        async with aclosing(self._runs.states(name)) as states:
            async for run in states:
                task = run.task(task_name) if run is not None else None
                if task is None or is_over(task, attempt):
                    return

    async def _from_store(self, run: RunView, task: str, attempt: int, skip: int) -> Chunks:
        if attempt < 1:
            return
        chunks = await self._store.run(self._store.store.get_stream, names.log_key(run.uid, task, attempt))
        while chunks is not None and (chunk := await self._store.run(next, chunks, None)) is not None:
            if len(chunk) > skip:
                yield chunk[skip:]
            skip = max(0, skip - len(chunk))

    async def _from_pod(self, run: RunView, task: TaskStatus, follow: bool, skip: int) -> Chunks:
        """What the pod prints for the attempt that runs. Always from its first byte, of which `skip` are left out.

        Raises:
            KubeError: not found, not started yet (400), not reachable, or broken off.
        """
        pod, shared = await self._find_pod(run, task)
        params = {"container": CONTAINER, "follow": "true" if follow else "false"}
        if shared and task.start_time is not None:
            params["sinceTime"] = format_time(task.start_time - CLOCKS_DIFFER)
        cutter = Cutter(names.log_marker(task.name, task.attempt)) if shared else None
        async with aclosing(self._kube.stream(pods_path(self._runs.namespace, pod, "log"), params)) as chunks:
            async for chunk in chunks:
                own = cutter.take(chunk) if cutter else chunk
                if len(own) > skip:
                    yield own[skip:]
                skip = max(0, skip - len(own))
        if cutter:
            yield cutter.end()[skip:]

    async def _find_pod(self, run: RunView, task: TaskStatus) -> tuple[str, bool]:
        """Its name, and whether other tasks use it, too."""
        pod = await self._runs.kube.get(pods_path(self._runs.namespace, task.pod)) if task.pod else {}
        labels = pod.get("metadata", {}).get("labels", {})
        if labels.get(names.LABEL_RUN_UID) != run.uid:
            raise KubeError(404, "NotFound", f"attempt {task.attempt} of task '{task.name}' has no pod")
        return pod["metadata"]["name"], names.LABEL_SHAPE in labels


async def _until(end: asyncio.Task[None], chunks: Chunks) -> Chunks:
    """What comes before `end` is done."""
    while True:
        following = asyncio.ensure_future(anext(chunks, None))
        try:
            await asyncio.wait({following, end}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                return
        finally:
            following.cancel()
            await asyncio.wait({following})
        chunk = following.result()
        if chunk is None:
            return
        yield chunk
