"""Workers of the Task Executor: internal ones are controlled, external ones register, claim and report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Response

from maze_api import metrics
from maze_api.deps import Services, ServicesDep, can_be_a_name
from maze_api.errors import NotFound
from maze_api.pool import is_running, members_of, replicas_of
from maze_api.task_bodies import TaskDetail
from maze_api.task_describe import task_json
from maze_api.task_view import TaskState
from maze_api.worker_bodies import (
    AnyJson,
    FailBody,
    HeartbeatBody,
    HeartbeatReceived,
    InternalScaled,
    InternalStarted,
    InternalStatus,
    InternalStopped,
    RegisterBody,
    Reported,
    ScaleBody,
    WorkerRegistered,
    WorkerShown,
    WorkerStats,
    describe_registered,
    describe_stats,
    describe_worker,
    state_of,
)
from maze_api.worker_cache import WorkerView
from maze_api.worker_registry import require_external
from maze_crds.base import format_time
from maze_crds.protocol import WorkerReport
from maze_crds.worker import WorkerState

router = APIRouter(prefix="/api/v1/workers", tags=["workers"])
Json = dict[str, Any]

WorkerId = Annotated[str, Path(max_length=253)]
TaskId = Annotated[str, Path(max_length=253)]


async def known_worker(worker_id: WorkerId, found: ServicesDep) -> WorkerView:
    """The worker that a path names.

    Raises:
        NotFound: there is none.
    """
    worker = await found.workers.find(worker_id)
    if worker is None:
        raise NotFound(f"there is no worker '{worker_id[:100]}'")
    return worker


WorkerDep = Annotated[WorkerView, Depends(known_worker)]


# Before the routes of one worker: these paths are never workers.


@router.get("/internal/status", response_model=InternalStatus)
async def internal_status(found: ServicesDep) -> Json:
    """Internal workers, and whether they take tasks."""
    found.workers.require()
    await found.crew.pool.ready()
    pool = found.workers.pool
    shown = []
    for worker_id in members_of(pool):
        held = found.tasks.of_worker(worker_id)
        state = WorkerState.BUSY if held else WorkerState.IDLE
        shown.append({"id": worker_id, "status": state.value, "current_task": held[0].id if held else None})
    return {"running": is_running(pool), "num_workers": replicas_of(pool), "workers": shown}


@router.post("/internal/scale", response_model=InternalScaled)
async def internal_scale(body: ScaleBody, found: ServicesDep) -> Json:
    """Change the number of internal workers. Those that are too many finish the task that they have."""
    previous, new = await found.crew.pool.scale(body.num_workers)
    return {"message": "Workers scaled successfully", "previous_count": previous, "new_count": new}


@router.post("/internal/stop", response_model=InternalStopped)
async def internal_stop(found: ServicesDep) -> Json:
    """Internal workers take no new tasks; they finish what they have."""
    return {"message": "Workers stopped", "stopped_count": await found.crew.pool.stop()}


@router.post("/internal/start", response_model=InternalStarted)
async def internal_start(found: ServicesDep) -> Json:
    """Internal workers take tasks again."""
    return {"message": "Workers started", "worker_count": await found.crew.pool.start()}


@router.get("", response_model=list[WorkerShown])
async def list_workers(
    found: ServicesDep,
    status: WorkerState | None = None,
    backend_type: Annotated[str | None, Query(max_length=253)] = None,
) -> list[Json]:
    """All workers, internal and external, by id."""
    found.workers.require()
    now = datetime.now(UTC)
    operator = await found.crew.operator.renewed()
    shown = []
    for worker in found.workers.all():
        state = state_of(worker, found.tasks, now)
        if (status is None or state is status) and (backend_type is None or worker.backend_type == backend_type):
            shown.append(describe_worker(worker, state, operator if worker.internal else worker.heard))
    return shown


@router.post("/register", status_code=201, response_model=WorkerRegistered)
async def register(body: RegisterBody, found: ServicesDep) -> Json:
    """Register a worker, or update one. 409: an internal worker of this id is executing a task."""
    worker = await found.crew.registry.register(body)
    return describe_registered(worker, state_of(worker, found.tasks, datetime.now(UTC)))


@router.get("/{worker_id}", response_model=WorkerShown)
async def get_worker(worker: WorkerDep, found: ServicesDep) -> Json:
    """One worker."""
    heard = await found.crew.operator.renewed() if worker.internal else worker.heard
    return describe_worker(worker, state_of(worker, found.tasks, datetime.now(UTC)), heard)


@router.delete("/{worker_id}", status_code=204)
async def delete_worker(worker: WorkerDep, found: ServicesDep) -> Response:
    """Forget an external worker; its tasks go back into the queue."""
    await found.crew.registry.remove(worker)
    return Response(status_code=204)


@router.get("/{worker_id}/stats", response_model=WorkerStats)
async def stats(worker: WorkerDep, found: ServicesDep) -> Json:
    """What a worker has done so far."""
    ended = [task for task in found.tasks.list(worker_id=worker.id) if task.ended]
    return describe_stats(worker, found.tasks.of_worker(worker.id), ended, datetime.now(UTC))


@router.post("/{worker_id}/heartbeat", response_model=HeartbeatReceived)
async def heartbeat(
    worker_id: WorkerId, found: ServicesDep, body: Annotated[HeartbeatBody | None, Body()] = None
) -> Json:
    """A sign of life. A worker that misses them becomes offline, and its tasks go back into the queue."""
    worker = require_external(await found.workers.find(worker_id), worker_id, "knows whether it is well")
    noted = await found.crew.registry.heartbeat(worker, body or HeartbeatBody())
    return {"message": "Heartbeat received", "timestamp": format_time(noted)}


@router.post("/{worker_id}/claim", response_model=TaskDetail, responses={204: {"description": "No tasks available"}})
async def claim(worker_id: WorkerId, found: ServicesDep) -> Json | Response:
    """The next task for this worker, which has it from now on; 204: there is none."""
    worker = require_external(await found.workers.find(worker_id), worker_id, "gives it tasks")
    await found.crew.registry.back(worker)
    task = await found.crew.claims.claim(worker)
    metrics.CLAIMS.labels("empty" if task is None else "claimed").inc()
    # Why it waited until now is of no interest any more.
    return Response(status_code=204) if task is None else {**task_json(task, None), "reason": None, "message": None}


@router.post("/{worker_id}/tasks/{task_id}/complete", response_model=Reported)
async def complete(
    worker_id: WorkerId, task_id: TaskId, found: ServicesDep, result: Annotated[AnyJson, Body()] = None
) -> Json:
    """The worker has done the task; any JSON is its result. 409: the worker does not have the task (any more)."""
    await _report(found, worker_id, task_id, {"outcome": "completed", "result": result})
    return {"message": "Task completed successfully", "task_id": task_id, "status": TaskState.COMPLETED.value}


@router.post("/{worker_id}/tasks/{task_id}/fail", response_model=Reported)
async def fail(worker_id: WorkerId, task_id: TaskId, body: FailBody, found: ServicesDep) -> Json:
    """The worker could not do the task. 409: the worker does not have the task (any more)."""
    await _report(found, worker_id, task_id, {"outcome": "failed", "error": body.text})
    return {"message": "Task failure recorded", "task_id": task_id, "status": TaskState.FAILED.value}


async def _report(found: Services, worker_id: str, task_id: str, said: Json) -> None:
    """Forward what an external worker says of a task."""
    worker = require_external(await found.workers.find(worker_id), worker_id, "knows what became of its tasks")
    await found.crew.registry.heard(worker)
    no_task = found.runs.object(task_id) is not None and found.tasks.get(task_id) is None
    if no_task or not can_be_a_name(task_id):
        raise NotFound(f"there is no task '{task_id[:100]}'")
    where: WorkerReport = {"namespace": found.settings.namespace, "run": task_id, "worker": worker_id, **said}  # type: ignore[typeddict-item]
    await found.crew.reports.send(where)
