"""A Run with a problemId as a task of the Task Executor. Pure.

    Run                                         task
    Succeeded                                   completed
    Failed, reason TimedOut                     timeout
    Failed                                      failed
    Cancelled                                   cancelled
    a worker has it, or has claimed it          running
    else                                        pending

Reads the raw object: thousands of tasks change often, and models cost a hundred times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from maze_crds.queue import EPOCH, Order, counting_claim, queue_order, queued_time, read_time
from maze_crds.run import TIMED_OUT, AssignmentEnd, DesiredState, RunPhase
from maze_io.kube import Object


class TaskState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


ENDED_STATES = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.TIMEOUT, TaskState.CANCELLED})
_ENDS: dict[str, TaskState] = {RunPhase.SUCCEEDED: TaskState.COMPLETED, RunPhase.CANCELLED: TaskState.CANCELLED}


@dataclass(frozen=True, slots=True)
class TaskView:
    """One state of a task.

    Attributes:
        id: name of the Run.
        worker_id: who has it, or had it last when it ended; None while it waits.
        internal: whether that is an internal worker; None: nobody has it.
        order: its place in the queue, see Order.
        waits: nobody has it, and somebody may take it: it is pending and not about to be cancelled.
        started_at: when that worker got it.
        inputs: spec.inputs.
        obj: the Run, as Kubernetes has it. Shared: treat it as frozen.
    """

    id: str
    uid: str
    problem_id: str
    state: TaskState
    worker_id: str | None
    internal: bool | None
    priority: int
    order: Order
    waits: bool
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    inputs: dict[str, Any]
    obj: Object

    @property
    def ended(self) -> bool:
        return self.state in ENDED_STATES


@dataclass(frozen=True, slots=True)
class _Holder:
    worker: str | None = None
    internal: bool | None = None
    since: datetime | None = None


def is_task(obj: Object) -> bool:
    """Whether a Run is a task of the Task Executor."""
    return bool(obj["spec"].get("problemId"))


def view_task(obj: Object) -> TaskView:
    """The task that a Run with a problemId is."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    state = end_state(status.get("phase") or RunPhase.PENDING, status.get("reason"))
    holder = _holder(obj, status, state)
    if state is None:
        state = TaskState.PENDING if holder.worker is None else TaskState.RUNNING
    made, order = queued_time(obj), queue_order(obj)
    return TaskView(
        id=metadata["name"],
        uid=metadata["uid"],
        problem_id=spec["problemId"],
        state=state,
        worker_id=holder.worker,
        internal=holder.internal,
        priority=-order[0],
        order=order,
        waits=state is TaskState.PENDING and (spec.get("desiredState") or "Running") == DesiredState.RUNNING,
        created_at=made,
        updated_at=max(made, *_changes(spec, status)),
        started_at=holder.since,
        completed_at=read_time(status.get("completionTime")),
        inputs=spec.get("inputs") or {},
        obj=obj,
    )


def end_state(phase: str, reason: str | None) -> TaskState | None:
    """How a Run of this phase and reason ended as a task; None: it has not ended."""
    if phase == RunPhase.FAILED:
        return TaskState.TIMEOUT if reason == TIMED_OUT else TaskState.FAILED
    return _ENDS.get(phase)


def _holder(run: Object, status: Object, ended: TaskState | None) -> _Holder:
    """Who has the task, or had it when it ended: what run.valid_claim and RunStatus.assignment say."""
    assignments = status.get("assignments") or ()
    last = assignments[-1] if assignments else None
    if last is not None and (ended or not last.get("end")):
        if ended is TaskState.CANCELLED and last.get("end") == AssignmentEnd.LOST:
            return _Holder()  # it waited for another worker
        return _Holder(last["worker"], bool(last.get("internal")), read_time(last["startTime"]))
    claim = counting_claim(run)
    if claim is not None and not ended:
        return _Holder(claim["worker"], False, read_time(claim["time"]))
    return _Holder()


def _changes(spec: Object, status: Object) -> list[datetime]:
    """When something happened to the task that a status shows."""
    assignments = status.get("assignments")
    last: Object = assignments[-1] if assignments else {}
    claim = spec.get("claim") or {}
    texts = (last.get("startTime"), last.get("endTime"), status.get("completionTime"), claim.get("time"))
    return [found for text in texts if (found := read_time(text)) is not None] or [EPOCH]
