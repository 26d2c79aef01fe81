"""Is the process sound, can it serve, and what has it done."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse

from maze_api.deps import Services, ServicesDep
from maze_api.health import (
    ArchiveHealth,
    DatabaseHealth,
    Health,
    QueueHealth,
    Ready,
    count_workers,
    measure,
    read_state,
)
from maze_api.task_view import TaskState
from maze_api.worker_bodies import state_of
from maze_io.store import StoreError

router = APIRouter(tags=["health"])

STORE_SECONDS = 2.5
"""The kubelet waits 3 s."""


@router.get("/health", responses={503: {"model": Health, "description": "Only a restart can help this process"}})
async def health(request: Request, found: ServicesDep) -> Health:
    """200 unless this process can only be helped by a restart: "degraded" says that something that it needs is away."""
    (latency, problem), archive = await asyncio.gather(
        measure(lambda: read_state(found.runs.kube, found.settings.namespace)), _archive(found)
    )
    now = datetime.now(UTC)
    counts = found.tasks.counts()
    troubled = latency is None or (archive is not None and not archive.connected)
    made = Health(
        status="unhealthy" if found.problem else "degraded" if troubled else "healthy",
        version=request.app.version,
        timestamp=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        database=DatabaseHealth(connected=latency is not None, latency_ms=latency),
        workers=count_workers(state_of(worker, found.tasks, now) for worker in found.workers.all()),
        queue=QueueHealth(
            pending=counts[TaskState.PENDING],
            running=counts[TaskState.RUNNING],
            completed=counts[TaskState.COMPLETED],
        ),
        archive=archive,
        detail=found.problem or problem,
    )
    return JSONResponse(made.model_dump(), 503 if found.problem else 200)  # type: ignore[return-value]


async def _archive(found: Services) -> ArchiveHealth | None:
    if found.archive is None or found.archiver is None:
        return None
    latency, problem = await measure(found.archive.check)
    return ArchiveHealth(connected=latency is not None, latency_ms=latency, waiting=len(found.archiver), detail=problem)


@router.get("/ready", responses={503: {"model": Ready, "description": "Not yet, or not now"}})
async def ready(found: ServicesDep) -> Ready:
    """200 once Runs and workers are known and the object store answers; 503 names what is missing."""
    store_problem: str | None = None
    try:
        await asyncio.wait_for(found.store.run(found.store.store.check), STORE_SECONDS)
    except (StoreError, TimeoutError) as error:
        store_problem = str(error) or f"the object store did not answer within {STORE_SECONDS} s"
    known = {"Runs": found.runs.synced, "workers": found.workers.synced}
    missing = [f"the {what} could not be listed yet; the log tells why" for what, there in known.items() if not there]
    missing += [store_problem] if store_problem is not None else []
    made = Ready(
        ready=not missing,
        database=found.runs.synced,
        workers=found.workers.synced,
        kubernetes=found.runs.synced and found.workers.synced,
        store=store_problem is None,
        detail="; ".join(missing) or None,
    )
    return JSONResponse(made.model_dump(exclude_none=True), 503 if missing else 200)  # type: ignore[return-value]


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text format", "content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}
    },
)
async def metrics() -> Response:
    """What this process has done, for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
