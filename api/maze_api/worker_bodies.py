"""What callers say of workers, and how workers are shown. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, JsonValue

from maze_api.bodies import Body
from maze_api.task_index import TaskIndex
from maze_api.task_view import TaskState, TaskView
from maze_api.worker_cache import WorkerView
from maze_crds.base import format_time
from maze_crds.problems import Globs
from maze_crds.worker import WorkerState

Json = dict[str, Any]
METADATA_BYTES = 64 * 1024
MOST_WORKERS = 10000
PATH_WORDS = (".", "..")
"""HTTP clients take these out of paths."""


def encode(value: Any) -> bytes:
    """As compact UTF-8 JSON.

    Raises:
        ValueError: it holds what no JSON text in UTF-8 can: NaN, an infinity, or half of a surrogate pair.
    """
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no text") from None
    except ValueError:
        raise ValueError("NaN and infinities are no JSON") from None


def _check_id(worker_id: str) -> str:
    if "/" in worker_id or worker_id in PATH_WORDS or not worker_id.isprintable():
        raise ValueError("a worker id must fit into a path: printable characters, no '/', and not '.' or '..'")
    return worker_id


def _check_metadata(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(encode(metadata))
    if size > METADATA_BYTES:
        raise ValueError(f"{size} bytes of JSON, but at most {METADATA_BYTES} are kept")
    return metadata


def _check_json(value: JsonValue) -> JsonValue:
    encode(value)
    return value


AnyJson = Annotated[JsonValue, AfterValidator(_check_json)]
Count = Annotated[int, Field(ge=0, le=MOST_WORKERS, strict=True)]


class CapabilitiesBody(Body):
    max_parallel_tasks: Annotated[int, Field(ge=1, le=10000, strict=True)] = 1
    supported_problems: Annotated[Globs, Field(description="Globs of problem ids; none: all.")] = Field(
        default_factory=list
    )


class RegisterBody(Body):
    worker_id: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_check_id)]
    backend_type: Annotated[str, Field(min_length=1, max_length=253)]
    capabilities: CapabilitiesBody = CapabilitiesBody()
    metadata: Annotated[dict[str, JsonValue], AfterValidator(_check_metadata)] = Field(default_factory=dict)


class HeartbeatBody(Body):
    """ "offline": the worker leaves; its tasks go back into the queue."""

    status: WorkerState = WorkerState.IDLE
    current_task_id: Annotated[str | None, Field(max_length=253)] = None


class ScaleBody(Body):
    num_workers: Count


class FailBody(Body):
    error: Annotated[AnyJson, Field(description="What went wrong: a text, or any JSON.")]

    @property
    def text(self) -> str:
        return self.error if isinstance(self.error, str) else encode(self.error).decode()


class CapabilitiesShown(BaseModel):
    max_parallel_tasks: int
    supported_problems: list[str]


class WorkerShown(BaseModel):
    id: str
    backend_type: str
    status: WorkerState
    last_heartbeat: str
    """Of an internal worker: the operator's, whose slot it is."""
    capabilities: CapabilitiesShown
    tasks_completed: int
    tasks_failed: int
    internal: bool
    registered_at: str
    metadata: dict[str, Any]


class WorkerRegistered(BaseModel):
    id: str
    backend_type: str
    status: WorkerState
    registered_at: str


class WorkerStats(BaseModel):
    """Counts over the worker's whole life."""

    id: str
    tasks_completed: int
    tasks_failed: int
    """With a time limit, too."""
    tasks_lost: int
    """Taken away because it went silent."""
    tasks_running: int
    running_tasks: list[str]
    success_rate: float | None
    """Completed of all that were completed or failed; null: none were."""
    average_duration_seconds: float | None
    """Of those tasks that are still known; null: there are none."""
    uptime_seconds: float
    """Since it registered first."""


class HeartbeatReceived(BaseModel):
    message: str
    timestamp: str


class Reported(BaseModel):
    message: str
    task_id: str
    status: TaskState


class InternalWorker(BaseModel):
    id: str
    status: WorkerState
    current_task: str | None


class InternalStatus(BaseModel):
    running: bool
    num_workers: int
    workers: list[InternalWorker]


class InternalScaled(BaseModel):
    message: str
    previous_count: int
    new_count: int


class InternalStopped(BaseModel):
    message: str
    stopped_count: int


class InternalStarted(BaseModel):
    message: str
    worker_count: int


def state_of(worker: WorkerView, tasks: TaskIndex, now: datetime) -> WorkerState:
    """Busy comes from where the states of tasks come from, so that a task shown as ended keeps no worker busy."""
    if worker.offline(now):
        return WorkerState.OFFLINE
    if tasks.of_worker(worker.id):
        return WorkerState.BUSY
    if worker.internal or worker.said.status != WorkerState.BUSY:
        return WorkerState.IDLE
    known = tasks.get(worker.said.task_id) if worker.said.task_id else None
    return WorkerState.IDLE if known is not None and known.ended else WorkerState.BUSY


def describe_worker(worker: WorkerView, state: WorkerState, heard: datetime | None) -> Json:
    """A worker as the list shows it; `heard`: when it gave its last sign of life."""
    return {
        "id": worker.id,
        "backend_type": worker.backend_type,
        "status": state.value,
        "last_heartbeat": format_time(heard or worker.registered_at),
        "capabilities": {
            "max_parallel_tasks": worker.max_parallel_tasks,
            "supported_problems": list(worker.supported_problems),
        },
        "tasks_completed": worker.tasks_completed,
        "tasks_failed": worker.tasks_failed,
        "internal": worker.internal,
        "registered_at": format_time(worker.registered_at),
        "metadata": worker.metadata,
    }


def describe_registered(worker: WorkerView, state: WorkerState) -> Json:
    """The answer to a registration."""
    return {
        "id": worker.id,
        "backend_type": worker.backend_type,
        "status": state.value,
        "registered_at": format_time(worker.registered_at),
    }


def describe_stats(worker: WorkerView, running: Sequence[TaskView], ended: Iterable[TaskView], now: datetime) -> Json:
    """What GET …/stats answers. `ended`: its tasks that have ended."""
    finished = worker.tasks_completed + worker.tasks_failed
    seconds = [
        (task.completed_at - task.started_at).total_seconds()
        for task in ended
        if task.started_at and task.completed_at and task.state is not TaskState.CANCELLED
    ]
    return {
        "id": worker.id,
        "tasks_completed": worker.tasks_completed,
        "tasks_failed": worker.tasks_failed,
        "tasks_lost": worker.tasks_lost,
        "tasks_running": len(running),
        "running_tasks": [task.id for task in running],
        "success_rate": worker.tasks_completed / finished if finished else None,
        "average_duration_seconds": sum(seconds) / len(seconds) if seconds else None,
        "uptime_seconds": max(0.0, (now - worker.registered_at).total_seconds()),
    }
