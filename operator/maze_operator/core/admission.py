"""Which ready tasks start now: higher priority first, then the order of the workflow, up to the parallelism."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from maze_crds.run import TaskPhase, TaskStatus
from maze_operator.core.values import Workflow

ACTIVE = frozenset({TaskPhase.STARTING, TaskPhase.RUNNING})
LOST = frozenset({TaskPhase.FAILED, TaskPhase.SKIPPED, TaskPhase.CANCELLED})


def choose_admitted(
    workflow: Workflow, tasks: Mapping[str, TaskStatus], parallelism: int | None, suspended: bool, now: datetime
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Names to start, and for every task that stays pending the one reason why."""
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
    reasons.update((name, "ParallelismLimit") for name in ready[room:])
    return ready[:room], reasons


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
