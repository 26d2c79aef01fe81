"""All tasks of the Task Executor by what is asked of them, kept as their Runs change.

A change costs the logarithm of the number of tasks (and moves pointers in a list, which thousands of tasks don't feel).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from datetime import datetime
from typing import TypeAlias

from maze_api.cache import Runs
from maze_api.task_view import TaskState, TaskView, is_task, view_task
from maze_crds.queue import Order
from maze_io.cache import Key
from maze_io.kube import Object

Tasks: TypeAlias = list[TaskView]


class TaskIndex:
    """The tasks among the Runs of one cache. What it tells is as new as the cache."""

    def __init__(self, runs: Runs) -> None:
        self._tasks: dict[str, TaskView] = {}
        self._queue: list[Order] = []
        self._by_age: list[tuple[datetime, str]] = []
        self._running: dict[str, dict[str, TaskView]] = {}
        self._counts = dict.fromkeys(TaskState, 0)
        for obj in runs.objects():
            self._put(obj)
        runs.subscribe(self._changed)

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, task_id: str) -> TaskView | None:
        return self._tasks.get(task_id)

    def waiting(self) -> Iterator[TaskView]:
        """Those that a worker may take now, in the order of the queue.

        The queue may change while this is read: whoever left it is left out, and newcomers further back are met.
        """
        at = 0
        while at < len(self._queue):
            order = self._queue[at]
            yield self._tasks[order[2]]
            at = bisect_right(self._queue, order)

    def of_worker(self, worker_id: str) -> Tasks:
        """The running tasks of a worker, oldest first."""
        found = self._running.get(worker_id, {}).values()
        return sorted(found, key=lambda task: (task.started_at or task.created_at, task.id))

    def list(
        self, state: TaskState | None = None, problem_id: str | None = None, worker_id: str | None = None
    ) -> Tasks:
        """Tasks that fit all that is asked for, newest first."""
        newest = (self._tasks[name] for _, name in reversed(self._by_age))
        return [
            task
            for task in newest
            if (state is None or task.state is state)
            and (problem_id is None or task.problem_id == problem_id)
            and (worker_id is None or task.worker_id == worker_id)
        ]

    def counts(self) -> dict[TaskState, int]:
        """How many tasks there are of each state."""
        return dict(self._counts)

    def _changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        known = self._tasks.pop(key[1], None)
        if known is not None:
            self._take_out(known)
        if new is not None:
            self._put(new)

    def _put(self, obj: Object) -> None:
        if not is_task(obj):
            return
        task = view_task(obj)
        self._tasks[task.id] = task
        self._counts[task.state] += 1
        insort(self._by_age, (task.created_at, task.id))
        if task.waits:
            insort(self._queue, task.order)
        if task.state is TaskState.RUNNING and task.worker_id is not None:
            self._running.setdefault(task.worker_id, {})[task.id] = task

    def _take_out(self, task: TaskView) -> None:
        self._counts[task.state] -= 1
        del self._by_age[bisect_left(self._by_age, (task.created_at, task.id))]
        if task.waits:
            del self._queue[bisect_left(self._queue, task.order)]
        if task.state is TaskState.RUNNING and task.worker_id is not None:
            held = self._running[task.worker_id]
            del held[task.id]
            if not held:
                del self._running[task.worker_id]
