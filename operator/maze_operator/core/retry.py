"""Retry policy: every cause has its own budget, so that a lost node never uses up the retries of a flaky function."""

from __future__ import annotations

from collections.abc import Sequence

from maze_crds.run import Cause, FailedAttempt, TaskStatus
from maze_crds.workflow import Retry
from maze_operator.core import effective
from maze_operator.core.values import Workflow

_BUDGET = {
    Cause.USER_ERROR: "limit",
    Cause.OUT_OF_MEMORY: "out_of_memory",
    Cause.TIMEOUT: "timeout",
    Cause.INFRASTRUCTURE: "infrastructure",
    Cause.STORAGE: "storage",
}

NEVER_RETRIED = frozenset(
    {
        "CodeNotLoadable",
        "MissingInput",
        "RequiredInputMissing",
        "InputNotJSON",
        "ResultLost",
        "PodRejected",
        "InvalidImageName",
        "SharedGPUNotConfigured",
        "ToolsImageNotConfigured",
        "ToolServerNotConfigured",
        "ToolImageUnusable",
    }
)
"""Reasons that another attempt can't change."""


GIVEN_UP = "GivenUp"
"""Reason of an attempt of an OpRun that another one was asked for in place of."""


def op_retry_delay(
    policy: Retry, attempt: int, max_attempts: int, earlier: Sequence[FailedAttempt], reason: str
) -> float | None:
    """As retry_delay, for an OpRun: its attempts are counted whatever ended them."""
    if reason == GIVEN_UP:
        return 0.0
    if reason in NEVER_RETRIED or attempt >= max_attempts:
        return None
    return _backoff(policy, len(earlier))


def retry_delay(policy: Retry, earlier: Sequence[FailedAttempt], cause: Cause, reason: str) -> float | None:
    """Seconds to wait before the next attempt, or None when the budget for `cause` is used up.

    `earlier` are the failed attempts before this one; the wait grows with those of the same cause.
    """
    if reason in NEVER_RETRIED:
        return None
    used = sum(1 for attempt in earlier if attempt.cause == cause)
    if used >= getattr(policy, _BUDGET[cause]):
        return None
    return _backoff(policy, used)


def _backoff(policy: Retry, used: int) -> float:
    delay: float = min(policy.backoff_seconds * policy.backoff_factor**used, policy.max_backoff_seconds)
    return delay


def task_memory_scale(workflow: Workflow, status: TaskStatus) -> float:
    """How many times the asked memory the next, or current, attempt gets."""
    if not status.failed_attempts:
        return 1.0
    policy = effective.retry_policy(workflow.tasks[status.name], workflow.spec)
    return memory_scale(policy, status.failed_attempts)


def memory_scale(policy: Retry, earlier: Sequence[FailedAttempt]) -> float:
    """How many times the asked memory the next attempt gets."""
    return float(policy.memory_factor ** sum(1 for attempt in earlier if attempt.cause == Cause.OUT_OF_MEMORY))
