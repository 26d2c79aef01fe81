"""The LangGraph pair: functions that are called with arguments, each call a Run of its own that the caller waits for."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter

from maze_api.bodies import AddLangGraphBody, RunLangGraphBody
from maze_api.cache import RunView
from maze_api.deps import DraftsDep, Services, ServicesDep
from maze_api.errors import Conflict
from maze_api.events import failure_text
from maze_api.results import read_result, show_outputs
from maze_api.submit import dump, run_object
from maze_api.wire import arguments
from maze_crds.run import TaskPhase
from maze_crds.workflow import WorkflowSpec

router = APIRouter()
log = logging.getLogger(__name__)

KEEP_SECONDS = 24 * 3600
"""A graph makes many calls and reads each result at once; nobody deletes these Runs."""


@router.post("/add_langgraph_task")
async def add_langgraph_task(body: AddLangGraphBody, drafts: DraftsDep) -> dict[str, str]:
    """Register a function. It can be called as often as needed, also at the same time."""
    return {"status": "success", "task_id": await drafts.add_langgraph_task(body)}


@router.post("/run_langgraph_task")
async def run_langgraph_task(body: RunLangGraphBody, found: ServicesDep) -> dict[str, Any]:
    """Call it and wait. `result` is what it returned, or the traceback of what it raised. A caller who leaves stops nothing."""
    task = await found.drafts.langgraph_task(body.workflow_id, body.task_id)
    inputs, uploads = await asyncio.to_thread(arguments, body.args, body.keywords)
    await asyncio.gather(*(found.store.put(upload.key, upload.data) for upload in uploads))
    workflow = dump(WorkflowSpec(tasks=[task.model_copy(update={"inputs": inputs})]))
    run_id = str(uuid.uuid4())
    made = run_object(run_id, found.settings.namespace, body.workflow_id, workflow, KEEP_SECONDS)
    await found.runs.create(made)
    log.info("run %s of LangGraph task %s", run_id, task.name)
    return {"status": "success", "result": await _outcome(found, run_id, task.name), "run_id": run_id}


async def _outcome(found: Services, run_id: str, task_id: str) -> Any:
    async with aclosing(found.runs.states(run_id)) as states:
        async for run in states:
            if run is None:
                raise Conflict(f"run '{run_id}' was deleted before it ended")
            if run.ended:
                return await _result(found, run, task_id)
    raise AssertionError("states end only with None")


async def _result(found: Services, run: RunView, task_id: str) -> Any:
    """A result of any size that a body may have is given in full: the caller's graph works with it."""
    task = run.task(task_id)
    assert task is not None
    stored = await read_result(found.store, run.uid, task)
    if task.phase is not TaskPhase.SUCCEEDED or stored is None:
        return failure_text(task, stored)
    limit = found.settings.max_body_bytes
    return (await show_outputs(found.store, run.uid, task, stored, limit)).get("result")
