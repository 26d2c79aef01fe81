"""How a Run stands as a whole: counts, and how it ends."""

from __future__ import annotations

from datetime import datetime

from maze_crds.run import TIMED_OUT, Condition, Counts, RunPhase, RunStatus, TaskPhase
from maze_operator.core.ledger import Ledger


def count(ledger: Ledger) -> Counts:
    by_phase = dict.fromkeys(TaskPhase, 0)
    for task in ledger.tasks.values():
        by_phase[task.phase] += 1
    return Counts(
        total=len(ledger.tasks),
        pending=by_phase[TaskPhase.PENDING],
        running=by_phase[TaskPhase.STARTING] + by_phase[TaskPhase.RUNNING],
        succeeded=by_phase[TaskPhase.SUCCEEDED],
        failed=by_phase[TaskPhase.FAILED],
        skipped=by_phase[TaskPhase.SKIPPED],
        cancelled=by_phase[TaskPhase.CANCELLED],
    )


def judge(counts: Counts, ledger: Ledger, cancelled: bool, overtime: str | None) -> tuple[RunPhase, str, str | None]:
    """Phase, reason and message of a Run whose tasks have all ended. overtime: its time limit is over, in words."""
    if cancelled and counts.cancelled:
        return RunPhase.CANCELLED, "Cancelled", "cancelled by the user"
    if overtime is not None and any(task.reason == TIMED_OUT for task in ledger.tasks.values()):
        return RunPhase.FAILED, TIMED_OUT, overtime
    if counts.failed == 0:
        return RunPhase.SUCCEEDED, "AllTasksSucceeded", None
    first = ledger.first_failure
    text = f"task '{first.task}' failed: {first.message}" if first else "a task failed"
    return RunPhase.FAILED, first.reason if first else "TaskFailed", text


def finish(status: RunStatus, event: int, now: datetime) -> RunStatus:
    succeeded = status.phase == RunPhase.SUCCEEDED
    condition = Condition(
        type="Complete" if succeeded else "Failed",
        status="True",
        reason=status.reason or status.phase.value,
        message=status.message or "",
        last_transition_time=now,
        observed_generation=status.observed_generation,
    )
    return status.model_copy(
        update={"completion_time": now, "end_event": event, "last_event": event, "conditions": [condition]}
    )
