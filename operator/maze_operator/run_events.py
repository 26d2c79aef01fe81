"""Events that are posted to an OpRun (protocol.OpEventRequest): weighed, what is large stored, then acknowledged."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

from maze_crds import names
from maze_crds.oprun import TERMINAL_STATES, OpStatus
from maze_io.kube import KubeError, runs_path
from maze_operator.core.opevents import cut_event
from maze_operator.core.values import AttemptId, Posted, Reply
from maze_operator.engine import Engine
from maze_operator.reports import DURABLE_SECONDS
from maze_operator.run_reader import Gone
from maze_operator.worker import RunWorker

Json = dict[str, Any]

TRIES = 5
"""How often an event goes to the current attempt when that has just become another one."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


async def find_op_run(engine: Engine, namespace: str, name: str, ask: bool) -> Json | None:
    """The OpRun of this name. ask: the API server, where we know of none, because the watch may be behind.

    Raises:
        KubeError: it can't be asked.
    """
    obj = engine.runs.get(namespace, name)
    if not _is_op_run(obj) and ask and _NAME.fullmatch(namespace) and _NAME.fullmatch(name):
        try:
            obj = await engine.kube.get(runs_path(namespace, name))
        except KubeError as error:
            if not error.not_found:
                raise
            return None
        engine.runs.put(obj)
    return obj if _is_op_run(obj) else None


def _is_op_run(obj: Json | None) -> bool:
    return obj is not None and obj["spec"].get("opRun") is not None


async def take_event(engine: Engine, run: Json, posted: Posted, attempt: int | None) -> Reply:
    """What became of the event: with 200 it is in the status of the Run, with 503 it is to be said again.

    attempt: the one that its sender says it is of; None: of whichever is the current one.

    Raises:
        StoreError, KubeError: the object store or the API server can't be asked; to be said again, too.
    """
    posted = replace(posted, own=attempt is not None)
    worker = engine.ensure_worker(run)
    with worker.kept():
        try:
            async with asyncio.timeout(DURABLE_SECONDS):
                return await _take(engine, worker, posted, attempt)
        except TimeoutError:
            return Reply(503, "the event is not written yet")
        except Gone:
            return Reply(404, "the Run has been deleted")


async def _take(engine: Engine, worker: RunWorker, posted: Posted, attempt: int | None) -> Reply:
    cut = cut_event(posted)
    if cut is not None and cut.posted.stored is not None:
        await engine.store.put(names.event_key(worker.uid, cut.posted.stored), cut.data)
        posted = cut.posted
    for _ in range(TRIES):
        if posted.result is not None:
            reply = await _complete(engine, worker, posted, attempt)
        else:
            reply = await worker.post(replace(posted, attempt=attempt))
        if reply.status != 409 or attempt is not None:
            return reply
    return Reply(503, "the current attempt becomes another one again and again")


async def _complete(engine: Engine, worker: RunWorker, posted: Posted, attempt: int | None) -> Reply:
    """One at a time: what is stored as the result of an attempt is of the event that ends it."""
    assert posted.result is not None
    async with worker.reporting:
        view = await worker.view()
        op = view.status.op or OpStatus()
        number = op.attempt if attempt is None else attempt
        if view.workflow is not None and not _has_ended(op, number):
            task = next(iter(view.workflow.tasks))
            with worker.storing(AttemptId(task, number)):
                await engine.results.put(worker.uid, AttemptId(task, number), posted.result, remember=False)
        return await worker.post(replace(posted, attempt=number))


def _has_ended(op: OpStatus, attempt: int) -> bool:
    return any(one.number == attempt and one.state in TERMINAL_STATES for one in op.attempts)
