"""What a task printed: from its pod while it runs, from the object store once it has ended.

The pod prints what the task does and, at times, a line of the runner's own; the stored log is the task's alone. So what a
reader has got from the pod is counted, and only what is missing of it is taken from elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from enum import Enum, auto

from maze_api import metrics
from maze_api.cache import Runs, RunView
from maze_api.errors import Unavailable
from maze_crds import names
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
                async with aclosing(self._from_pod(run, task.name, number, follow=False, skip=0)) as chunks:
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
                aclosing(self._follow(states, task_name, attempt)) as chunks,
            ):
                async for chunk in chunks:
                    yield chunk
        finally:
            self._open -= 1
            metrics.FOLLOWERS.set(self._open)

    async def _follow(self, states: States, task_name: str, attempt: int | None) -> Chunks:
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
                with suppress(KubeError):  # the task's end, or the next try, tells
                    async with aclosing(self._from_pod(run, task_name, number, follow=True, skip=sent)) as chunks:
                        async for chunk in chunks:
                            sent += len(chunk)
                            yield chunk
                again.later()

    async def _from_store(self, run: RunView, task: str, attempt: int, skip: int) -> Chunks:
        if attempt < 1:
            return
        chunks = await self._store.run(self._store.store.get_stream, names.log_key(run.uid, task, attempt))
        while chunks is not None and (chunk := await self._store.run(next, chunks, None)) is not None:
            if len(chunk) > skip:
                yield chunk[skip:]
            skip = max(0, skip - len(chunk))

    async def _from_pod(self, run: RunView, task: str, attempt: int, follow: bool, skip: int) -> Chunks:
        """What the pod of an attempt prints. Always from its first byte, of which `skip` are left out.

        Raises:
            KubeError: not found, not started yet (400), not reachable, or broken off.
        """
        pod = await self._find_pod(run, task, attempt)
        params = {"container": CONTAINER, "follow": "true" if follow else "false"}
        async with aclosing(self._kube.stream(pods_path(self._runs.namespace, pod, "log"), params)) as chunks:
            async for chunk in chunks:
                if len(chunk) > skip:
                    yield chunk[skip:]
                skip = max(0, skip - len(chunk))

    async def _find_pod(self, run: RunView, task: str, attempt: int) -> str:
        labels = {names.LABEL_RUN_UID: run.uid, names.LABEL_TASK: task, names.LABEL_ATTEMPT: str(attempt)}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        path = pods_path(self._runs.namespace)
        found = (await self._runs.kube.get(path, {"labelSelector": selector})).get("items") or ()
        if not found:
            raise KubeError(404, "NotFound", f"attempt {attempt} of task '{task}' has no pod")
        name: str = found[0]["metadata"]["name"]
        return name
