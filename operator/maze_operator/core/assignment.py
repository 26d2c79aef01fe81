"""Who has a Run with a problemId: `advance` opens and closes its assignments. Pure.

    state          what is known                            next
    -------------  ---------------------------------------  -----------------------------------------------------
    waiting        claim that counts                        external assignment opens (then as below)
    waiting        cancelled                                Run Cancelled
    waiting        slot handed, workflow there, not         internal assignment opens: the workflow is executed
                   suspended
    waiting        anything else                            Run Pending, WaitingForWorker (or Suspended): no time limit
    external open  cancelled                                Run Cancelled
    external open  report of this assignment                Run Succeeded or Failed
    external open  worker lost, `max_assignments` not yet   assignment Lost; waiting
    external open  worker lost, for the last time           Run Failed, WorkerLost
    external open  deadline over                            Run Failed, TimedOut
    internal open  anything                                 core/plan.py executes the workflow until the Run ends

Rows are tried in this order. A cancel comes before a report, because both are ordered by the Run's resourceVersion: a
report that is in the status was there before the cancel, and one that is not has not been acknowledged.

Events: an assignment's start and its end as Lost take the next number each; one that ends with the Run takes the Run's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from maze_crds.names import EXTERNAL_TASK
from maze_crds.protocol import Result
from maze_crds.run import (
    TERMINAL_RUNS,
    TEXT_LIMIT,
    TIMED_OUT,
    Assignment,
    AssignmentEnd,
    DesiredState,
    RunPhase,
    RunSpec,
    RunStatus,
    valid_claim,
)
from maze_operator.core.deadline import deadline, run_text
from maze_operator.core.outcome import finish
from maze_operator.core.values import AttemptId, Facts, RunView, Settings

WAITING, SUSPENDED, WORKER_LOST, REPORTED_FAILED = "WaitingForWorker", "Suspended", "WorkerLost", "ReportedFailed"
"""Reasons of Runs. A failed report is stored with the last one, too."""

_END_OF_RUN = {RunPhase.SUCCEEDED: AssignmentEnd.COMPLETED, RunPhase.CANCELLED: AssignmentEnd.CANCELLED}


@dataclass(frozen=True)
class Step:
    """The status after the transitions. execute: an internal worker has the Run, so its workflow is planned next."""

    status: RunStatus
    execute: bool = False
    requeue_after: float | None = None


def advance(run: RunView, facts: Facts, now: datetime, settings: Settings) -> Step:
    """All transitions that `facts` give reason for. `run` has a problemId and has not ended."""
    status = run.status.model_copy(update={"observed_generation": run.generation})
    claim = valid_claim(run.spec, status)
    cancelled = run.spec.desired_state == DesiredState.CANCELLED
    suspended = run.spec.desired_state == DesiredState.SUSPENDED
    if claim is not None:
        status = _open(status, claim.worker, internal=False, now=now)
    elif status.assignment is None:
        if cancelled:
            return _ended(status, RunPhase.CANCELLED, "Cancelled", "cancelled by the user", now)
        if facts.slot is None or run.workflow is None or suspended:
            return Step(_wait(status, suspended))
        status = _open(status, facts.slot, internal=True, now=now)
    held = status.assignment
    assert held is not None
    if held.internal:
        return Step(status, execute=True)
    return _advance_external(run.spec, status, held, facts, now, settings)


def _advance_external(
    spec: RunSpec, status: RunStatus, held: Assignment, facts: Facts, now: datetime, settings: Settings
) -> Step:
    if spec.desired_state == DesiredState.CANCELLED:
        return _ended(status, RunPhase.CANCELLED, "Cancelled", "cancelled by the user", now)
    report = facts.results.get(AttemptId(EXTERNAL_TASK, held.number))
    if report is not None:
        return _reported(status, report, now)
    if facts.worker_lost:
        lost = 1 + sum(earlier.end == AssignmentEnd.LOST for earlier in status.assignments)
        if lost < settings.max_assignments:
            return Step(_wait(_lose(status, held, now), spec.desired_state == DesiredState.SUSPENDED))
        text = f"{lost} workers went silent while they had it; the last was '{held.worker}'"
        return _ended(status, RunPhase.FAILED, WORKER_LOST, text, now, AssignmentEnd.LOST)
    end = deadline(spec, status)
    left = None if end is None else (end - now).total_seconds()
    if left is not None and left <= 0:
        return _ended(status, RunPhase.FAILED, TIMED_OUT, run_text(spec.timeout_seconds), now)
    return Step(status, requeue_after=left)


def _reported(status: RunStatus, report: Result, now: datetime) -> Step:
    if "failure" in report:
        failure = report["failure"]
        return _ended(status, RunPhase.FAILED, failure["reason"], failure["message"][:TEXT_LIMIT], now)
    return _ended(status, RunPhase.SUCCEEDED, "ReportedCompleted", None, now)


def _wait(status: RunStatus, suspended: bool) -> RunStatus:
    reason = SUSPENDED if suspended else WAITING
    return status.model_copy(update={"phase": RunPhase.PENDING, "reason": reason, "message": None})


def _open(status: RunStatus, worker: str, *, internal: bool, now: datetime) -> RunStatus:
    event = status.last_event + 1
    opened = Assignment(
        number=len(status.assignments) + 1, worker=worker, internal=internal, start_time=now, start_event=event
    )
    return status.model_copy(
        update={
            "phase": RunPhase.RUNNING,
            "reason": None,
            "message": None,
            "start_time": status.start_time or now,
            "worker": worker,
            "assignments": [*status.assignments, opened],
            "last_event": event,
        }
    )


def _lose(status: RunStatus, held: Assignment, now: datetime) -> RunStatus:
    event = status.last_event + 1
    text = f"worker '{held.worker}' went silent"
    return _close(status.model_copy(update={"last_event": event}), AssignmentEnd.LOST, now, event, text)


def _ended(
    status: RunStatus,
    phase: RunPhase,
    reason: str,
    message: str | None,
    now: datetime,
    end: AssignmentEnd | None = None,
) -> Step:
    decided = status.model_copy(update={"phase": phase, "reason": reason, "message": message})
    return Step(close_with_run(finish(decided, status.last_event + 1, now), now, end), requeue_after=0.0)


def close_with_run(status: RunStatus, now: datetime, end: AssignmentEnd | None = None) -> RunStatus:
    """Once the Run has ended: the open assignment ends with it, as the Run's phase and reason say (or as `end`)."""
    if status.phase not in TERMINAL_RUNS or status.assignment is None:
        return status
    if end is None:
        failed = AssignmentEnd.TIMED_OUT if status.reason == TIMED_OUT else AssignmentEnd.FAILED
        end = _END_OF_RUN.get(status.phase, failed)
    return _close(status, end, now, status.end_event or status.last_event, status.message)


def _close(status: RunStatus, end: AssignmentEnd, now: datetime, event: int, message: str | None) -> RunStatus:
    closed = status.assignments[-1].model_copy(
        update={"end": end, "end_time": now, "end_event": event, "message": message}
    )
    return status.model_copy(update={"assignments": [*status.assignments[:-1], closed]})


def external_holder(spec: RunSpec, status: RunStatus) -> tuple[str, int] | None:
    """The external worker that has the Run, or whose claim is about to be noted, and the number of its assignment."""
    held = status.assignment
    if held is not None:
        return None if held.internal else (held.worker, held.number)
    claim = valid_claim(spec, status)
    return (claim.worker, claim.number) if claim is not None else None


class Standing(StrEnum):
    """What a report of a worker is worth."""

    OWNER = "Owner"
    """It has the Run: the report is taken."""
    REPEAT = "Repeat"
    """It ended the Run with this very outcome: said again, acknowledged again."""
    STRANGER = "Stranger"
    """It does not have the Run (any more), or has said something else before."""


@dataclass(frozen=True)
class Verdict:
    """`number` of the assignment that is meant, open or about to be; 0 for a stranger. `why` tells people."""

    standing: Standing
    number: int = 0
    why: str = ""


def judge_report(spec: RunSpec, status: RunStatus, worker: str, completed: bool) -> Verdict:
    """Whether `worker` may say that the Run has completed (else: failed). A claim that is not noted yet counts."""
    held, claim = status.assignment, valid_claim(spec, status)
    if held is not None and not held.internal and held.worker == worker:
        return Verdict(Standing.OWNER, held.number)
    if claim is not None and claim.worker == worker:
        return Verdict(Standing.OWNER, claim.number)
    return _judge_stranger(spec, status, worker, completed)


def _judge_stranger(spec: RunSpec, status: RunStatus, worker: str, completed: bool) -> Verdict:
    own = next((one for one in reversed(status.assignments) if one.worker == worker and not one.internal), None)
    if own is None:
        return Verdict(Standing.STRANGER, why=f"worker '{worker}' does not have this task; claim it first")
    said = AssignmentEnd.COMPLETED if completed else AssignmentEnd.FAILED
    if own is status.assignments[-1] and own.end == said:
        return Verdict(Standing.REPEAT, own.number)
    return Verdict(Standing.STRANGER, why=_why_not(own))


def _why_not(own: Assignment) -> str:
    worker = own.worker
    if own.end == AssignmentEnd.LOST:
        return f"worker '{worker}' went silent, so the task was taken away from it"
    if own.end == AssignmentEnd.CANCELLED:
        return "the task was cancelled"
    if own.end == AssignmentEnd.TIMED_OUT:
        return "the task's timeout was over before this report"
    word = "completed" if own.end == AssignmentEnd.COMPLETED else "failed"
    return f"worker '{worker}' has reported the task as {word} before; the first report stands"
