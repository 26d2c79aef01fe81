"""One plan in the making: what is known, the ledger it writes to, and the ends that an attempt can come to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from maze_crds.protocol import Failure, Result
from maze_crds.run import TIMED_OUT, Cause, DesiredState, TaskPhase
from maze_operator.core import effective
from maze_operator.core.deadline import deadline, overdue_text, overdue_time
from maze_operator.core.diagnosis import Wait, failure
from maze_operator.core.ledger import Ledger
from maze_operator.core.retry import op_retry_delay, retry_delay, task_memory_scale
from maze_operator.core.shapes import Shapes
from maze_operator.core.values import (
    Action,
    AttemptId,
    CreatePod,
    Facts,
    PodView,
    RunView,
    Settings,
    Shape,
    Workflow,
)

Pods = Mapping[AttemptId, PodView]


class Step:
    """Mutable while the plan is made. `wake`: seconds until the Run is to be planned again without a change; None: never."""

    def __init__(
        self, run: RunView, workflow: Workflow, pods: Pods, facts: Facts, now: datetime, settings: Settings
    ) -> None:
        self.run, self.workflow, self.pods = run, workflow, pods
        self.facts, self.now, self.settings = facts, now, settings
        self.ledger = Ledger(run.status, list(workflow.tasks), now)
        self.end = deadline(run.spec, run.status)
        self.over = self.end is not None and now >= self.end
        self.actions: list[Action] = []
        self.wake: float | None = None
        self.wants_pods = False
        self.limited = False
        self.refill_at: int | None = None
        self._shapes = run.shapes or Shapes(workflow.spec, run.spec.priority, settings, run.spec.priority_class_name)

    @property
    def cancelled(self) -> bool:
        return self.run.spec.desired_state == DesiredState.CANCELLED

    def shape(self, name: str) -> Shape | None:
        """Of the pods that the task may share; None: each of its attempts has one of its own."""
        task = self.workflow.tasks[name]
        return self._shapes.of(task, task_memory_scale(self.workflow, self.ledger.tasks[name]))

    def wake_in(self, seconds: float) -> None:
        self.wake = seconds if self.wake is None else min(self.wake, seconds)

    def finish(self, name: str, result: Result, time: datetime | None = None) -> None:
        """The active attempt has left this, at `time` (default: now)."""
        self.ledger.ensure_started(name)
        if "failure" in result:
            self.fail(name, result["failure"], time)
        else:
            self.ledger.succeed(name, time)

    def fail(self, name: str, why: Failure, time: datetime | None = None) -> None:
        """The active attempt has failed; the task's policy says whether there is another one."""
        task = self.ledger.tasks[name]
        delay = None
        if not (self.cancelled or self.over):
            policy = effective.retry_policy(self.workflow.tasks[name], self.workflow.spec)
            earlier, op = task.failed_attempts, self.run.spec.op_run
            if op is not None:
                delay = op_retry_delay(policy, task.attempt, op.max_attempts, earlier, why["reason"])
            else:
                delay = retry_delay(policy, earlier, Cause(why["cause"]), why["reason"])
        self.ledger.fail(name, why, delay, time)

    def fail_if_overdue(self, name: str) -> bool:
        """Whether the task's own limit or the Run's ends it now."""
        task, spec = self.ledger.tasks[name], self.workflow.tasks[name]
        own = effective.timeout_seconds(spec, self.workflow.spec)
        stop = overdue_time(spec, task, own, self.end, self.settings.runner_grace)
        if stop is None or self.cancelled:
            return False
        if stop > self.now:
            self.wake_in((stop - self.now).total_seconds())
            return False
        text = overdue_text(task, own, self.run.spec.timeout_seconds, self.now)
        self.fail(name, failure(Cause.TIMEOUT, TIMED_OUT, text))
        return True

    def explain_wait(self, name: str, wait: Wait) -> None:
        """Say why the task waits for its pod, or fail it where it has waited for too long."""
        scheduled = self.ledger.tasks[name].scheduled_time or self.now
        if wait.bound is not None:
            left = wait.bound - (self.now - scheduled).total_seconds()
            if left <= 0:
                cause = Cause.INFRASTRUCTURE if wait.reason == "PodNotCreated" else Cause.USER_ERROR
                self.fail(name, failure(cause, wait.reason, wait.message))
                return
            self.wake_in(left)
        self.ledger.explain(name, wait.reason, wait.message)

    def starting(self, name: str) -> bool:
        return self.ledger.tasks[name].phase == TaskPhase.STARTING

    def create_pod(self, attempt: AttemptId) -> None:
        """For this attempt alone."""
        scale = task_memory_scale(self.workflow, self.ledger.tasks[attempt.task])
        self.actions.append(CreatePod(attempt, scale))
