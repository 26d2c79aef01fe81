"""The status of one Run while a plan is being made: every change of a task goes through here and gets its number.

Task phases and who may change them:

    Pending ──admit──▶ Starting ──start──▶ Running ──succeed──▶ Succeeded
       ▲ │                │ │                │ │
       │ ├─skip─▶ Skipped │ └──succeed/fail──┘ └──fail──▶ Failed
       │ └─cancel─▶ Cancelled ◀──cancel──┘ (from any phase that has not ended)
       └────────────── fail, while the retry budget of its cause lasts

Starting and ending are events; an attempt that ends before its start was seen gets both, in that order.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from maze_crds.protocol import Failure
from maze_crds.run import (
    TERMINAL_TASKS,
    TEXT_LIMIT,
    TIMED_OUT,
    Cause,
    FailedAttempt,
    FirstFailure,
    RunStatus,
    TaskPhase,
    TaskStatus,
)

_TRANSITIONS = {
    TaskPhase.PENDING: {TaskPhase.STARTING, TaskPhase.SKIPPED, TaskPhase.CANCELLED},
    TaskPhase.STARTING: {
        TaskPhase.RUNNING,
        TaskPhase.SUCCEEDED,
        TaskPhase.FAILED,
        TaskPhase.PENDING,
        TaskPhase.CANCELLED,
    },
    TaskPhase.RUNNING: {TaskPhase.SUCCEEDED, TaskPhase.FAILED, TaskPhase.PENDING, TaskPhase.CANCELLED},
}


class Ledger:
    """Mutable only inside one call of `plan`."""

    def __init__(self, status: RunStatus, names: list[str], now: datetime) -> None:
        known = {task.name: task for task in status.tasks}
        self.now = now
        self.tasks: dict[str, TaskStatus] = {name: known.get(name) or TaskStatus(name=name) for name in names}
        self.last_event = status.last_event
        self.first_failure = status.first_failure

    def next_event(self) -> int:
        self.last_event += 1
        return self.last_event

    def admit(self, name: str, time: datetime | None = None) -> None:
        """time: default now, as in the other methods."""
        self._change(
            name,
            TaskPhase.STARTING,
            attempt=self.tasks[name].attempt + 1,
            scheduled_time=time or self.now,
            retry_time=None,
            reason=None,
            message=None,
            cause=None,
            exit_code=None,
            node=None,
            pod=None,
            start_time=None,
            start_event=None,
        )

    def start(self, name: str, time: datetime, node: str | None, pod: str | None = None) -> None:
        self._change(
            name,
            TaskPhase.RUNNING,
            start_time=time,
            start_event=self.next_event(),
            node=node,
            pod=pod,
            reason=None,
            message=None,
        )

    def succeed(self, name: str, time: datetime | None = None) -> None:
        self._end(name, TaskPhase.SUCCEEDED, time)

    def fail(self, name: str, failure: Failure, retry_in: float | None, time: datetime | None = None) -> None:
        """retry_in: seconds until the next attempt, or None: it stays failed."""
        task = self.tasks[name]
        cause, reason = Cause(failure["cause"]), failure["reason"]
        message, exit_code = failure["message"][:TEXT_LIMIT], failure.get("exitCode")
        if retry_in is None:
            self._end(name, TaskPhase.FAILED, time, cause=cause, reason=reason, message=message, exit_code=exit_code)
            if self.first_failure is None:
                self.first_failure = FirstFailure(task=name, reason=reason, message=message)
            return
        failed = FailedAttempt(
            attempt=task.attempt,
            cause=cause,
            reason=reason,
            message=message,
            exit_code=exit_code,
            start_time=task.start_time,
            completion_time=time or self.now,
            start_event=task.start_event,
            end_event=self.next_event(),
        )
        self._change(
            name,
            TaskPhase.PENDING,
            failed_attempts=[*task.failed_attempts, failed],
            retry_time=self.now + timedelta(seconds=retry_in),
            reason="RetryBackoff",
            message=f"attempt {task.attempt} failed: {message}"[:TEXT_LIMIT],
            node=None,
            pod=None,
            start_time=None,
            start_event=None,
            scheduled_time=None,
        )

    def skip(self, name: str, culprit: str) -> None:
        verb = {TaskPhase.FAILED: "failed", TaskPhase.CANCELLED: "was cancelled"}.get(
            self.tasks[culprit].phase, "did not run"
        )
        self._end(name, TaskPhase.SKIPPED, reason="UpstreamFailed", message=f"task '{culprit}', which it needs, {verb}")

    def cancel(self, name: str) -> None:
        self._end(name, TaskPhase.CANCELLED, reason="Cancelled", message="the Run was cancelled")

    def cut(self, name: str, text: str) -> None:
        """Pending when the Run's time was over."""
        self._end(name, TaskPhase.SKIPPED, reason=TIMED_OUT, message=text)

    def explain(self, name: str, reason: str, message: str | None) -> None:
        """Why the task waits. The message is kept while the reason stays, so that status is not written for wording."""
        if self.tasks[name].reason != reason:
            text = message[:TEXT_LIMIT] if message else None
            self.tasks[name] = self.tasks[name].model_copy(update={"reason": reason, "message": text})

    def all_ended(self) -> bool:
        return all(task.phase in TERMINAL_TASKS for task in self.tasks.values())

    def ensure_started(self, name: str) -> None:
        """A result implies a start, seen or not."""
        task = self.tasks[name]
        if task.start_event is None:
            self.start(name, task.scheduled_time or self.now, task.node)

    def _end(self, name: str, phase: TaskPhase, time: datetime | None = None, **changes: object) -> None:
        changes = {"reason": None, "message": None, "retry_time": None, **changes}
        self._change(name, phase, completion_time=time or self.now, end_event=self.next_event(), **changes)

    def _change(self, name: str, phase: TaskPhase, **changes: object) -> None:
        task = self.tasks[name]
        if phase not in _TRANSITIONS.get(task.phase, ()):
            raise AssertionError(f"task {name} can't go from {task.phase} to {phase}")
        self.tasks[name] = task.model_copy(update={"phase": phase, **changes})
