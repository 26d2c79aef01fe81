"""The tasks of a large Run in TaskSlices: which belong together, and what a slice keeps of its past."""

from __future__ import annotations

from collections.abc import Sequence

from maze_crds.run import SLICED, TaskPhase, TaskStatus

Slice = tuple[TaskStatus, ...]
"""What one TaskSlice tells: tasks without those of which there is nothing to tell."""


def is_sliced(tasks: int) -> bool:
    """Whether a Run of so many tasks has them in TaskSlices."""
    return tasks > SLICED


def cut(tasks: Sequence[TaskStatus]) -> list[Slice]:
    """All tasks of a Run, in the order of its workflow, slice by slice."""
    return [
        tuple(task for task in tasks[start : start + SLICED] if not _is_untold(task))
        for start in range(0, len(tasks), SLICED)
    ]


def _is_untold(task: TaskStatus) -> bool:
    return task.phase == TaskPhase.PENDING and task.attempt == 0 and task.reason is None


def undone(old: Slice, new: Slice) -> Slice:
    """What makes `old` of `new` again, name by name: tasks that differ, as they were."""
    were = {task.name: task for task in old}
    changed = [was for task in new if (was := were.pop(task.name, None) or TaskStatus(name=task.name)) != task]
    return (*changed, *were.values())
