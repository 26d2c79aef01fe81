"""What a task printed: from its pod while it runs, from the object store once it has ended.

The pod prints what the task does and, at times, a line of the runner's own; the stored log is the task's alone. So what a
reader has got from the pod is counted, and only what is missing of it is taken from elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import Enum, auto

import aiohttp

from maze_api.cache import Runs, RunView
from maze_crds import names
from maze_crds.run import TERMINAL_TASKS, TaskPhase, TaskStatus
from maze_io.kube import Kube, KubeError, pods_path
from maze_io.store import AsyncStore

CONTAINER = "task"
"""Name of the container in the pod of a task, as the operator makes it."""
AGAIN_SECONDS = 2.0
"""When the stream from a pod has ended and nobody has said that the task has, it is opened again after this."""

Chunks = AsyncGenerator[bytes, None]


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


async def read_log(runs: Runs, store: AsyncStore, run: RunView, task: TaskStatus, attempt: int | None) -> Chunks:
    """What there is now; nothing for an attempt that has not started or has left no log. `attempt`: default the last.

    Raises:
        KubeError, StoreError: out of reach.
    """
    number = task.attempt if attempt is None else attempt
    now = standing(task, number)
    if now is Standing.RUNNING:
        try:
            async for chunk in _from_pod(runs, run, task.name, number, follow=False, skip=0):
                yield chunk
            return
        except KubeError as error:
            if not _not_there(error):
                raise
        now = Standing.ENDED
    if now is Standing.ENDED:
        async for chunk in _from_store(store, run, task.name, number, skip=0):
            yield chunk


async def follow_log(runs: Runs, store: AsyncStore, name: str, task_name: str, attempt: int | None) -> Chunks:
    """The same and what is to come, until the task (or the attempt that was asked for) has ended or the Run is deleted.

    Raises:
        StoreError: out of reach.
    """
    number, sent = attempt, 0
    async with aclosing(runs.states(name, AGAIN_SECONDS)) as states:
        async for run in states:
            task = run.task(task_name) if run is not None else None
            if run is None or task is None:
                return
            if number is None:
                number = max(task.attempt, 1)
            while standing(task, number) is Standing.ENDED or (task.attempt < number and task.phase in TERMINAL_TASKS):
                async for chunk in _from_store(store, run, task_name, number, sent):
                    yield chunk
                if attempt is not None or (number >= task.attempt and task.phase in TERMINAL_TASKS):
                    return
                number, sent = number + 1, 0
            if standing(task, number) is Standing.RUNNING:
                try:
                    async for chunk in _from_pod(runs, run, task_name, number, follow=True, skip=sent):
                        sent += len(chunk)
                        yield chunk
                except KubeError:
                    continue  # its end, or the next try, tells


async def _from_store(store: AsyncStore, run: RunView, task: str, attempt: int, skip: int) -> Chunks:
    if attempt < 1:
        return
    chunks = await store.run(store.store.get_stream, names.log_key(run.uid, task, attempt))
    while chunks is not None and (chunk := await store.run(next, chunks, None)) is not None:
        if len(chunk) > skip:
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))


async def _from_pod(runs: Runs, run: RunView, task: str, attempt: int, follow: bool, skip: int) -> Chunks:
    """What the pod of an attempt prints. Always from its first byte, of which `skip` are left out.

    Raises:
        KubeError: not found, not started yet (400), not reachable, or broken off.
    """
    pod = await _find_pod(runs, run, task, attempt)
    params = {"container": CONTAINER, "follow": "true" if follow else "false"}
    async with aclosing(_stream(runs.kube, pods_path(runs.namespace, pod, "log"), params)) as chunks:
        async for chunk in chunks:
            if len(chunk) > skip:
                yield chunk[skip:]
            skip = max(0, skip - len(chunk))


async def _find_pod(runs: Runs, run: RunView, task: str, attempt: int) -> str:
    labels = {names.LABEL_RUN_UID: run.uid, names.LABEL_TASK: task, names.LABEL_ATTEMPT: str(attempt)}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    found = (await runs.kube.get(pods_path(runs.namespace), {"labelSelector": selector})).get("items") or ()
    if not found:
        raise KubeError(404, "NotFound", f"attempt {attempt} of task '{task}' has no pod")
    name: str = found[0]["metadata"]["name"]
    return name


async def _stream(kube: Kube, path: str, params: dict[str, str]) -> Chunks:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    try:
        async with await kube._open("GET", path, params, timeout) as response:
            async for chunk in response.content.iter_any():
                yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise KubeError(0, "Unreachable", f"the stream of {path} broke off: {error}") from error


def _not_there(error: KubeError) -> bool:
    """No pod (any more), or its container has not started."""
    return error.status in (400, 404)
