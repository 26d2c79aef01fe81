"""Bodies and answers of OpRuns, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, JsonValue

from maze_api.bodies import MEGABYTES, Body
from maze_crds.oprun import MAX_ATTEMPTS, EventDelivery, OpState
from maze_crds.plainjson import encode_json, fits_object


def _check_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    encode_json(value)
    return value


def _check_outputs(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    encode_json(value)
    if not fits_object(value):
        raise ValueError("nested too deeply, or with a whole number of more than 64 bits; write that as text")
    return value


FreeJson = Annotated[dict[str, JsonValue], AfterValidator(_check_json)]
WholeNumber = Annotated[int, Field(strict=True)]
Megabytes = Annotated[WholeNumber, Field(ge=0, le=MEGABYTES, description="MiB; 0: nothing is asked for.")]
Priority = Annotated[WholeNumber, Field(ge=-1000, le=1000, description="Higher ones run first when pods must wait.")]


class ConstraintsBody(Body):
    ram_mb: Megabytes | None = None
    vram_mb: Annotated[Megabytes | None, Field(description="Of one GPU, which the run gets then.")] = None
    cpu: Annotated[float | None, Field(ge=0, le=10000, allow_inf_nan=False, description="Cores.")] = None


class RetryPolicyBody(Body):
    max_attempts: Annotated[WholeNumber, Field(ge=1, le=MAX_ATTEMPTS)] = 1


class EventDeliveryBody(Body):
    """Every event goes to the sink of the installation, with these."""

    topic: Annotated[str, Field(min_length=1, max_length=1024)]
    attributes: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=253)], str] | None, Field(max_length=64)
    ] = None

    def wish(self) -> EventDelivery:
        return EventDelivery(topic=self.topic, attributes=self.attributes or {})


class OpRunCreate(Body):
    image: Annotated[str, Field(min_length=1, max_length=500)]
    priority: Priority = 0
    inputs: FreeJson | None = None
    constraints: ConstraintsBody | None = None
    retry_policy: RetryPolicyBody | None = None
    event_delivery: EventDeliveryBody | None = None


class OpRunUpdate(Body):
    """What is left out, or null, stays as it is."""

    state: Annotated[str | None, Field(description="For emergencies: no event tells of it.")] = None
    outputs: Annotated[dict[str, JsonValue] | None, AfterValidator(lambda found: found and _check_outputs(found))] = (
        None
    )
    priority: Priority | None = None


class AddEventRequest(Body):
    type: Annotated[
        str, Field(description="STARTED, PROGRESS, COMPLETED, FAILED, CANCELLED, RETRIED, or one of your own.")
    ]
    msg: Annotated[WholeNumber | str | None, Field(description="Of PROGRESS: 0 to 100.")] = None
    payload: FreeJson | None = None


class Constraints(BaseModel):
    ram_mb: float | None
    vram_mb: float | None
    cpu: float | None


class RetryPolicy(BaseModel):
    max_attempts: int


class EventDeliveryShown(BaseModel):
    topic: str
    attributes: dict[str, str]


class OpRunResponse(BaseModel):
    id: str
    op_definition: str | None
    """Name of the Workflow that it was made from; null for an ad-hoc run."""
    image: str | None
    state: OpState
    priority: int
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    constraints: Constraints
    retry_policy: RetryPolicy
    event_delivery: EventDeliveryShown | None
    progress: int
    """Of the current attempt: 0 to 100."""
    current_attempt: int
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    reason: str | None
    """One word: why it waits or how it ended."""
    message: str | None


class OpRunListResponse(BaseModel):
    object: Literal["list"]
    data: list[OpRunResponse]
    has_more: bool
    url: Literal["/runs"]


class EventResponse(BaseModel):
    id: int
    type: str
    t: str
    msg: str | int
    state: OpState
    """Of the run, now."""
    payload: dict[str, Any]


class EventsResponse(BaseModel):
    events: list[EventResponse]


class OpAttemptResponse(BaseModel):
    attempt: int
    state: OpState
    worker_id: str | None
    gpu_id: int | None
    pod: str | None
    created_at: str | None
    started_at: str | None
    completed_at: str | None
    exit_code: int | None
    reason: str | None
    error_message: str | None
    progress: int
