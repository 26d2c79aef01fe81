"""OpRun: a Run of one container, with numbered attempts and a timeline of events that the container and others add to.

A Run with `spec.opRun` is one. Its workflow, inline or by reference, has exactly one task, a container.

A state is changed by an event and nothing else, but for `spec.override`, which is for emergencies. Ended Runs are locked
until a manual retry (`spec.retries`) opens them again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue, WithJsonSchema

from maze_crds.base import Key, Model, Time
from maze_crds.workflow import Payload

MAX_ATTEMPTS = 100
"""Of one Run, manual retries included: the history is kept in its status."""
PAGE = 32
"""Events in one object of the store: page k holds those with the ids 32k to 32k + 31."""
TAIL = 2 * PAGE
"""The status keeps fewer events than this: the oldest page leaves as soon as it may."""
TAIL_LIMIT = 256
"""Events that the status keeps at most while the object store can't take a page; then posted ones are refused."""
EVENT_LIMIT = 1024
"""Bytes of JSON of `{"msg", "payload"}` that stay in the status; larger ones are in the object store, msg is cut."""
OUTPUTS_LIMIT = 8192
"""Bytes of JSON of outputs that stay in the status."""


class OpState(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TERMINAL_STATES = frozenset({OpState.COMPLETED, OpState.FAILED, OpState.CANCELLED})


class EventType(StrEnum):
    """Those that mean something to Maze; any other type is kept as it is."""

    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    RETRIED = "RETRIED"


FreeObject = Annotated[
    dict[str, JsonValue],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
Message = Annotated[
    str | int,
    WithJsonSchema({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
]


class EventDelivery(Model):
    """Every event goes, as a CloudEvent, to the sink of the installation, with these."""

    topic: Annotated[str, Field(min_length=1, max_length=1024)]
    attributes: Annotated[dict[Key, str], Field(max_length=64)] = Field(default_factory=dict)


class OpRunSpec(Model):
    max_attempts: Annotated[
        int, Field(ge=1, le=MAX_ATTEMPTS, description="Attempts, whatever ended the earlier ones.")
    ] = 1
    inputs: Annotated[
        Payload | None, Field(description="A JSON object; instead of the Run's inputs where those are too large.")
    ] = None
    event_delivery: EventDelivery | None = None


class StateOverride(Model):
    number: Annotated[int, Field(ge=1, description="Grows with each; the operator applies it once.")]
    state: OpState


class OutputsOverride(Model):
    number: Annotated[int, Field(ge=1, description="Grows with each; the operator applies it once.")]
    outputs: FreeObject


class Override(Model):
    """Emergency wishes: they bypass the timeline."""

    state: StateOverride | None = None
    outputs: OutputsOverride | None = None


class OpEvent(Model):
    id: Annotated[int, Field(ge=0, description="Contiguous from 0.")]
    type: str
    time: Time
    attempt: int
    msg: Message = ""
    payload: FreeObject | None = None
    stored: Annotated[
        str | None, Field(description="SHA-256 of the whole {msg, payload} in the object store; msg is cut here.")
    ] = None
    outputs: Annotated[
        bool, Field(description="The payload is {outputs} of this attempt, which are with its result.")
    ] = False
    key: Annotated[
        str | None, Field(description="What its sender called it, so that a repeat is not a second one.")
    ] = None


class OpAttempt(Model):
    number: int
    state: OpState
    created_time: Time
    start_time: Time | None = None
    completion_time: Time | None = None
    worker: Annotated[str | None, Field(description="worker_id of STARTED, else the address of the node.")] = None
    gpu: Annotated[int | None, Field(description="gpu_id of STARTED.")] = None
    pod: str | None = None
    progress: int = 0
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None


class OpStatus(Model):
    """`attempts` and `events` are never empty once the Run has been seen: attempt 1 is there from the first moment."""

    state: OpState = OpState.PENDING
    image: Annotated[str | None, Field(description="Of the container.")] = None
    attempts: Annotated[
        list[OpAttempt],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"]}),
    ] = Field(default_factory=list)
    outputs: Annotated[FreeObject | None, Field(description="Where they are small.")] = None
    outputs_from: Annotated[
        int | None,
        Field(description="Attempt whose result in the object store has the outputs, where they are not here."),
    ] = None
    next_event: Annotated[int, Field(description="Id of the event that comes next: how many there are.")] = 0
    events: Annotated[
        list[OpEvent],
        Field(
            description="The newest ones; older ones are in the object store, in pages.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = Field(default_factory=list)
    delivered: Annotated[int, Field(description="Events that the sink has taken: all with a smaller id.")] = 0
    delivery_problem: str | None = None
    retries: Annotated[int, Field(description="Of spec.retries, those done.")] = 0
    state_override: Annotated[int, Field(description="Number of the last one applied.")] = 0
    outputs_override: Annotated[int, Field(description="Number of the last one applied.")] = 0
    updated_time: Time | None = None

    @property
    def attempt(self) -> int:
        """Number of the current attempt, from 1."""
        return self.attempts[-1].number if self.attempts else 1

    @property
    def progress(self) -> int:
        return self.attempts[-1].progress if self.attempts else 0
