"""Run: one execution of a workflow. The operator alone writes the status.

The spec is immutable but for the wishes: `desiredState`, `priority`, `claim`, `retries` and `override`.

A Run with a `problemId` is a task of the Task Executor: it starts once a worker has it. Each time that a worker has it is
an entry of `status.assignments`, numbered from 1. At most one is open, and it is the last.

A Run with `opRun` is an OpRun: see oprun.py.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue, WithJsonSchema

from maze_crds.base import Key, Model, TaskName, Time
from maze_crds.oprun import OpRunSpec, OpStatus, Override
from maze_crds.problems import ProblemId
from maze_crds.workflow import WorkflowSpec

TIMED_OUT = "TimedOut"
"""Reason of every Run and task that a time limit ended."""
SLICED = 100
"""Tasks of a Run that are in its own status, at most, and tasks of a TaskSlice."""
TEXT_LIMIT = 1024
"""Characters of a message in status; whole texts are with the result in the object store."""


class DesiredState(StrEnum):
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"


class RunPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class TaskPhase(StrEnum):
    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"


TERMINAL_TASKS = frozenset({TaskPhase.SUCCEEDED, TaskPhase.FAILED, TaskPhase.SKIPPED, TaskPhase.CANCELLED})
TERMINAL_RUNS = frozenset({RunPhase.SUCCEEDED, RunPhase.FAILED, RunPhase.CANCELLED})


class Cause(StrEnum):
    """Why an attempt ended without success; each has its own retry budget (see Retry)."""

    USER_ERROR = "UserError"
    OUT_OF_MEMORY = "OutOfMemory"
    TIMEOUT = "Timeout"
    INFRASTRUCTURE = "Infrastructure"
    STORAGE = "Storage"


FreeInputs = Annotated[
    dict[Key, JsonValue],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 256}),
]


class WorkflowRef(Model):
    name: Annotated[str, Field(min_length=1, max_length=253)]


class Claim(Model):
    """The wish of an external worker to have the Run: written only while nobody has it, guarded by resourceVersion.

    It decides: who wrote it owns the Run, before the operator has noted it as an assignment.
    """

    worker: Annotated[str, Field(min_length=1, max_length=253, description="Worker id.")]
    number: Annotated[int, Field(ge=1, description="Of the assignment it asks for; an older number is void.")]
    time: Time


class RunSpec(Model):
    workflow_ref: Annotated[WorkflowRef | None, Field(description="A Workflow in the same namespace.")] = None
    workflow: Annotated[WorkflowSpec | None, Field(description="The workflow itself.")] = None
    inputs: FreeInputs = Field(default_factory=dict)
    desired_state: DesiredState = DesiredState.RUNNING
    parallelism: Annotated[int | None, Field(ge=1, le=10000, description="Overrides the workflow's.")] = None
    ttl_seconds_after_finished: Annotated[
        int | None, Field(ge=0, le=31536000, description="The Run is deleted this long after its end.")
    ] = None
    timeout_seconds: Annotated[
        int | None, Field(ge=1, le=604800, description="Seconds from its start (of each assignment) to its end.")
    ] = None
    problem_id: Annotated[
        ProblemId | None, Field(description="Makes the Run a task of the Task Executor, which waits for a worker.")
    ] = None
    priority: Annotated[
        int,
        Field(
            ge=-1000,
            le=1000,
            description="Higher first among Runs that wait for a worker, and for room on the nodes where the"
            " installation maps it to PriorityClasses.",
        ),
    ] = 0
    priority_class_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            description="PriorityClass of the Run's pods; default: what the installation maps `priority` to.",
        ),
    ] = None
    queued_time: Annotated[
        Time | None, Field(description="Orders Runs of one priority, finer than creationTimestamp.")
    ] = None
    claim: Claim | None = None
    op_run: Annotated[OpRunSpec | None, Field(description="Makes the Run an OpRun.")] = None
    retries: Annotated[
        int, Field(ge=0, description="Manual retries of an OpRun asked for; one more opens it again once it has ended.")
    ] = 0
    override: Override | None = None


class FailedAttempt(Model):
    """One earlier attempt of a task that was tried again."""

    attempt: int
    cause: Cause
    reason: str
    message: str = ""
    exit_code: int | None = None
    start_time: Time | None = None
    completion_time: Time
    start_event: int | None = None
    end_event: int


class TaskStatus(Model):
    """Where one task stands. Event numbers tell when in the Run's order it started and ended."""

    name: TaskName
    phase: TaskPhase = TaskPhase.PENDING
    attempt: Annotated[int, Field(description="Current or last attempt, from 1; 0 before the first.")] = 0
    cause: Cause | None = None
    reason: Annotated[str | None, Field(description="One CamelCase word: why it waits or ended.")] = None
    message: str | None = None
    exit_code: int | None = None
    node: Annotated[str | None, Field(description="IP address of the node it runs on.")] = None
    pod: Annotated[
        str | None, Field(description="Name of the pod that has the current attempt, or had the last one.")
    ] = None
    start_time: Time | None = None
    completion_time: Time | None = None
    start_event: int | None = None
    end_event: int | None = None
    scheduled_time: Annotated[Time | None, Field(description="When the current attempt was decided on.")] = None
    retry_time: Annotated[Time | None, Field(description="Not tried again before this.")] = None
    failed_attempts: Annotated[
        list[FailedAttempt],
        Field(json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = Field(default_factory=list)


class Counts(Model):
    total: int = 0
    pending: int = 0
    running: Annotated[int, Field(description="Starting ones included.")] = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0


class Condition(Model):
    """metav1.Condition."""

    type: str
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    reason: str
    message: str = ""
    last_transition_time: Time
    observed_generation: int | None = None


class FirstFailure(Model):
    task: str
    reason: str
    message: str = ""


class AssignmentEnd(StrEnum):
    """How a worker's time with a Run ended."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    CANCELLED = "Cancelled"
    LOST = "Lost"
    """The worker went silent; the Run waits for another one."""


class Assignment(Model):
    """One time that a worker has, or had, the Run."""

    number: int
    worker: Annotated[str, Field(description="Worker id.")]
    internal: Annotated[bool, Field(description="The Run's own workflow executes it in pods.")] = False
    start_time: Time
    start_event: int
    end: Annotated[AssignmentEnd | None, Field(description="Absent while the worker has it.")] = None
    end_time: Time | None = None
    end_event: int | None = None
    message: str | None = None


class RunStatus(Model):
    """Of a Run with more than SLICED tasks `tasks` is empty here, and they are in its TaskSlices."""

    observed_generation: int = 0
    phase: RunPhase = RunPhase.PENDING
    reason: str | None = None
    message: str | None = None
    start_time: Time | None = None
    completion_time: Time | None = None
    progress: Annotated[str, Field(description="Ended tasks of all, for people.")] = ""
    counts: Counts = Counts()
    last_event: Annotated[int, Field(description="Number of the newest event, from 1; 0 before the first.")] = 0
    end_event: int | None = None
    first_failure: FirstFailure | None = None
    worker: Annotated[str | None, Field(description="Worker id of the last assignment, for people.")] = None
    assignments: Annotated[
        list[Assignment],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"]}),
    ] = Field(default_factory=list)
    op: Annotated[OpStatus | None, Field(description="Of an OpRun.")] = None
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = Field(default_factory=list)
    tasks: Annotated[
        list[TaskStatus],
        Field(json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = Field(default_factory=list)

    task_slices: Annotated[
        list[int],
        Field(
            description="Revisions of the TaskSlices that hold the tasks, by their numbers; 0: there is nothing to tell.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = Field(default_factory=list)

    @property
    def assignment(self) -> Assignment | None:
        """The open one."""
        last = self.assignments[-1] if self.assignments else None
        return last if last is not None and last.end is None else None


_Task = Annotated[TaskStatus, WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
"""In a TaskSlice the API server does not look into it: only the operator writes these, and to check each of a hundred tasks again
whenever one has changed is half of what the write costs."""
_Tasks = Annotated[list[_Task], Field(max_length=SLICED, json_schema_extra={"x-kubernetes-list-type": "atomic"})]


class SliceBefore(Model):
    """What a TaskSlice told at the revision that its Run named when it was written."""

    revision: Annotated[int, Field(ge=1)]
    tasks: Annotated[_Tasks, Field(description="As they were then; those that have not changed since are left out.")]


class TaskSlice(Model):
    """Some tasks of a large Run: those with the indexes number * SLICED and following of its workflow.

    An object of its own, so that a change of one task does not write all of them. The operator writes slices first and the
    Run then, whose `taskSlices` name their revisions. Until the Run is written, and for ever if it is not, what it named
    before holds: so all changes of a Run's status become true at once, with the write of the Run (slices.tasks_at).
    """

    number: Annotated[int, Field(ge=0)]
    revision: Annotated[int, Field(ge=1, description="Grows with every change.")]
    tasks: Annotated[_Tasks, Field(description="In any order, without those of which there is nothing to tell.")]
    before: SliceBefore | None = None


def valid_claim(spec: RunSpec, status: RunStatus) -> Claim | None:
    """The claim that owns the Run and is not noted as an assignment yet."""
    waits = status.phase not in TERMINAL_RUNS and status.assignment is None
    return spec.claim if spec.claim and waits and spec.claim.number == len(status.assignments) + 1 else None
