"""Bodies and answers of the Task Executor's tasks, as OpenAPI shows them."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from maze_api.bodies import Body
from maze_api.task_logs import Level
from maze_api.task_view import TaskState
from maze_crds.base import Key

MOST_PARAMETERS = 250
"""A Run has at most 256 inputs."""
MOST_SECONDS = 604800

WholeNumber = Annotated[int, Field(strict=True)]
ProblemId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Which problem; Workflows and workers say with globs which ones they serve.",
    ),
]


def _is_json(value: JsonValue) -> JsonValue:
    """Python's parser takes NaN, infinity and lone surrogates, which no JSON document may hold."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return value


class Parameters(BaseModel):
    """Inputs of the Workflow. Any others than these are kept, too."""

    model_config = ConfigDict(frozen=True, extra="allow", str_max_length=2**30)
    __pydantic_extra__: dict[Key, Annotated[JsonValue, AfterValidator(_is_json)]] = Field(init=False)

    max_steps: Annotated[WholeNumber | None, Field(ge=1, le=2**53)] = None
    """None: DEFAULT_MAX_STEPS."""
    timeout: Annotated[WholeNumber | None, Field(ge=1, le=MOST_SECONDS, description="Seconds.")] = None
    """None: DEFAULT_TIMEOUT_MINUTES."""

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        if len(self.__pydantic_extra__) > MOST_PARAMETERS:
            raise ValueError(f"{len(self.__pydantic_extra__)} parameters; at most {MOST_PARAMETERS} are allowed")
        return self

    def given(self) -> dict[str, Any]:
        """What was said."""
        return {key: value for key, value in self.model_dump(exclude_unset=True).items() if not _unsaid(key, value)}


def _unsaid(key: str, value: Any) -> bool:
    return value is None and key in Parameters.model_fields


class CreateTask(Body):
    problem_id: ProblemId
    parameters: Parameters | None = None
    priority: Annotated[WholeNumber, Field(ge=-1000, le=1000, description="Higher ones are served first.")] = 0

    def fingerprint(self) -> str:
        """Tells a repeat of this request from another one."""
        given = self.parameters.given() if self.parameters else {}
        said = {"problem_id": self.problem_id, "parameters": given, "priority": self.priority}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class TaskCreated(BaseModel):
    id: str
    problem_id: str
    status: TaskState
    parameters: dict[str, Any]
    priority: int
    created_at: str
    updated_at: str


class TaskItem(BaseModel):
    id: str
    problem_id: str
    status: TaskState
    worker_id: str | None
    priority: int
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None


class TaskDetail(TaskItem):
    parameters: dict[str, Any]
    result: Any
    """`{success, output, metrics}` of one that ended; of an external worker what it reported."""
    attempt: int
    """How many workers have had it."""
    reason: str | None
    message: str | None


class TaskCancelled(BaseModel):
    message: Literal["Task cancelled successfully"]
    task_id: str


class LogEntry(BaseModel):
    timestamp: str
    level: Level
    message: str
    context: dict[str, Any]


class TaskEvent(BaseModel):
    id: int
    type: str
    task_id: str
    status: TaskState
    worker_id: str | None
    timestamp: str | None
    attempt: int | None = None
    step: str | None = None
    reason: str | None = None
    message: str | None = None


class TaskEvents(BaseModel):
    events: list[TaskEvent]
    ended: bool
