"""What the runners of slot pods ask: the next lease, places for outputs, that a report is taken, that they may go on."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from maze_crds import names
from maze_crds.base import format_time
from maze_crds.protocol import LEASE_WAIT, Complete, Completed, Holding, Lease, Limits, UploadsRequest
from maze_crds.quantity import parse_quantity
from maze_crds.run import TaskPhase, TaskStatus
from maze_operator.core.outputs import InputMissing, ResultLost, failed_result
from maze_operator.core.values import AttemptId, SlotPod
from maze_operator.engine import Engine
from maze_operator.leases import make_lease
from maze_operator.slots import GoAway
from maze_operator.worker import RunWorker

NOT_YOURS = "this pod does not own the attempt any more"


async def lease(engine: Engine, worker: RunWorker, pod: SlotPod, seconds: float = LEASE_WAIT) -> web.Response:
    """The pod has nothing to do: wait for something.

    Raises:
        Gone, StoreError.
    """
    try:
        with worker.kept():
            made = None
            while made is None:
                attempt = await worker.slots.next(pod, seconds)
                if attempt is None:
                    return web.Response(status=204)
                made = await _make(engine, worker, pod, attempt)
    except GoAway:
        return _say(409, "nothing to do for this pod")
    return web.json_response(made)


async def _make(engine: Engine, worker: RunWorker, pod: SlotPod, attempt: AttemptId) -> Lease | None:
    """None: the attempt has failed before it could start."""
    desk = worker.slots.desk
    try:
        view = await worker.view()
        made = await make_lease(engine, view, attempt, desk.attempts)
    except (InputMissing, ResultLost) as error:
        result = failed_result(format_time(datetime.now(UTC)), error)
        await engine.results.put(worker.uid, attempt, result)
        if attempt in desk.holds:
            worker.slots.report(attempt, result)
        return None
    except BaseException:
        desk.give_back(attempt)
        raise
    if not worker.slots.owns(pod, attempt):  # it was taken back meanwhile
        return None
    if not worker.slots.is_alive(pod.uid):
        desk.give_back(attempt)
        worker.dirty.set()
        return None
    made["marker"] = names.log_marker(attempt.task, attempt.attempt)
    limits = _limits(engine, worker, pod)
    if limits:
        made["limits"] = limits
    worker.slots.leased(attempt)
    return made


def _limits(engine: Engine, worker: RunWorker, pod: SlotPod) -> Limits | None:
    """Of a spare that has got another size, which may not be in force yet."""
    found = engine.pods.get(worker.namespace, pod.name)
    if found is None or not (found["metadata"].get("annotations") or {}).get(names.ANNOTATION_RESIZED):
        return None
    wanted = (found["spec"]["containers"][0].get("resources") or {}).get("limits") or {}
    limits: Limits = {}
    if "cpu" in wanted:
        limits["cpuMillis"] = int(parse_quantity(wanted["cpu"]) * 1000)
    if "memory" in wanted:
        limits["memory"] = int(parse_quantity(wanted["memory"]))
    return limits


async def uploads(engine: Engine, worker: RunWorker, pod: SlotPod, body: UploadsRequest) -> web.Response:
    attempt = AttemptId(body["task"], body["attempt"])
    if not _holds(worker, pod, attempt):
        return _say(409, NOT_YOURS)
    keys = {key: names.output_key(worker.uid, attempt.task, attempt.attempt, key) for key in body["outputs"]}
    store = engine.store.store
    urls = {key: store.presign_put(stored, engine.shell.url_seconds) for key, stored in keys.items()}
    return web.json_response({"urls": urls})


async def holding(engine: Engine, worker: RunWorker, pod: SlotPod, body: Holding) -> web.Response:
    if _holds(worker, pod, AttemptId(body["task"], body["attempt"])):
        return web.json_response({})
    return _say(409, NOT_YOURS)


def _holds(worker: RunWorker, pod: SlotPod, attempt: AttemptId) -> bool:
    desk = worker.slots.desk
    if attempt in desk.holds or desk.ended_here(attempt) or worker.slots.opened:
        return worker.slots.owns(pod, attempt)
    task = worker.task_status(attempt.task) or TaskStatus(name=attempt.task)
    return worker.slots.adopt(pod, attempt, task)


async def complete(engine: Engine, worker: RunWorker, pod: SlotPod, body: Complete) -> web.Response:
    """The result is in the object store, so it is enough that this process knows of it.

    Raises:
        Gone, StoreError.
    """
    attempt = AttemptId(body["task"], body["attempt"])
    if _holds(worker, pod, attempt):
        engine.results.remember(worker.uid, attempt, body["result"])
        worker.slots.report(attempt, body["result"])
    elif not _has_ended(worker, attempt):
        return _say(409, NOT_YOURS)
    answer: Completed = {}
    with worker.kept():
        following = worker.slots.take(pod)
        if following is not None:
            made = await _make(engine, worker, pod, following)
            if made is not None:
                answer["next"] = made
    return web.json_response(answer)


def _has_ended(worker: RunWorker, attempt: AttemptId) -> bool:
    """Whether this is a report that has been taken already."""
    if worker.slots.desk.ended_here(attempt):
        return True
    task = worker.task_status(attempt.task)
    if task is None:
        return False
    if task.attempt == attempt.attempt:
        return task.phase in (TaskPhase.SUCCEEDED, TaskPhase.FAILED)
    return any(failed.attempt == attempt.attempt for failed in task.failed_attempts)


def _say(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)
