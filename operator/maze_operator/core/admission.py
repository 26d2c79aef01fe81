"""Which ready tasks start now: higher priority first, then the order of the workflow, up to the parallelism.

Tasks with pods of their own start only while few pods of the Run wait for a node: the scheduler takes pods in the order they
come, so a large Run would keep all others waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from maze_crds.run import TaskPhase, TaskStatus
from maze_operator.core.values import Workflow

NO_POD_FREE = "WaitingForPod"
"""Reason of a task that starts when a pod is free for it, or may be made. One for all, so that it does not come and go."""
PARALLELISM_LIMIT = "ParallelismLimit"
ACTIVE = frozenset({TaskPhase.STARTING, TaskPhase.RUNNING})
LOST = frozenset({TaskPhase.FAILED, TaskPhase.SKIPPED, TaskPhase.CANCELLED})


def choose_admitted(
    workflow: Workflow,
    tasks: Mapping[str, TaskStatus],
    parallelism: int | None,
    suspended: bool,
    now: datetime,
    has_own_pod: Callable[[str], bool] = lambda _: False,
    own_pods: int = 0,
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Names to start, and for every task that stays pending the one reason why.

    has_own_pod: whether attempts of the task have pods of their own; own_pods: so many of these may start now.
    """
    ready: list[str] = []
    reasons: dict[str, str] = {}
    pending = [(name, status) for name, status in tasks.items() if status.phase == TaskPhase.PENDING]
    succeeded = {name for name, status in tasks.items() if status.phase == TaskPhase.SUCCEEDED} if pending else set()
    for name, status in pending:
        if not workflow.dependencies[name] <= succeeded:
            reasons[name] = "WaitingForDependencies"
        elif suspended:
            reasons[name] = "Suspended"
        elif status.retry_time is not None and status.retry_time > now:
            reasons[name] = "RetryBackoff"
        else:
            ready.append(name)
    ready.sort(key=lambda name: -workflow.tasks[name].priority)
    active = sum(1 for status in tasks.values() if status.phase in ACTIVE)
    room = len(ready) if parallelism is None else max(0, parallelism - active)
    admitted: list[str] = []
    for name in ready:
        own = has_own_pod(name)
        if len(admitted) >= room:
            reasons[name] = PARALLELISM_LIMIT
        elif own and own_pods <= 0:
            reasons[name] = NO_POD_FREE
        else:
            own_pods -= own
            admitted.append(name)
    return admitted, reasons


def choose_skipped(workflow: Workflow, tasks: Mapping[str, TaskStatus]) -> Mapping[str, str]:
    """Pending tasks that can never run → the failed (or cancelled) task they wait for, transitively."""
    skipped: dict[str, str] = {}
    queue = [name for name, status in tasks.items() if status.phase in LOST]
    for lost in queue:
        for name in workflow.downstream.get(lost, ()):
            if name not in skipped and tasks[name].phase == TaskPhase.PENDING:
                skipped[name] = skipped.get(lost, lost)
                queue.append(name)
    return skipped
