"""Runs for people and our SDK: list, look, cancel, events, logs, and outputs as they are."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from maze_api.cache import RunView
from maze_api.deps import RunDep, Services, ServicesDep, WholeRunDep
from maze_api.describe import output_detail, run_detail, run_summary
from maze_api.errors import Conflict, NotFound
from maze_api.events import Kind, messages_after
from maze_api.results import read_result, render
from maze_crds import names
from maze_crds.protocol import Output
from maze_crds.run import TERMINAL_TASKS, TaskStatus

router = APIRouter(prefix="/api/maze/runs")

EVENTS = 200
"""Messages in one answer of events; `ended` is only true in the answer that holds the last one, or follows it."""
MOST_RUNS = 1000


@router.get("")
async def list_runs(
    found: ServicesDep, limit: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 50, workflow_id: str | None = None
) -> dict[str, Any]:
    """The newest Runs, of all workflows or of one."""
    return {"runs": [run_summary(run) for run in found.runs.newest(limit, workflow_id)]}


@router.get("/{run_id}")
async def get_run(run: WholeRunDep) -> dict[str, Any]:
    """One Run and all its tasks."""
    return run_detail(run)


@router.post("/{run_id}/cancel")
async def cancel_run(run: RunDep, found: ServicesDep) -> dict[str, str]:
    """Stop what runs and start nothing more. 409: it has ended already."""
    await found.runs.cancel(run.name)
    return {"status": "success", "run_id": run.name}


@router.get("/{run_id}/events")
async def events(run: RunDep, found: ServicesDep, after: Annotated[int, Query(ge=0)] = 0) -> dict[str, Any]:
    """Messages of the result stream that come after event number `after`, as they are now, each with its number as `id`."""
    stubs = messages_after(run.status, after)
    chosen = stubs[:EVENTS]
    made = await render(found.store, run, run.workflow_id or "", chosen)
    ended = run.ended and len(chosen) == len(stubs) and (not chosen or chosen[-1].kind is Kind.FINISH_WORKFLOW)
    return {
        "events": [{"id": stub.number, **message} for stub, message in zip(chosen, made, strict=True)],
        "ended": ended,
    }


@router.get(
    "/{run_id}/tasks/{task_id}/logs",
    response_class=StreamingResponse,
    responses={200: {"description": "The text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def logs(
    run: WholeRunDep,
    task_id: str,
    found: ServicesDep,
    follow: bool = False,
    attempt: Annotated[int | None, Query(ge=1)] = None,
) -> StreamingResponse:
    """What a task printed, as text. follow: and what it prints from now on, until it has ended."""
    task = _task(run, task_id)
    if follow:
        found.logs.require_room()
        chunks = found.logs.follow(run.name, task.name, attempt)
    else:
        chunks = found.logs.read(run, task, attempt)
    return StreamingResponse(chunks, media_type="text/plain; charset=utf-8")


@router.get("/{run_id}/tasks/{task_id}/outputs", responses={409: {"description": "The task has not ended"}})
async def list_outputs(run: WholeRunDep, task_id: str, found: ServicesDep) -> dict[str, Any]:
    """What a task that has ended returned, without the content."""
    _, outputs = await _outputs(found, run, task_id)
    return {"outputs": {key: output_detail(output) for key, output in outputs.items()}}


@router.get(
    "/{run_id}/tasks/{task_id}/outputs/{key:path}",
    response_class=Response,
    responses={
        200: {
            "description": "The bytes",
            "content": {
                "application/json": {},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        409: {"description": "The task has not ended"},
    },
)
async def get_output(run: WholeRunDep, task_id: str, key: str, found: ServicesDep) -> Response:
    """The bytes of one output: UTF-8 JSON, a pickle, or a file, as X-Maze-Encoding says."""
    task, outputs = await _outputs(found, run, task_id)
    if key not in outputs:
        known = ", ".join(f"'{name}'" for name in list(outputs)[:10]) or "none"
        raise NotFound(f"task '{task_id}' has no output '{key[:100]}'; its outputs are {known}")
    output = outputs[key]
    headers = {
        "X-Maze-Encoding": output["encoding"],
        "X-Maze-SHA256": output["sha256"],
        "Content-Length": str(output["size"]),
        "X-Content-Type-Options": "nosniff",
    }
    if "fileName" in output:
        headers["X-Maze-File-Name"] = quote(output["fileName"], safe="")
    kind = "application/json" if output["encoding"] == "json" else "application/octet-stream"
    inline = await asyncio.to_thread(inline_bytes, output)
    if inline is not None:
        return Response(inline, headers=headers, media_type=kind)
    stored = names.output_key(run.uid, task.name, task.attempt, key)
    chunks = await found.store.run(found.store.store.get_stream, stored)
    if chunks is None:
        raise NotFound(f"output '{key}' of task '{task_id}' is not in the object store any more")
    return StreamingResponse(chunks, headers=headers, media_type=kind)


def inline_bytes(output: Output) -> bytes | None:
    """The encoded bytes of an output that travelled inside its result; None: it is in the object store."""
    if "value" in output:
        return json.dumps(output["value"], ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64decode(output["data"]) if "data" in output else None


async def _outputs(found: Services, run: RunView, task_id: str) -> tuple[TaskStatus, dict[str, Output]]:
    """Outputs of a task that has ended; what the cache does not know yet, Kubernetes does."""
    task = _task(run, task_id)
    if task.phase not in TERMINAL_TASKS:
        newer = await found.runs.fetch(run.name)
        task = newer.task(task_id) or task if newer is not None else task
    if task.phase not in TERMINAL_TASKS:
        raise Conflict(f"task '{task_id}' has not ended: it is {task.phase}; ask again when it has")
    result = await read_result(found.store, run.uid, task)
    return task, result["outputs"] if result is not None else {}


def _task(run: RunView, task_id: str) -> TaskStatus:
    task = run.task(task_id)
    if task is None:
        raise NotFound(f"run '{run.name}' has no task '{task_id[:100]}'")
    return task
