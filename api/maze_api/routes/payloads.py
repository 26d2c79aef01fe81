"""Values and files on their way to a task (bytes go to the object store, and get a reference that save_task takes), and many
tasks in one call."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from maze_api.bodies import AddTasksBody, PayloadBody
from maze_api.deps import DraftsDep, ServicesDep
from maze_api.errors import BadRequest
from maze_api.wire import check_file_name, is_pickle
from maze_crds import names

router = APIRouter(prefix="/api/maze")


@router.post("/tasks")
async def add_tasks(body: AddTasksBody, drafts: DraftsDep) -> dict[str, list[str]]:
    """Tasks that differ in their inputs only, with edges from the tasks that these are taken from; their ids in order."""
    return {"task_ids": await drafts.add_tasks(body)}


@router.put(
    "/payloads",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_payload(
    request: Request,
    found: ServicesDep,
    encoding: Annotated[Literal["json", "pickle", "file"], Query()],
    file_name: Annotated[str | None, Query()] = None,
) -> dict[str, Any]:
    """Store the body, which is looked at, never loaded. The same bytes always have the same key.

    Raises:
        BadRequest: it is not what `encoding` says, or a file without a name.
        Unavailable: too many bytes are on their way at once.
    """
    name = check_file_name(file_name) if encoding == "file" else None
    async with found.uploads.receive(request.stream()) as body:
        if encoding == "pickle" and not is_pickle(body.data):
            raise BadRequest("the body is not a pickle; send cloudpickle.dumps(value)")
        if encoding == "json":
            await asyncio.to_thread(check_json, body.data)
        key = names.payload_key(body.sha256)
        await found.store.put(key, body.data)
        made = PayloadBody(key=key, sha256=body.sha256, size=len(body.data), encoding=encoding, file_name=name)
    return {"payload": made.model_dump(exclude_none=True)}


def check_json(data: bytes) -> None:
    """Refuse what is not UTF-8 JSON.

    Raises:
        BadRequest: says where.
    """

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is no JSON")

    try:
        json.loads(data.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
