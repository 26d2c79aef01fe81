"""Workers claim tasks: who writes `spec.claim` first, guarded by the Run's resourceVersion, has it.

The caches of several api processes may all show a task as waiting, but only one write fits the version that they saw. The
loser reads the Run again and goes on with what is first in the queue then. Within a process a task is reserved while its
claim is being written, so that concurrent claims go for different tasks at once. See claim_notes.py for a worker's limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from maze_api import metrics
from maze_api.cache import Runs
from maze_api.claim_notes import ClaimNotes, Note
from maze_api.errors import Unavailable
from maze_api.task_index import TaskIndex
from maze_api.task_view import TaskView, view_task
from maze_api.worker_cache import WorkerView
from maze_crds.base import format_time
from maze_crds.run import Claim
from maze_io.kube import KubeError, Object, runs_path

TRIES = 500
"""Each lost race means that somebody else has got on."""
SENDS = 3
"""Of one claim whose answer did not come."""


def choose_task(
    waiting: Iterable[TaskView], takes: Callable[[str], bool], passed_over: Container[str]
) -> TaskView | None:
    """The first of the queue that the worker takes."""
    answers: dict[str, bool] = {}  # many tasks, few problems
    for task in waiting:
        taken = answers.get(task.problem_id)
        if taken is None:
            taken = answers[task.problem_id] = takes(task.problem_id)
        if taken and task.id not in passed_over:
            return task
    return None


def build_claim(task: TaskView, worker_id: str, now: datetime) -> Object:
    """`spec.claim` for a task that waits."""
    number = len((task.obj.get("status") or {}).get("assignments") or ()) + 1
    return {"worker": worker_id, "number": number, "time": format_time(now)}


def same_claim(run: Object, claim: Object) -> bool:
    """Whether it is this very claim that the Run has."""
    found = run["spec"].get("claim")
    return bool(found) and Claim.model_validate(found) == Claim.model_validate(claim)


class Claims:
    """The claims that come in through this process.

    Args:
        seconds: how long a worker may be silent after a claim.
    """

    def __init__(self, runs: Runs, tasks: TaskIndex, notes: ClaimNotes, seconds: int) -> None:
        self._runs = runs
        self._tasks = tasks
        self._notes = notes
        self._seconds = seconds
        self._reserved: set[str] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def claim(self, worker: WorkerView) -> TaskView | None:
        """The task that the worker has from now on; None: there is none for it, or it has as many as it can.

        A task that it has claimed counts as its own also where it never heard the answer.

        Raises:
            Unavailable: the Runs are not known yet, or others were faster all the time.
            KubeError: Kubernetes is out of reach.
        """
        if not self._runs.synced:
            raise Unavailable("the tasks could not be listed yet; try again")
        lock = self._locks.setdefault(worker.id, asyncio.Lock())
        async with lock:
            gone: set[str] = set()
            for _ in range(TRIES):
                if self._choose(worker, gone) is None:
                    return None
                before = await self._notes.catch_up(worker)
                task = self._choose(worker, gone)
                if task is None:
                    return None
                self._reserved.add(task.id)
                try:
                    claimed = await self._go_for(task, worker, before, gone)
                finally:
                    self._reserved.discard(task.id)
                if claimed is not None:
                    return claimed
        raise Unavailable("others were faster too often; try again")

    def _choose(self, worker: WorkerView, gone: set[str]) -> TaskView | None:
        if len(self._tasks.of_worker(worker.id)) >= worker.max_parallel_tasks:
            return None
        return choose_task(self._tasks.waiting(), worker.takes, self._reserved | gone)

    async def _go_for(self, task: TaskView, worker: WorkerView, before: Note, gone: set[str]) -> TaskView | None:
        """The task where it is the worker's now; else look again. `gone` gets it where there is no such Run."""
        now = datetime.now(UTC)
        if not await self._notes.take_turn(worker, task.id, now, before, self._seconds):
            return None
        while True:
            claimed, exists = await self._write(task, worker.id, now)
            if not exists:
                gone.add(task.id)
                return None
            known = self._tasks.get(task.id)
            if claimed is not None or known is None or not known.waits:
                return claimed
            task = known  # only its status has changed: it is still the first

    async def _write(self, task: TaskView, worker_id: str, now: datetime) -> tuple[TaskView | None, bool]:
        """Try to claim; the task where it worked, and whether there is such a Run at all."""
        path = runs_path(self._runs.namespace, task.id)
        claim = build_claim(task, worker_id, now)
        version = {"resourceVersion": task.obj["metadata"]["resourceVersion"]}
        for sent in range(SENDS):
            try:
                made = await self._runs.kube.patch(path, {"metadata": version, "spec": {"claim": claim}})
            except KubeError as error:
                if error.not_found:
                    return None, False
                if error.conflict:
                    return await self._read_again(path, claim)
                if not error.temporary or sent == SENDS - 1:
                    raise
            else:
                self._runs.put(made)
                return view_task(made), True
        raise AssertionError("the last try returns or raises")

    async def _read_again(self, path: str, claim: Object) -> tuple[TaskView | None, bool]:
        """After a conflict: the queue learns how the Run is. It may be our own claim whose answer did not come."""
        try:
            fresh = await self._runs.kube.get(path)
        except KubeError as error:
            if error.not_found:
                return None, False
            raise
        self._runs.put(fresh)
        if same_claim(fresh, claim):
            return view_task(fresh), True
        metrics.CLAIMS.labels("lost").inc()
        return None, True
