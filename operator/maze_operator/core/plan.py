"""What to do about one Run: `plan(run, pods, facts, now, settings) -> Plan`.

Theory of operation
-------------------
The status of a Run is the only memory. One call of `plan` reads it, lets every active attempt be settled by what is
known of it, then cancels, skips and admits, and ends the Run when every task has ended. The caller writes the new status
before it does any of the actions, and may die anywhere: each action follows from the status alone, so the next call
asks for it again. Hence

- an attempt in phase Starting without a pod means "make this pod", unless the pod has been seen before (then it is lost);
- an attempt that has ended but still has a live pod means "delete this pod";
- a result, reported or found in the object store, beats whatever the pod says.

A Run with a problemId has its workflow executed only while an internal worker has it: core/assignment.py goes first.
A task whose attempts have pods of their own is looked at in core/own.py, one that shares pods in core/shared.py.
An OpRun has a history of its own around all this: core/oprun.py.
A Run that has ended, or has no workflow, is planned in core/ended.py and core/unresolved.py.

`attempts_to_look_up` names the attempts whose result must be looked for in the object store before planning.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from maze_crds.run import (
    TERMINAL_RUNS,
    DesiredState,
    RunPhase,
    RunStatus,
    TaskPhase,
)
from maze_operator.core import effective
from maze_operator.core.admission import ACTIVE, NO_POD_FREE, PARALLELISM_LIMIT, choose_admitted, choose_skipped
from maze_operator.core.assignment import advance, close_with_run
from maze_operator.core.deadline import run_text
from maze_operator.core.ended import plan_ended
from maze_operator.core.leftovers import leftover_pods, leftover_slots
from maze_operator.core.oprun import plan_op
from maze_operator.core.outcome import count, finish, judge
from maze_operator.core.own import POD_STARTING, observe_own
from maze_operator.core.placing import PATIENCE, may_make, may_wait, refill_at
from maze_operator.core.shared import find_slots, in_hand, note_slots, observe_shared
from maze_operator.core.step import Pods, Step
from maze_operator.core.unresolved import plan_unresolved
from maze_operator.core.values import (
    AttemptId,
    Facts,
    Plan,
    RunView,
    Settings,
    Slots,
)


def attempts_to_look_up(
    run: RunView, pods: Pods, known: frozenset[AttemptId], cold: bool, slots: Slots | None = None
) -> frozenset[AttemptId]:
    """Active attempts that may have left a result: their pod has ended or is missing.

    cold: this process has not planned for the Run before, so a missing pod may have come and gone.
    """
    if run.workflow is None:
        return frozenset()
    found = set()
    at_work = in_hand(slots or Slots())
    living = {pod.name for pod in slots.pods if pod.alive} if slots and slots.silent else set()
    for task in run.status.tasks:
        if task.phase not in ACTIVE:
            continue
        attempt = AttemptId(task.name, task.attempt)
        if effective.shares_pods(run.workflow.tasks[task.name], run.workflow.spec):
            if task.phase == TaskPhase.RUNNING and attempt not in at_work and task.pod not in living:
                found.add(attempt)
            continue
        pod = pods.get(attempt)
        gone = pod is None and (cold or attempt in known or task.phase == TaskPhase.RUNNING)
        if gone or (pod is not None and pod.ended is not None):
            found.add(attempt)
    return frozenset(found)


def plan(run: RunView, pods: Pods, facts: Facts, now: datetime, settings: Settings) -> Plan:
    """The next step for `run`. Pure: same arguments, same answer."""
    if run.spec.op_run is not None:
        own = replace(settings, exit_grace=settings.op_exit_grace)
        return plan_op(run, pods, facts, now, own, lambda view, known: _plan_workflow(view, pods, known, now, own))
    if run.status.phase in TERMINAL_RUNS:
        return plan_ended(run, pods, now, settings, facts.slots)
    if run.spec.problem_id is None:
        return _plan_workflow(run, pods, facts, now, settings)
    step = advance(run, facts, now, settings)
    broken = step.status.phase == RunPhase.PENDING and run.problem_reason
    if not (step.execute or broken):
        return Plan(step.status, (), step.requeue_after)
    made = _plan_workflow(replace(run, status=step.status), pods, facts, now, settings)
    return replace(made, status=close_with_run(made.status, now))


def _plan_workflow(run: RunView, pods: Pods, facts: Facts, now: datetime, settings: Settings) -> Plan:
    if run.workflow is None:
        return plan_unresolved(run, now, settings)
    return _make(Step(run, run.workflow, pods, facts, now, settings))


def _make(step: Step) -> Plan:
    if step.run.status.start_time is None:
        step.ledger.next_event()
    observed = not (
        step.cancelled and step.run.spec.op_run
    )  # who cancels an OpRun is told at once that it is cancelled
    if observed:
        _observe(step, ended=True)  # what slots have done since may follow from these ends
    note_slots(step)
    if observed:
        _observe(step)
        note_slots(step)  # a plan that was not written may have seen these ends before, and pods have gone on from it
    if step.cancelled:
        _cancel(step)
    for name, culprit in choose_skipped(step.workflow, step.ledger.tasks).items():
        step.ledger.skip(name, culprit)
    if step.over:
        _cut(step)
    _admit(step)
    if step.run.spec.desired_state == DesiredState.RUNNING:
        find_slots(step)
    step.actions += leftover_pods(step.ledger, step.pods, step.now, step.settings)
    step.actions += leftover_slots(step.ledger, step.facts.slots)
    status = _status(step)
    if status.phase in TERMINAL_RUNS:
        step.wake_in(0.0)
    elif _exiting(step):
        step.wake_in(step.settings.exit_grace)
    if step.end is not None and not step.over:
        step.wake_in((step.end - step.now).total_seconds())
    return Plan(
        status,
        tuple(step.actions),
        step.wake,
        wants_pods=step.wants_pods,
        limited=step.limited,
        refill_at=step.refill_at,
    )


def _observe(step: Step, ended: bool = False) -> None:
    """Settle active attempts. ended: only those whose result is known."""
    at_work = in_hand(step.facts.slots)
    for name in step.workflow.tasks:
        task = step.ledger.tasks[name]
        if task.phase not in ACTIVE or (ended and step.facts.results.get(AttemptId(name, task.attempt)) is None):
            continue
        if step.shape(name) is None:
            observe_own(step, name)
        else:
            observe_shared(step, name, at_work)


def _cancel(step: Step) -> None:
    for name, task in step.ledger.tasks.items():
        if task.phase in ACTIVE or task.phase == TaskPhase.PENDING:
            step.ledger.cancel(name)


def _cut(step: Step) -> None:
    """The Run's time is over: what has not started never will."""
    for name, task in step.ledger.tasks.items():
        if task.phase == TaskPhase.PENDING:
            step.ledger.cut(name, run_text(step.run.spec.timeout_seconds))


def _admit(step: Step) -> None:
    suspended = step.run.spec.desired_state == DesiredState.SUSPENDED
    parallelism = step.run.spec.parallelism or step.workflow.spec.parallelism
    most = may_wait(step.settings.pods_waiting, step.facts.placed)
    admitted, reasons = choose_admitted(
        step.workflow,
        step.ledger.tasks,
        parallelism,
        suspended,
        step.now,
        lambda name: step.shape(name) is None,
        may_make(most, _waiting_pods(step), step.facts.placed),
    )
    for name in admitted:
        step.ledger.admit(name)
        if step.shape(name) is None:
            step.create_pod(AttemptId(name, step.ledger.tasks[name].attempt))
            step.ledger.explain(name, POD_STARTING, None)
    step.limited = PARALLELISM_LIMIT in reasons.values()
    if NO_POD_FREE in reasons.values():
        step.refill_at = refill_at(most)
        if step.facts.placed:  # which is another number by then, though nothing may be heard
            step.wake_in(PATIENCE)
    for name, reason in reasons.items():
        step.ledger.explain(name, reason, None)
        retry_time = step.ledger.tasks[name].retry_time
        if reason == "RetryBackoff" and retry_time is not None:
            step.wake_in((retry_time - step.now).total_seconds())


def _waiting_pods(step: Step) -> int:
    """Pods of one attempt each that no node has yet, and those that are about to be made."""
    unplaced = sum(pod.node is None for pod in step.pods.values() if pod.ended is None)
    made = (
        AttemptId(name, task.attempt) in step.pods
        for name, task in step.ledger.tasks.items()
        if task.phase == TaskPhase.STARTING and step.shape(name) is None
    )
    return unplaced + sum(not each for each in made)


def _exiting(step: Step) -> bool:
    """Whether a pod lives that is not the one of its task's active attempt."""
    living = [attempt for attempt, pod in step.pods.items() if pod.ended is None]
    tasks = [(attempt, step.ledger.tasks[attempt.task]) for attempt in living if attempt.task in step.ledger.tasks]
    return any(task.phase not in ACTIVE or task.attempt != attempt.attempt for attempt, task in tasks)


def _status(step: Step) -> RunStatus:
    counts = count(step.ledger)
    ended = counts.total - counts.pending - counts.running
    phase, reason, message = RunPhase.RUNNING, None, None
    if step.ledger.all_ended():
        overtime = run_text(step.run.spec.timeout_seconds) if step.over else None
        phase, reason, message = judge(counts, step.ledger, step.cancelled, overtime)
    elif step.run.spec.desired_state == DesiredState.SUSPENDED:
        reason = "Suspended"
    status = step.run.status.model_copy(
        update={
            "observed_generation": step.run.generation,
            "phase": phase,
            "reason": reason,
            "message": message,
            "start_time": step.run.status.start_time or step.now,
            "progress": f"{ended}/{counts.total}",
            "counts": counts,
            "first_failure": step.ledger.first_failure,
            "tasks": list(step.ledger.tasks.values()),
        }
    )
    if phase in TERMINAL_RUNS:
        return finish(status, step.ledger.next_event(), step.now)
    return status.model_copy(update={"last_event": step.ledger.last_event})
