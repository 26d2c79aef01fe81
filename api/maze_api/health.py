"""What /health and /ready say: what is measured of others, and models of the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from pydantic import BaseModel, Field

from maze_api.errors import ApiError
from maze_api.worker_cache import pool_path
from maze_crds.worker import POOL_NAME, WorkerState
from maze_io.kube import Kube, KubeError

PROBE_SECONDS = 2.0


class DatabaseHealth(BaseModel):
    """The Kubernetes API server, which holds the state."""

    connected: bool
    latency_ms: float | None = Field(description="Of one small read; null: not connected.")


class WorkersHealth(BaseModel):
    total: int
    idle: int
    busy: int
    offline: int


class QueueHealth(BaseModel):
    """Tasks whose Runs exist."""

    pending: int
    running: int
    completed: int


class ArchiveHealth(BaseModel):
    """PostgreSQL, where DATABASE_URL names one."""

    connected: bool
    latency_ms: float | None
    waiting: int = Field(description="Ended tasks that are not in it yet; their Runs stay until they are.")
    detail: str | None


class Health(BaseModel):
    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    timestamp: str
    database: DatabaseHealth
    workers: WorkersHealth
    queue: QueueHealth
    archive: ArchiveHealth | None = Field(description="null: there is none.")
    detail: str | None = Field(default=None, description="What is wrong.")


class Ready(BaseModel):
    ready: bool
    database: bool = Field(description="The Runs are known.")
    workers: bool = Field(description="The workers are known.")
    kubernetes: bool
    store: bool = Field(description="The object store answers.")
    detail: str | None = Field(default=None, description="What is missing.")


async def measure(call: Callable[[], Awaitable[object]]) -> tuple[float | None, str | None]:
    """Milliseconds that a call took; else why it did not succeed within PROBE_SECONDS."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await call()
    except TimeoutError:
        return None, f"no answer within {PROBE_SECONDS:.0f} s"
    except (KubeError, ApiError) as error:
        return None, str(error)
    return round((time.monotonic() - began) * 1000, 1), None


async def read_state(kube: Kube, namespace: str) -> None:
    """A small read that the API server answers from its database; it need not be there.

    Raises:
        KubeError: it can't.
    """
    try:
        await kube.get(pool_path(namespace, POOL_NAME))
    except KubeError as error:
        if not error.not_found:
            raise


def count_workers(states: Iterable[WorkerState]) -> WorkersHealth:
    """How many there are of each state."""
    found = list(states)
    return WorkersHealth(
        total=len(found),
        idle=found.count(WorkerState.IDLE),
        busy=found.count(WorkerState.BUSY),
        offline=found.count(WorkerState.OFFLINE),
    )
