"""The protocol of Maze clients: build a workflow, run it, read its result stream."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from fastapi import APIRouter, WebSocket

from maze_api import errors, sockets
from maze_api.bodies import AddTaskBody, EdgeBody, SaveTaskBody, TaskBody, WorkflowBody
from maze_api.deps import DraftsDep, ServicesDep, can_be_a_name
from maze_api.errors import ApiError, NotFound
from maze_api.results import stream
from maze_api.submit import run_object
from maze_io.kube import KubeError

router = APIRouter()
log = logging.getLogger(__name__)

SUCCESS = {"status": "success"}


@router.post("/create_workflow")
async def create_workflow(drafts: DraftsDep) -> dict[str, str]:
    return {**SUCCESS, "workflow_id": await drafts.create()}


@router.post("/add_task")
async def add_task(body: AddTaskBody, drafts: DraftsDep) -> dict[str, str]:
    return {**SUCCESS, "task_id": await drafts.add_task(body.workflow_id, body.task_name)}


@router.post("/save_task")
async def save_task(body: SaveTaskBody, drafts: DraftsDep) -> dict[str, str]:
    await drafts.save_task(body, with_edges=False)
    return SUCCESS


@router.post("/save_task_and_add_edge")
async def save_task_and_add_edge(body: SaveTaskBody, drafts: DraftsDep) -> dict[str, str]:
    await drafts.save_task(body, with_edges=True)
    return SUCCESS


@router.post("/del_task")
async def del_task(body: TaskBody, drafts: DraftsDep) -> dict[str, str]:
    await drafts.delete_task(body.workflow_id, body.task_id)
    return {**SUCCESS, "task_id": body.task_id}


@router.post("/add_edge")
async def add_edge(body: EdgeBody, drafts: DraftsDep) -> dict[str, str]:
    await drafts.add_edge(body.workflow_id, body.source_task_id, body.target_task_id)
    return SUCCESS


@router.post("/del_edge")
async def del_edge(body: EdgeBody, drafts: DraftsDep) -> dict[str, str]:
    await drafts.delete_edge(body.workflow_id, body.source_task_id, body.target_task_id)
    return SUCCESS


@router.get("/get_workflow_tasks/{workflow_id}")
async def get_workflow_tasks(workflow_id: str, drafts: DraftsDep) -> dict[str, Any]:
    tasks = await drafts.tasks(workflow_id)
    return {**SUCCESS, "tasks": [{"id": task.id, "name": task.name} for task in tasks]}


@router.post("/run_workflow")
async def run_workflow(body: WorkflowBody, found: ServicesDep) -> dict[str, str]:
    """One Run with the workflow as it is now; later changes of the draft do not reach it."""
    workflow = await found.drafts.freeze(body.workflow_id)
    run_id = str(uuid.uuid4())
    settings = found.settings
    await found.runs.create(
        run_object(run_id, settings.namespace, body.workflow_id, workflow, settings.run_ttl_seconds)
    )
    log.info("run %s of workflow %s", run_id, body.workflow_id)
    return {**SUCCESS, "run_id": run_id}


@router.websocket("/get_workflow_res/{workflow_id}/{run_id}")
async def get_workflow_res(socket: WebSocket, workflow_id: str, run_id: str, found: ServicesDep) -> None:
    """The whole stream from its first message, however often and by however many it is read.

    What can't be read is refused before the handshake (404, 503), because existing clients take a close for a success.
    """
    try:
        run = await found.runs.get(run_id) if can_be_a_name(run_id) else None
        if run is None or run.workflow_id != workflow_id:
            raise NotFound(f"there is no run '{run_id[:100]}' of workflow '{workflow_id[:100]}'")
    except (ApiError, KubeError) as error:
        await socket.send_denial_response(errors.response(errors.translate(error)))
        return
    await sockets.tell(socket, stream(found.runs, found.store, workflow_id, run_id), f"run {run_id}")
