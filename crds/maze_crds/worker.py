"""Worker: one registered Task Executor worker. Its heartbeat is a Lease of the same name, as nodes do it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from maze_crds.base import Model


class Capabilities(Model):
    max_parallel_tasks: Annotated[int, Field(ge=1, le=10000)] = 1
    supported_problems: Annotated[
        list[str] | None, Field(max_length=1000, description="Globs of problem ids; none: all.")
    ] = None


class WorkerSpec(Model):
    backend_type: Annotated[str, Field(min_length=1, max_length=253)]
    capabilities: Capabilities = Capabilities()


class WorkerStatus(Model):
    observed_generation: int = 0
    state: Annotated[str, Field(json_schema_extra={"enum": ["idle", "busy", "offline"]})] = "idle"
    tasks_completed: int = 0
    tasks_failed: int = 0
