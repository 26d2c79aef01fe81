"""The status of an OpRun's Run where it does not follow from its workflow: opened again, or ended by an override."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from maze_crds.oprun import OpState
from maze_crds.run import RunPhase, RunStatus, TaskPhase, TaskStatus
from maze_operator.core.ledger import Ledger
from maze_operator.core.outcome import count, finish

_PHASES = {
    OpState.COMPLETED: (RunPhase.SUCCEEDED, TaskPhase.SUCCEEDED),
    OpState.FAILED: (RunPhase.FAILED, TaskPhase.FAILED),
    OpState.CANCELLED: (RunPhase.CANCELLED, TaskPhase.CANCELLED),
}


def reopen(status: RunStatus) -> RunStatus:
    """As before its start, but for the numbers of events and attempts, which go on."""
    return status.model_copy(
        update={
            "phase": RunPhase.PENDING,
            "reason": None,
            "message": None,
            "start_time": None,
            "completion_time": None,
            "end_event": None,
            "first_failure": None,
            "conditions": [],
            "tasks": [TaskStatus(name=task.name, attempt=task.attempt) for task in status.tasks],
        }
    )


def end_directly(status: RunStatus, state: OpState, reason: str, now: datetime) -> RunStatus:
    """Ended in `state`, whatever its task was doing, or however it had ended."""
    phase, task_phase = _PHASES[state]
    event = status.last_event
    tasks = []
    for task in status.tasks:
        event += 1
        changes: dict[str, Any] = {"phase": task_phase, "reason": reason, "message": None, "retry_time": None}
        tasks.append(task.model_copy(update={**changes, "completion_time": now, "end_event": event}))
    update: dict[str, Any] = {"phase": phase, "reason": reason, "message": None, "tasks": tasks}
    ended = status.model_copy(update={**update, "start_time": status.start_time or now})
    counts = count(Ledger(ended, [task.name for task in tasks], now))
    progress = f"{counts.total}/{counts.total}"
    return finish(ended.model_copy(update={"counts": counts, "progress": progress}), event + 1, now)
