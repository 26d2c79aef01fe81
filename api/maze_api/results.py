"""Reads what runners left in the object store, and makes the messages of a Run with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from maze_api.cache import Runs, RunView
from maze_api.events import FETCH_LIMIT, Kind, Stub, failure_text, message, messages_after, shown, wanted
from maze_api.sockets import RunGone
from maze_crds import names
from maze_crds.protocol import Result
from maze_crds.run import TaskStatus
from maze_io.store import AsyncStore

BATCH = 8
"""Results fetched at once for one reader; bounds what a stream holds in memory."""


async def stream(runs: Runs, store: AsyncStore, workflow_id: str, run_id: str) -> AsyncGenerator[dict[str, Any], None]:
    """All messages of a Run from its first, waiting for those to come; ends after finish_workflow.

    Raises:
        RunGone: the Run was deleted before it ended.
        StoreError: a result could not be read.
    """
    number = 0
    async with aclosing(runs.states(run_id)) as states:
        async for run in states:
            if run is None:
                raise RunGone(f"Run '{run_id}' was deleted")
            stubs = messages_after(run.status, number)
            for start in range(0, len(stubs), BATCH):
                for made in await render(store, run, workflow_id, stubs[start : start + BATCH]):
                    yield made
            if stubs:
                number = stubs[-1].number
                if stubs[-1].kind is Kind.FINISH_WORKFLOW:
                    return


async def render(store: AsyncStore, run: RunView, workflow_id: str, stubs: Sequence[Stub]) -> list[dict[str, Any]]:
    """The messages with their results, in the same order."""
    results = await asyncio.gather(*(_result(store, run.uid, stub) for stub in stubs))
    return [message(stub, workflow_id, run.name, result) for stub, result in zip(stubs, results, strict=True)]


async def _result(store: AsyncStore, uid: str, stub: Stub) -> Any:
    if stub.task is None or stub.kind not in (Kind.FINISH_TASK, Kind.TASK_EXCEPTION):
        return None
    found = await read_result(store, uid, stub.task)
    if stub.kind is Kind.TASK_EXCEPTION:
        return failure_text(stub.task, found)
    return await show_outputs(store, uid, stub.task, found) if found is not None else {}


async def read_result(store: AsyncStore, uid: str, task: TaskStatus) -> Result | None:
    """What the runner, or for a container the operator, left of the task's last attempt; None: nothing."""
    raw = await store.get(names.result_key(uid, task.name, task.attempt)) if task.attempt else None
    found: Result | None = json.loads(raw) if raw is not None else None
    return found


async def show_outputs(
    store: AsyncStore, uid: str, task: TaskStatus, result: Result, limit: int = FETCH_LIMIT
) -> dict[str, Any]:
    """All outputs as JSON by key; those of more than `limit` bytes have stand-ins."""
    made: dict[str, Any] = {}
    for key, output in result["outputs"].items():
        stored = None
        if wanted(output, limit):
            stored = await store.get(names.output_key(uid, task.name, task.attempt, key))
        made[key] = shown(output, stored)
    return made
