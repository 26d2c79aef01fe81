"""What a plan of one Run is told beside the objects: reports, results in the object store, the word of pods."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from maze_crds import names
from maze_crds.protocol import Result
from maze_crds.run import TERMINAL_TASKS, TaskPhase, TaskStatus
from maze_operator.core.assignment import external_holder
from maze_operator.core.desk import Desk
from maze_operator.core.effective import shares_pods
from maze_operator.core.plan import attempts_to_look_up
from maze_operator.core.values import AttemptId, Facts, RunView, Shape, Workflow

if TYPE_CHECKING:
    from maze_operator.worker import RunWorker


async def gather(worker: RunWorker, view: RunView) -> Facts:
    """Facts as of now; the caller says which of them the status then holds."""
    engine, slots = worker.engine, worker.slots
    now = datetime.now(UTC)
    spares = (
        {shape.key: _spares_for(worker, view.namespace, shape) for shape in view.shapes.all()}
        if view.shapes and not view.queue  # a spare is in no queue
        else {}
    )
    said = slots.facts(spares, now, engine.starts.may_start(worker.uid))
    results: dict[AttemptId, Result | None] = {attempt: result for attempt, (result, _) in worker.reports.items()}
    if view.workflow is not None:
        wanted = (
            attempts_to_look_up(view, worker.pods.views, frozenset(worker.pods.known), worker.cold, said)
            - results.keys()
        )
        looks = [_look_up(worker, view.workflow, attempt, now) for attempt in wanted - {worker.being_stored}]
        for attempt, found in await asyncio.gather(*looks):
            if attempt != worker.being_stored:
                results[attempt] = found
    lost, held = False, external_holder(view.spec, view.status)
    if held is not None:
        who, number = held
        attempt = AttemptId(names.EXTERNAL_TASK, number)
        if worker.cold and attempt not in results:
            results[attempt] = await engine.results.get(worker.uid, attempt)
        lost = await engine.dispatch.is_lost(worker.namespace, who)
    slot = engine.dispatch.slot_for(worker.uid) if view.spec.problem_id is not None else None
    return Facts(
        results,
        dict(worker.started),
        dict(worker.refused),
        frozenset(worker.pods.known),
        slot,
        lost,
        posted=worker.inbox.posted(),
        delivered=worker.delivered,
        delivery_problem=worker.delivery_problem,
        slots=said,
        placed=worker.pods.placed_lately(),
    )


def _spares_for(worker: RunWorker, namespace: str, shape: Shape) -> int:
    """How many the Run may have: the last one is for a Run that has no pod yet."""
    available = worker.engine.spares.available(namespace, shape)
    return max(available - 1, 0 if worker.slots.living else min(available, 1))


async def _look_up(
    worker: RunWorker, workflow: Workflow, attempt: AttemptId, now: datetime
) -> tuple[AttemptId, Result | None]:
    """What the attempt has left. A container's log and result are stored now, by us, so only a former operator may have."""
    engine, task, pod = worker.engine, workflow.tasks[attempt.task], worker.pods.views.get(attempt)
    ours = pod is not None and task.container is not None and not worker.cold
    if pod is not None and task.container is not None:
        keep = engine.logs.keep(worker.uid, attempt, worker.namespace, pod.name, anew=ours, pod_stays=not pod.deleting)
        is_source = attempt.task in workflow.sources
        find = engine.results.find(worker.uid, task, attempt, pod, now, anew=ours, is_source=is_source)
        _, found = await asyncio.gather(keep, find)
    else:
        found = await engine.results.find(worker.uid, task, attempt, pod, now)
    return attempt, found


async def adopt_results(worker: RunWorker, view: RunView) -> None:
    """Ends of attempts that a former operator was told of and has not written: the object store has their results.

    It may have leased the attempt after the current one, too, when it had not written the end of that either.

    Raises:
        StoreError: it can't be asked.
    """
    if view.workflow is None:
        return
    desk = worker.slots.desk
    known = {task.name: task for task in view.status.tasks}
    waits = {}
    for name, spec in view.workflow.tasks.items():
        task = known.get(name) or TaskStatus(name=name)
        if task.phase not in TERMINAL_TASKS and shares_pods(spec, view.workflow.spec):
            current = task.attempt + (task.phase == TaskPhase.PENDING)
            for attempt in (AttemptId(name, current), AttemptId(name, current + 1)):
                waits[names.result_key(worker.uid, attempt.task, attempt.attempt)] = attempt
    if not waits:
        return
    there = [waits[key] for key in await worker.engine.store.list_keys(names.run_prefix(worker.uid)) if key in waits]
    newest = {attempt.task: attempt for attempt in sorted(there)}
    found = [(attempt, await worker.engine.results.get(worker.uid, attempt)) for attempt in newest.values()]
    ended = [(attempt, result) for attempt, result in found if result is not None and not _is_known(desk, attempt)]
    for attempt, result in sorted(ended, key=lambda each: each[1]["completionTime"]):
        desk.learn(attempt, result, datetime.now(UTC))


def _is_known(desk: Desk, attempt: AttemptId) -> bool:
    return attempt in desk.holds or desk.ended_here(attempt)
