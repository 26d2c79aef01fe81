"""Tasks as /metrics shows them, kept as their Runs change. Every replica of the api shows the same."""

from __future__ import annotations

from maze_api import metrics
from maze_api.cache import Runs
from maze_api.task_index import TaskIndex
from maze_api.task_view import is_task, view_task
from maze_io.cache import Key
from maze_io.kube import Object


class TaskMetrics:
    """Watches the Runs of one cache; made after their index, which it reads."""

    def __init__(self, runs: Runs, tasks: TaskIndex) -> None:
        self._runs, self._tasks = runs, tasks
        runs.subscribe(self._changed)
        self._count()

    def _changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        if is_task(new or old or {"spec": {}}):
            self._count()
            if new is not None and self._runs.synced:  # what had ended before we came was observed by those before us
                observe_end(old, new)

    def _count(self) -> None:
        for state, number in self._tasks.counts().items():
            metrics.TASKS.labels(state.value).set(number)


def observe_end(old: Object | None, new: Object) -> None:
    """Note how long a task took, where this change is its end."""
    task = view_task(new)
    if not task.ended or (old is not None and view_task(old).ended):
        return
    if task.started_at is not None and task.completed_at is not None:
        seconds = max(0.0, (task.completed_at - task.started_at).total_seconds())
        metrics.TASK_SECONDS.labels(task.state.value).observe(seconds)
