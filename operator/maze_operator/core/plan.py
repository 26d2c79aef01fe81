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
A task that shares pods with others has none of its own. In phase Starting it waits for one of its shape (core/slots.py makes
them), and what pods make of it comes as facts.slots.happened (core/desk.py), in its order.
An OpRun has a history of its own around all this: core/oprun.py.
A Run that has ended, or has no workflow, is planned in core/ended.py and core/unresolved.py.

`attempts_to_look_up` names the attempts whose result must be looked for in the object store before planning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from maze_crds.protocol import Failure, Result
from maze_crds.run import (
    TERMINAL_RUNS,
    TIMED_OUT,
    Cause,
    DesiredState,
    RunPhase,
    RunStatus,
    TaskPhase,
)
from maze_operator.core import effective
from maze_operator.core.admission import ACTIVE, choose_admitted, choose_skipped
from maze_operator.core.assignment import advance, close_with_run
from maze_operator.core.deadline import deadline, overdue_text, overdue_time, run_text
from maze_operator.core.diagnosis import Wait, diagnose_ended, diagnose_refused, diagnose_waiting, failure
from maze_operator.core.ended import plan_ended
from maze_operator.core.ledger import Ledger
from maze_operator.core.leftovers import leftover_pods, leftover_slots
from maze_operator.core.oprun import plan_op
from maze_operator.core.outcome import count, finish, judge
from maze_operator.core.retry import op_retry_delay, retry_delay, task_memory_scale
from maze_operator.core.shapes import Shapes
from maze_operator.core.slots import REFUSED_RETRY, ShapePlan, plan_shape
from maze_operator.core.unresolved import plan_unresolved
from maze_operator.core.values import (
    Action,
    AttemptId,
    CreatePod,
    CreateSlot,
    Facts,
    Happened,
    Hold,
    Plan,
    PodView,
    ReplacePod,
    RunView,
    Settings,
    Shape,
    Slots,
    Workflow,
)

LEASE_LOST = "the pod that had the task does not know of it any more"

Pods = Mapping[AttemptId, PodView]


def attempts_to_look_up(
    run: RunView, pods: Pods, known: frozenset[AttemptId], cold: bool, slots: Slots | None = None
) -> frozenset[AttemptId]:
    """Active attempts that may have left a result: their pod has ended or is missing.

    cold: this process has not planned for the Run before, so a missing pod may have come and gone.
    """
    if run.workflow is None:
        return frozenset()
    found = set()
    in_hand = _in_hand(slots or Slots())
    living = {pod.name for pod in slots.pods if pod.alive} if slots and slots.silent else set()
    for task in run.status.tasks:
        if task.phase not in ACTIVE:
            continue
        attempt = AttemptId(task.name, task.attempt)
        if effective.shares_pods(run.workflow.tasks[task.name], run.workflow.spec):
            if task.phase == TaskPhase.RUNNING and attempt not in in_hand and task.pod not in living:
                found.add(attempt)
            continue
        pod = pods.get(attempt)
        gone = pod is None and (cold or attempt in known or task.phase == TaskPhase.RUNNING)
        if gone or (pod is not None and pod.ended is not None):
            found.add(attempt)
    return frozenset(found)


def _in_hand(slots: Slots) -> set[AttemptId]:
    """Attempts that a living slot pod works on, or of which more is known than the status says."""
    alive = {pod.uid for pod in slots.pods if pod.ended is None}
    held = {attempt for uid, attempt in slots.says.items() if attempt is not None and uid in alive}
    return held | {each.attempt_id for each in slots.happened}


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
    return _Planner(run, run.workflow, pods, facts, now, settings).make()


class _Planner:
    def __init__(
        self, run: RunView, workflow: Workflow, pods: Pods, facts: Facts, now: datetime, settings: Settings
    ) -> None:
        self.run, self.workflow, self.pods, self.facts, self.now, self.settings = (
            run,
            workflow,
            pods,
            facts,
            now,
            settings,
        )
        self.ledger = Ledger(run.status, list(workflow.tasks), now)
        self.end = deadline(run.spec, run.status)
        self.over = self.end is not None and now >= self.end
        self.actions: list[Action] = []
        self.wake: float | None = None
        self.shapes = run.shapes or Shapes(workflow.spec, run.spec.priority, settings)
        self.in_hand = _in_hand(facts.slots)

    def make(self) -> Plan:
        if self.run.status.start_time is None:
            self.ledger.next_event()
        for happened in self.facts.slots.happened:
            self._note(happened)
        for attempt in self.facts.slots.taken:
            self._admit_taken(attempt)
        cancelled = self.run.spec.desired_state == DesiredState.CANCELLED
        if not (cancelled and self.run.spec.op_run):  # who cancels an OpRun is told at once that it is cancelled
            self._observe_all()
        if cancelled:
            self._cancel()
        for name, culprit in choose_skipped(self.workflow, self.ledger.tasks).items():
            self.ledger.skip(name, culprit)
        if self.over:
            self._cut()
        self._admit()
        if self.run.spec.desired_state == DesiredState.RUNNING:
            self._find_slots()
        self.actions += leftover_pods(self.ledger, self.pods, self.now, self.settings)
        self.actions += leftover_slots(self.ledger, self.facts.slots)
        status = self._status(cancelled)
        if status.phase in TERMINAL_RUNS:
            self._wake_in(0.0)
        elif self._exiting():
            self._wake_in(self.settings.exit_grace)
        if self.end is not None and not self.over:
            self._wake_in((self.end - self.now).total_seconds())
        return Plan(status, tuple(self.actions), self.wake)

    def _observe_all(self) -> None:
        for name in self.workflow.tasks:
            if self.ledger.tasks[name].phase not in ACTIVE:
                continue
            if self._shape(name) is None:
                self._observe(name)
            else:
                self._observe_shared(name)

    def _shape(self, name: str) -> Shape | None:
        task = self.ledger.tasks[name]
        return self.shapes.of(self.workflow.tasks[name], task_memory_scale(self.workflow, task))

    def _note(self, happened: Happened) -> None:
        """What slot pods have made of an attempt. An attempt that is not the current one (any more) is passed over."""
        attempt = happened.attempt_id
        self._admit_taken(attempt)
        task = self.ledger.tasks.get(attempt.task)
        if task is None or task.phase not in ACTIVE or task.attempt != attempt.attempt:
            return
        if isinstance(happened, Hold):
            if task.phase == TaskPhase.STARTING:
                self.ledger.start(attempt.task, happened.time, happened.node, happened.pod)
        else:
            self._end(attempt.task, happened.result)

    def _admit_taken(self, attempt: AttemptId) -> None:
        """A desk has given it to a pod, within the parallelism, so it goes before what could be admitted now."""
        task = self.ledger.tasks.get(attempt.task)
        if task is not None and task.phase == TaskPhase.PENDING and task.attempt + 1 == attempt.attempt:
            self.ledger.admit(attempt.task)

    def _end(self, name: str, result: Result) -> None:
        self.ledger.ensure_started(name)
        if "failure" in result:
            self._fail(name, result["failure"])
        else:
            self.ledger.succeed(name)

    def _observe_shared(self, name: str) -> None:
        task = self.ledger.tasks[name]
        attempt = AttemptId(name, task.attempt)
        slots = self.facts.slots
        result = self.facts.results.get(attempt)
        if result is not None:
            self._end(name, result)
        elif task.phase == TaskPhase.STARTING or attempt in self.in_hand:
            self._overdue(name)
        elif attempt in self.facts.results:
            pod = next((pod for pod in slots.pods if pod.name == task.pod), None)
            if pod is not None and pod.ended is None and not pod.deleting:
                self._fail(name, failure(Cause.INFRASTRUCTURE, "LeaseLost", LEASE_LOST))
            else:
                self._fail(name, diagnose_ended(pod, pod.ended if pod else None))
        else:
            self._overdue(name)

    def _find_slots(self) -> None:
        """Pods for the tasks that wait for one."""
        slots = self.facts.slots
        if slots.silent:  # one of them may have what seems to wait
            return
        waiting: dict[str, tuple[Shape, list[str]]] = {}
        for name, task in self.ledger.tasks.items():
            shape = self._shape(name) if task.phase == TaskPhase.STARTING else None
            if shape is not None:
                waiting.setdefault(shape.key, (shape, []))[1].append(name)
        taken = {pod.slot for pod in slots.pods}
        room = self.settings.pods_per_run - sum(pod.alive for pod in slots.pods)
        for shape, tasks in waiting.values():
            made = plan_shape(shape, len(tasks), slots, room, taken, self.now, self.settings)
            self._apply(made, tasks)
            new = [action for action in made.actions if isinstance(action, CreateSlot)]
            taken |= {action.slot for action in new}
            room -= len(new)

    def _apply(self, made: ShapePlan, tasks: list[str]) -> None:
        self.actions += made.actions
        if made.wake is not None:
            self._wake_in(made.wake)
        if made.failure is not None:
            self._wake_in(0.0)
        for name in tasks[:1] if made.only_first else tasks:
            if made.failure is not None:
                self._fail(name, made.failure)
            elif made.wait is not None:
                self._waits(name, made.wait if made.dated else replace(made.wait, bound=None))
            else:
                self.ledger.clear_reason(name)

    def _observe(self, name: str) -> None:
        task = self.ledger.tasks[name]
        attempt = AttemptId(name, task.attempt)
        pod = self.pods.get(attempt)
        self._note_start(name, attempt, pod)
        result = self.facts.results.get(attempt)
        if result is not None:
            self._end(name, result)
        elif pod is None:
            self._observe_missing(name, attempt)
        elif pod.ended is not None:
            if attempt in self.facts.results:
                self._fail(name, diagnose_ended(pod, pod.ended))
        else:
            self._observe_live(name, pod)

    def _note_start(self, name: str, attempt: AttemptId, pod: PodView | None) -> None:
        if self.ledger.tasks[name].phase != TaskPhase.STARTING:
            return
        started = self.facts.started.get(attempt)
        if started is not None:
            node = started.node or (pod.node if pod else None)
            self.ledger.start(name, started.time, node, pod.name if pod else None)
        elif pod is not None and pod.running_since is not None and self.workflow.tasks[name].container is not None:
            # The kubelet's clock has whole seconds only, so it may lie before what this start waited for.
            self.ledger.start(name, self.now, pod.node, pod.name)

    def _observe_missing(self, name: str, attempt: AttemptId) -> None:
        phase = self.ledger.tasks[name].phase
        if attempt in self.facts.known or phase == TaskPhase.RUNNING:
            if attempt in self.facts.results:
                self._fail(name, diagnose_ended(None, None))
            return
        if self.run.spec.desired_state == DesiredState.CANCELLED or self._overdue(name):
            return
        refused = self.facts.refused.get(attempt)
        if refused is not None:
            self._waits(name, diagnose_refused(refused, self.settings))
            wait = REFUSED_RETRY - (self.now - refused.time).total_seconds()
            if self.ledger.tasks[name].phase != TaskPhase.STARTING or wait > 0:
                self._wake_in(max(wait, 0.0))
                return
        self._create(attempt)

    def _observe_live(self, name: str, pod: PodView) -> None:
        if not self._overdue(name) and self.ledger.tasks[name].phase == TaskPhase.STARTING:
            if pod.unschedulable is not None and not pod.deleting:
                self._adjust_priority(pod)
            wait = diagnose_waiting(pod, self.settings)
            if wait is not None:
                self._waits(name, wait)
            else:
                self.ledger.clear_reason(name)

    def _adjust_priority(self, pod: PodView) -> None:
        """A pod's priority is immutable, the Run's is not: while no node has the pod, another one may take its place."""
        if pod.priority_class != effective.priority_class(self.run.spec.priority, self.settings):
            self.actions.append(ReplacePod(pod.attempt_id, pod.name, pod.uid, pod.resource_version))

    def _overdue(self, name: str) -> bool:
        """Whether the task's own limit or the Run's ends it now."""
        task, spec = self.ledger.tasks[name], self.workflow.tasks[name]
        own = effective.timeout_seconds(spec, self.workflow.spec)
        stop = overdue_time(spec, task, own, self.end, self.settings.runner_grace)
        if stop is None or self.run.spec.desired_state == DesiredState.CANCELLED:
            return False
        if stop > self.now:
            self._wake_in((stop - self.now).total_seconds())
            return False
        text = overdue_text(task, own, self.run.spec.timeout_seconds, self.now)
        self._fail(name, failure(Cause.TIMEOUT, TIMED_OUT, text))
        return True

    def _waits(self, name: str, wait: Wait) -> None:
        scheduled = self.ledger.tasks[name].scheduled_time or self.now
        if wait.bound is not None:
            left = wait.bound - (self.now - scheduled).total_seconds()
            if left <= 0:
                cause = Cause.INFRASTRUCTURE if wait.reason == "PodNotCreated" else Cause.USER_ERROR
                self._fail(name, failure(cause, wait.reason, wait.message))
                return
            self._wake_in(left)
        self.ledger.explain(name, wait.reason, wait.message)

    def _fail(self, name: str, why: Failure) -> None:
        task = self.ledger.tasks[name]
        delay = None
        if self.run.spec.desired_state != DesiredState.CANCELLED and not self.over:
            policy = effective.retry_policy(self.workflow.tasks[name], self.workflow.spec)
            earlier, op = task.failed_attempts, self.run.spec.op_run
            if op is not None:
                delay = op_retry_delay(policy, task.attempt, op.max_attempts, earlier, why["reason"])
            else:
                delay = retry_delay(policy, earlier, Cause(why["cause"]), why["reason"])
        self.ledger.fail(name, why, delay)

    def _cancel(self) -> None:
        for name, task in self.ledger.tasks.items():
            if task.phase in ACTIVE or task.phase == TaskPhase.PENDING:
                self.ledger.cancel(name)

    def _cut(self) -> None:
        """The Run's time is over: what has not started never will."""
        for name, task in self.ledger.tasks.items():
            if task.phase == TaskPhase.PENDING:
                self.ledger.cut(name, run_text(self.run.spec.timeout_seconds))

    def _admit(self) -> None:
        suspended = self.run.spec.desired_state == DesiredState.SUSPENDED
        parallelism = self.run.spec.parallelism or self.workflow.spec.parallelism
        admitted, reasons = choose_admitted(self.workflow, self.ledger.tasks, parallelism, suspended, self.now)
        for name in admitted:
            self.ledger.admit(name)
            if self._shape(name) is None:
                self._create(AttemptId(name, self.ledger.tasks[name].attempt))
        for name, reason in reasons.items():
            self.ledger.explain(name, reason, None)
            retry_time = self.ledger.tasks[name].retry_time
            if reason == "RetryBackoff" and retry_time is not None:
                self._wake_in((retry_time - self.now).total_seconds())

    def _create(self, attempt: AttemptId) -> None:
        scale = task_memory_scale(self.workflow, self.ledger.tasks[attempt.task])
        self.actions.append(CreatePod(attempt, scale))

    def _exiting(self) -> bool:
        """Whether a pod lives that is not the one of its task's active attempt."""
        living = [attempt for attempt, pod in self.pods.items() if pod.ended is None]
        tasks = [(attempt, self.ledger.tasks[attempt.task]) for attempt in living if attempt.task in self.ledger.tasks]
        return any(task.phase not in ACTIVE or task.attempt != attempt.attempt for attempt, task in tasks)

    def _wake_in(self, seconds: float) -> None:
        self.wake = seconds if self.wake is None else min(self.wake, seconds)

    def _status(self, cancelled: bool) -> RunStatus:
        counts = count(self.ledger)
        ended = counts.total - counts.pending - counts.running
        phase, reason, message = RunPhase.RUNNING, None, None
        if self.ledger.all_ended():
            overtime = run_text(self.run.spec.timeout_seconds) if self.over else None
            phase, reason, message = judge(counts, self.ledger, cancelled, overtime)
        elif self.run.spec.desired_state == DesiredState.SUSPENDED:
            reason = "Suspended"
        status = self.run.status.model_copy(
            update={
                "observed_generation": self.run.generation,
                "phase": phase,
                "reason": reason,
                "message": message,
                "start_time": self.run.status.start_time or self.now,
                "progress": f"{ended}/{counts.total}",
                "counts": counts,
                "first_failure": self.ledger.first_failure,
                "tasks": list(self.ledger.tasks.values()),
            }
        )
        if phase in TERMINAL_RUNS:
            return finish(status, self.ledger.next_event(), self.now)
        return status.model_copy(update={"last_event": self.ledger.last_event})
