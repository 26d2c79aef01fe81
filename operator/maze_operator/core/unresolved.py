"""A Run whose workflow is not there, or is not one."""

from __future__ import annotations

from datetime import datetime

from maze_crds.run import DesiredState, RunPhase
from maze_operator.core.outcome import finish
from maze_operator.core.values import Plan, RunView, Settings


def plan_unresolved(run: RunView, now: datetime, settings: Settings) -> Plan:
    """The workflow is waited for within bounds, then the Run fails with the reason."""
    waited = (now - run.created).total_seconds()
    status = run.status.model_copy(
        update={"observed_generation": run.generation, "reason": run.problem_reason, "message": run.problem}
    )
    if run.spec.desired_state == DesiredState.CANCELLED:
        status = status.model_copy(update={"phase": RunPhase.CANCELLED, "reason": "Cancelled"})
        return Plan(finish(status, status.last_event + 1, now))
    if run.problem_final or waited >= settings.workflow_missing_timeout:
        status = status.model_copy(update={"phase": RunPhase.FAILED, "start_time": run.status.start_time or now})
        return Plan(finish(status, status.last_event + 1, now))
    return Plan(status, requeue_after=min(1.0, settings.workflow_missing_timeout - waited))
