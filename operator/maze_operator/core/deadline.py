"""The time limit of a whole Run: `timeoutSeconds` from its start, or from the start of the worker's assignment.

The runner is to stop a task that would run past the deadline, because it keeps the log and says what happened: so a lease
ends with the Run. The operator steps in where nobody else does: at once for containers and for what has not started, and
`runner_grace` later for tasks in a runner.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from maze_crds.run import RunSpec, RunStatus, TaskPhase, TaskStatus
from maze_crds.workflow import Task


def deadline(spec: RunSpec, status: RunStatus) -> datetime | None:
    """When the Run's time is over; None: it has no limit, or its time does not count yet."""
    if spec.timeout_seconds is None:
        return None
    start = status.start_time
    if spec.problem_id is not None:
        start = status.assignment.start_time if status.assignment else None
    return None if start is None else start + timedelta(seconds=spec.timeout_seconds)


def lease_timeout(own: int | None, end: datetime | None, now: datetime) -> int | None:
    """Whole seconds that a runner gets for a task: its own limit, or what is left until `end` (at least 1)."""
    left = None if end is None else max(1, math.ceil((end - now).total_seconds()))
    limits = [limit for limit in (own, left) if limit is not None]
    return min(limits, default=None)


def overdue_time(
    task: Task, status: TaskStatus, own: int | None, end: datetime | None, runner_grace: float
) -> datetime | None:
    """When the operator itself ends an active task: the earlier of its own limit and the Run's; None: never."""
    if status.phase == TaskPhase.STARTING or status.start_time is None:
        return end
    grace = timedelta(seconds=runner_grace if task.container is None else 0.0)
    stops = [] if own is None else [status.start_time + timedelta(seconds=own)]
    stops += [] if end is None else [end]
    return min(stops) + grace if stops else None


def overdue_text(status: TaskStatus, own: int | None, run_limit: int | None, now: datetime) -> str:
    """Which of the limits it was, for people."""
    by_itself = own is not None and status.start_time is not None and now >= status.start_time + timedelta(seconds=own)
    return f"ran longer than its timeout of {own} seconds" if by_itself else run_text(run_limit)


def run_text(run_limit: int | None) -> str:
    return f"the Run took longer than its timeout of {run_limit} seconds"
