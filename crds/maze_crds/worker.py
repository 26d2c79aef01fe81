"""Worker and WorkerPool: who executes the tasks of the Task Executor.

An external Worker claims tasks over REST; its heartbeat is a Lease of the same name, as nodes do it. Internal Workers are
concurrency slots that the operator makes from the one WorkerPool and fills itself.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue, WithJsonSchema

from maze_crds.base import Model, Time
from maze_crds.problems import Globs

POOL_NAME = "internal"
"""The one WorkerPool of a namespace that counts."""
INTERNAL_BACKEND = "kind"
"""backendType of internal Workers, as the Task Executor's reference shows it."""

Metadata = Annotated[
    dict[str, JsonValue], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]


class WorkerState(StrEnum):
    IDLE = "idle"
    BUSY = "busy"
    OFFLINE = "offline"


class Capabilities(Model):
    max_parallel_tasks: Annotated[int, Field(ge=1, le=10000)] = 1
    supported_problems: Annotated[Globs, Field(description="Globs of problem ids; none: all.")] = Field(
        default_factory=list
    )


class WorkerSpec(Model):
    worker_id: Annotated[str, Field(min_length=1, max_length=253, description="As the worker says it.")]
    backend_type: Annotated[str, Field(min_length=1, max_length=253)]
    internal: Annotated[bool, Field(description="A slot that the operator fills; made from the WorkerPool.")] = False
    capabilities: Capabilities = Capabilities()
    metadata: Annotated[Metadata, Field(description="Whatever the worker said of itself.")] = Field(
        default_factory=dict
    )
    registered_time: Time | None = None


class WorkerStatus(Model):
    observed_generation: int = 0
    state: WorkerState = WorkerState.IDLE
    tasks_completed: int = 0
    tasks_failed: Annotated[int, Field(description="Failed and timed out ones.")] = 0
    tasks_lost: Annotated[int, Field(description="Taken away because the worker went silent.")] = 0


class WorkerPoolSpec(Model):
    replicas: Annotated[int, Field(ge=0, le=10000, description="Internal workers.")] = 3
    running: Annotated[bool, Field(description="False: they take no new tasks.")] = True


class WorkerPoolStatus(Model):
    observed_generation: int = 0
    replicas: Annotated[int, Field(description="Internal workers that there are, draining ones included.")] = 0
    members: Annotated[
        list[str],
        Field(description="Worker ids that may take tasks.", json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = Field(default_factory=list)
