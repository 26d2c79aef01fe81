"""From the status of a Run to the events of a task. Pure.

Every change in a Run has a number (see maze_crds.run), so polling and streams, at any time and at any replica, tell the
same events:

    a worker has it                           task_started
    the worker went silent                    task_requeued
    a step of the workflow starts             step_started
    … ends, or is tried again                 step_completed step_failed step_retried step_skipped step_cancelled
    the end                                   task_completed task_failed task_timeout task_cancelled
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from maze_api.task_describe import show_time
from maze_api.task_view import TaskState, end_state
from maze_crds.run import Assignment, AssignmentEnd, RunStatus, TaskPhase, TaskStatus

Json = dict[str, Any]

STEP_ENDS = {
    TaskPhase.SUCCEEDED: "step_completed",
    TaskPhase.FAILED: "step_failed",
    TaskPhase.SKIPPED: "step_skipped",
    TaskPhase.CANCELLED: "step_cancelled",
}


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    type: str
    time: datetime | None
    status: TaskState = TaskState.RUNNING
    worker: str | None = None
    attempt: int | None = None
    step: str | None = None
    reason: str | None = None
    message: str | None = None


def events_after(status: RunStatus, number: int) -> list[Event]:
    """Everything that happened after event `number`, in order."""
    found = [event for one in status.assignments for event in _of_assignment(one)]
    found += [event for task in status.tasks for event in _of_step(task)]
    end = end_event(status)
    if end is not None:  # a worker lost for the last time ends the task: one event
        found = [*(event for event in found if event.status is not TaskState.PENDING or event.number < end.number), end]
    found.sort(key=lambda event: event.number)
    return [event for event in _with_workers(found) if event.number > number]


def end_event(status: RunStatus) -> Event | None:
    """The last event, once it is there."""
    state = end_state(status.phase, status.reason)
    if state is None:
        return None
    last = status.assignments[-1] if status.assignments else None
    held = last is not None and (last.end is not AssignmentEnd.LOST or state is not TaskState.CANCELLED)
    return Event(
        status.end_event or status.last_event or 1,
        f"task_{state.value}",
        status.completion_time,
        state,
        last.worker if last is not None and held else None,
        reason=status.reason,
        message=status.message,
    )


def event_json(event: Event, task_id: str) -> Json:
    """`{id, type, task_id, status, worker_id, timestamp}` and what else there is to say."""
    more = {"attempt": event.attempt, "step": event.step, "reason": event.reason, "message": event.message}
    return {
        "id": event.number,
        "type": event.type,
        "task_id": task_id,
        "status": event.status.value,
        "worker_id": event.worker,
        "timestamp": show_time(event.time),
        **{key: value for key, value in more.items() if value is not None},
    }


def _of_assignment(one: Assignment) -> Iterator[Event]:
    yield Event(one.start_event, "task_started", one.start_time, worker=one.worker, attempt=one.number)
    if one.end is AssignmentEnd.LOST and one.end_event is not None:
        yield Event(
            one.end_event,
            "task_requeued",
            one.end_time,
            TaskState.PENDING,
            one.worker,
            one.number,
            reason=one.end.value,
            message=one.message,
        )


def _of_step(task: TaskStatus) -> Iterator[Event]:
    for earlier in task.failed_attempts:
        if earlier.start_event is not None:
            number = earlier.start_event
            yield Event(number, "step_started", earlier.start_time, step=task.name, attempt=earlier.attempt)
        yield Event(
            earlier.end_event,
            "step_retried",
            earlier.completion_time,
            step=task.name,
            attempt=earlier.attempt,
            reason=earlier.reason,
            message=earlier.message or None,
        )
    if task.start_event is not None:
        yield Event(task.start_event, "step_started", task.start_time, step=task.name, attempt=task.attempt)
    if task.end_event is not None and task.phase in STEP_ENDS:
        yield Event(
            task.end_event,
            STEP_ENDS[task.phase],
            task.completion_time,
            step=task.name,
            attempt=task.attempt or None,
            reason=task.reason,
            message=task.message,
        )


def _with_workers(events: list[Event]) -> Iterator[Event]:
    """Steps are executed by the worker that has the task."""
    worker: str | None = None
    for event in events:
        if event.type == "task_started":
            worker = event.worker
        yield event if event.step is None else replace(event, worker=worker)
