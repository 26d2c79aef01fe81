"""Tasks of the Task Executor: create, look, list, cancel, logs, events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response, WebSocket
from starlette.responses import JSONResponse

from maze_api import errors, sockets
from maze_api.archive.record import Archived, ArchiveDown, Wanted, wants_archiving
from maze_api.cache import Runs, view
from maze_api.deps import Services, ServicesDep, can_be_a_name
from maze_api.errors import ApiError, Conflict, NotFound, Unavailable
from maze_api.task_bodies import (
    CreateTask,
    LogEntry,
    TaskCancelled,
    TaskCreated,
    TaskDetail,
    TaskEvents,
    TaskItem,
)
from maze_api.task_describe import created_json, item_json, task_json
from maze_api.task_events import end_event, event_json, events_after
from maze_api.task_journal import journal
from maze_api.task_logs import Level, chosen, entries_json
from maze_api.task_view import TaskState, TaskView, is_task, view_task
from maze_crds.base import format_time
from maze_io.kube import KubeError, runs_path

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])
live = APIRouter(tags=["tasks"])
log = logging.getLogger(__name__)

MOST_TASKS = 1000
MOST_OFFSET = 2**31
MOST_ENTRIES = 100_000
EVENTS = 200
"""Events in one answer; `ended` is only true in the answer that holds the last one, or follows it."""

Json = dict[str, Any]


async def find_live(found: Services, task_id: str) -> TaskView | None:
    """The task from the cache, or from the API server where the cache does not have it (yet).

    Raises:
        KubeError: Kubernetes is out of reach.
    """
    known = found.tasks.get(task_id)
    if known is not None or not can_be_a_name(task_id):
        return known
    try:
        obj = await found.runs.kube.get(runs_path(found.settings.namespace, task_id))
    except KubeError as error:
        if error.not_found:
            return None
        raise
    found.runs.put(obj)
    return view_task(obj) if is_task(obj) else None


async def find_archived(found: Services, task_id: str) -> Archived | None:
    """The task from the archive. Asked last: a task is there before its Run goes.

    Raises:
        Unavailable: the archive does not answer.
    """
    return await found.archive.find(task_id) if found.archive is not None and can_be_a_name(task_id) else None


async def find_task(found: Services, task_id: str) -> TaskView | None:
    """The task, also where its Run is gone.

    Raises:
        KubeError: Kubernetes is out of reach.
        Unavailable: the archive, which alone may know it, does not answer.
    """
    live = await find_live(found, task_id)
    if live is not None:
        return live
    archived = await find_archived(found, task_id)
    return view_task(archived.run) if archived is not None else None


def no_task(task_id: str) -> NotFound:
    return NotFound(f"there is no task '{task_id[:100]}'")


async def known_task(task_id: Annotated[str, Path()], found: ServicesDep) -> TaskView:
    """The task that a path names.

    Raises:
        NotFound: there is none.
    """
    task = await find_task(found, task_id)
    if task is None:
        raise no_task(task_id)
    return task


TaskDep = Annotated[TaskView, Depends(known_task)]


@router.post("", status_code=201, response_model=TaskCreated)
async def create_task(
    body: CreateTask,
    found: ServicesDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Creating twice with one key and body makes one task.",
        ),
    ] = None,
) -> JSONResponse:
    """Queue a problem for the next worker that takes it."""
    made = view_task(await found.creation.create(body, idempotency_key))
    log.info("task %s of problem %s", made.id, made.problem_id)
    return JSONResponse(created_json(made), 201)


@router.get("", response_model=list[TaskItem])
async def list_tasks(
    found: ServicesDep,
    status: TaskState | None = None,
    problem_id: str | None = None,
    worker_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_TASKS)] = 100,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
) -> list[Json]:
    """Tasks that fit all filters, newest first."""
    if not found.runs.synced:
        raise Unavailable("the tasks could not be listed yet; try again")
    live = found.tasks.list(status, problem_id, worker_id)
    if found.archive is None or status in (TaskState.PENDING, TaskState.RUNNING):
        return [item_json(task) for task in live[offset : offset + limit]]
    shown = await found.archive.page(
        [(task.created_at, task.id) for task in live], Wanted(status, problem_id, worker_id), limit, offset
    )
    by_id = {task.id: task for task in live}
    return [item_json(by_id[item]) if isinstance(item, str) else item for item in shown]


@router.get("/{task_id}", response_model=TaskDetail)
async def get_task(task_id: Annotated[str, Path()], found: ServicesDep) -> Response:
    """One task, with its result once it has ended."""
    task = await find_live(found, task_id)
    if task is None or not wants_archiving(task.obj):
        # Also while its Run is there: that goes any moment, with its results in the object store.
        archived = await _archived_answer(found, task_id, task)
        if archived is not None:
            return archived
    if task is None:
        raise no_task(task_id)
    # Not by the model, which gives up on what is nested deeply.
    return JSONResponse(task_json(task, await found.results.of(task)))


async def _archived_answer(found: Services, task_id: str, live: TaskView | None) -> Response | None:
    try:
        archived = await find_archived(found, task_id)
    except ArchiveDown:
        if live is None:
            raise
        return None
    return None if archived is None else Response(archived.answer, media_type="application/json")


@router.post("/{task_id}/cancel", response_model=TaskCancelled)
async def cancel_task(task: TaskDep, found: ServicesDep) -> Json:
    """Stop it, or take it out of the queue. 409: it has ended already."""
    if task.ended:
        raise Conflict(f"task '{task.id}' has ended already: it is {task.state.value}")
    try:
        await found.runs.cancel(task.id, "task")
    except KubeError as error:
        if error.not_found:
            raise no_task(task.id) from error
        raise
    return {"message": "Task cancelled successfully", "task_id": task.id}


@router.get("/{task_id}/logs", response_model=list[LogEntry])
async def task_logs(
    task: TaskDep,
    found: ServicesDep,
    level: Annotated[Level | None, Query(description="Entries of exactly this level.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES, description="The newest ones.")] = 10_000,
) -> Response:
    """What was logged, oldest first: what the process prints while it runs and after its end, or what workers did."""
    entries = chosen(await journal(found.logs, view(task.obj), task.started_at or task.created_at), level, limit)
    body = json.dumps(list(entries_json(entries, format_time)), ensure_ascii=False)
    return Response(body.encode(errors="replace"), media_type="application/json")


@router.get("/{task_id}/events", response_model=TaskEvents, response_model_exclude_unset=True)
async def task_events(task: TaskDep, after: Annotated[int, Query(ge=0)] = 0) -> Json:
    """What happened after event number `after`. Ask again with the last `id` until `ended`."""
    status = view(task.obj).status
    events = events_after(status, after)
    page = events[:EVENTS]
    ended = end_event(status) is not None and len(page) == len(events)
    return {"events": [event_json(event, task.id) for event in page], "ended": ended}


@live.websocket("/ws/tasks/{task_id}")
async def stream_events(
    socket: WebSocket, task_id: str, found: ServicesDep, after: Annotated[int, Query(ge=0)] = 0
) -> None:
    """The events of a task as they happen, from the first that comes after number `after`; closed after the last one.

    A task that does not exist is refused before the handshake (404).
    """
    try:
        task = await find_task(found, task_id)
        if task is None:
            raise no_task(task_id)
    except (ApiError, KubeError) as error:
        await socket.send_denial_response(errors.response(errors.translate(error)))
        return
    await sockets.tell(socket, follow_events(found.runs, task.id, after), f"task {task.id}")


async def follow_events(runs: Runs, task_id: str, after: int) -> AsyncGenerator[Json, None]:
    """All events after number `after`, waiting for those to come; ends after the last.

    Raises:
        RunGone: the task was deleted before it ended.
    """
    async with aclosing(runs.states(task_id)) as states:
        async for run in states:
            if run is None:
                raise sockets.RunGone(f"task '{task_id}' was deleted")
            for event in events_after(run.status, after):
                yield event_json(event, task_id)
                after = event.number
            if end_event(run.status) is not None:
                return
