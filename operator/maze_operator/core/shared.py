"""Tasks that share pods, in one plan: what pods have made of attempts, and pods for those that wait.

In phase Starting such a task waits for a pod of its shape (core/slots.py makes them). What pods make of it comes as
facts.slots.happened (core/desk.py), in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from maze_crds.run import Cause, TaskPhase
from maze_operator.core.admission import ACTIVE, NO_POD_FREE
from maze_operator.core.diagnosis import diagnose_ended, failure
from maze_operator.core.slots import ShapePlan, plan_shape
from maze_operator.core.step import Step
from maze_operator.core.values import AttemptId, CreateSlot, Happened, Hold, Shape, Slots

LEASE_LOST = "the pod that had the task does not know of it any more"


def in_hand(slots: Slots) -> set[AttemptId]:
    """Attempts that a living slot pod works on, or of which more is known than the status says."""
    alive = {pod.uid for pod in slots.pods if pod.ended is None}
    held = {attempt for uid, attempt in slots.says.items() if attempt is not None and uid in alive}
    return held | {each.attempt_id for each in slots.happened}


def note_slots(step: Step) -> None:
    """Take over what desk and pods have done since the status was written. What has been taken over changes nothing."""
    for happened in step.facts.slots.happened:
        _note(step, happened)
    for attempt in step.facts.slots.taken:
        _admit_taken(step, attempt, step.now)


def _note(step: Step, happened: Happened) -> None:
    """An attempt that is not the current one (any more) is passed over."""
    attempt = happened.attempt_id
    _admit_taken(step, attempt, happened.time)
    task = step.ledger.tasks.get(attempt.task)
    if task is None or task.phase not in ACTIVE or task.attempt != attempt.attempt:
        return
    if not isinstance(happened, Hold):
        step.finish(attempt.task, happened.result, happened.time)
    elif task.phase == TaskPhase.STARTING:
        step.ledger.start(attempt.task, happened.time, happened.node, happened.pod)


def _admit_taken(step: Step, attempt: AttemptId, time: datetime) -> None:
    """A desk has given it to a pod, within the parallelism, so it goes before what could be admitted now."""
    task = step.ledger.tasks.get(attempt.task)
    if task is not None and task.phase == TaskPhase.PENDING and task.attempt + 1 == attempt.attempt:
        step.ledger.admit(attempt.task, time)


def observe_shared(step: Step, name: str, at_work: set[AttemptId]) -> None:
    """Settle an active attempt by its result, or by the end of the pod that had it. at_work: see in_hand."""
    task, slots = step.ledger.tasks[name], step.facts.slots
    attempt = AttemptId(name, task.attempt)
    result = step.facts.results.get(attempt)
    if result is not None:
        step.finish(name, result)
    elif task.phase == TaskPhase.STARTING or attempt in at_work or attempt not in step.facts.results:
        step.fail_if_overdue(name)
    else:
        pod = next((pod for pod in slots.pods if pod.name == task.pod), None)
        if pod is not None and pod.alive:
            step.fail(name, failure(Cause.INFRASTRUCTURE, "LeaseLost", LEASE_LOST))
        else:
            step.fail(name, diagnose_ended(pod, pod.ended if pod else None))


def find_slots(step: Step) -> None:
    """Pods for the tasks that wait for one."""
    slots = step.facts.slots
    if slots.silent:  # one of them may have what seems to wait
        return
    waiting: dict[str, tuple[Shape, list[str]]] = {}
    for name in step.ledger.tasks:
        shape = step.shape(name) if step.starting(name) else None
        if shape is not None:
            waiting.setdefault(shape.key, (shape, []))[1].append(name)
    taken = {pod.slot for pod in slots.pods}
    room = step.settings.pods_per_run - sum(pod.alive for pod in slots.pods)
    for shape, tasks in waiting.values():
        made = plan_shape(shape, len(tasks), slots, room, taken, step.now, step.settings)
        _apply(step, made, tasks)
        new = [action for action in made.actions if isinstance(action, CreateSlot)]
        taken |= {action.slot for action in new}
        room -= len(new)
        slots = replace(slots, may_start=slots.may_start - sum(action.slot > 0 for action in new))


def _apply(step: Step, made: ShapePlan, tasks: Sequence[str]) -> None:
    step.actions += made.actions
    step.wants_pods |= made.wants_pods
    if made.wake is not None:
        step.wake_in(made.wake)
    if made.failure is not None:
        step.wake_in(0.0)
    for name in tasks[:1] if made.only_first else tasks:
        if made.failure is not None:
            step.fail(name, made.failure)
        elif made.wait is not None:
            step.explain_wait(name, made.wait if made.dated else replace(made.wait, bound=None))
        else:
            step.ledger.explain(name, NO_POD_FREE, None)
