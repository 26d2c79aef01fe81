"""How many pods of one Run may wait for a node, and which news of its pods can't wait.

Scheduler and nodes take pods in the order they come, so whoever comes after a large Run waits for all of its pods that no node
has begun with. Too few of them, and both have nothing to do while the next ones are made. So a Run has as many as the nodes
began with in the last `PATIENCE` seconds: with those they begin in about that time again.
"""

from __future__ import annotations

from collections.abc import Set

from maze_operator.core.slicing import is_sliced
from maze_operator.core.values import Plan, PodView, Workflow

PATIENCE = 1.8
"""Seconds that the pod of another Run waits behind those of a large one, at most, where the scheduler goes on as it did."""
MOST = 1000
LEFT = 4
"""The next pods are made when one in so many of the waiting ones is left: a status that says so is written before, and that costs
about the same however many they are."""


def may_wait(least: int, placed: int) -> int:
    """Pods without a node that a Run may have. placed: how many of its pods nodes have taken within PATIENCE."""
    return max(least, min(placed, MOST))


def refill_at(most: int) -> int:
    """The number of waiting pods at which the next ones are made, where `most` may wait."""
    return most // LEFT


def may_make(most: int, waiting: int, placed: int) -> int:
    """How many pods are made now, where `waiting` of `most` wait. Fewer than a batch only where nodes have taken none lately: of
    those that wait then, some may be such as no node takes."""
    return max(0, most - waiting) if waiting <= refill_at(most) or not placed else 0


def is_urgent(
    pod: PodView, workflow: Workflow, plan: Plan, living: int, unplaced: int, succeeded: Set[str] = frozenset()
) -> bool:
    """Whether the Run can go on because of this change. Of a large Run, what can wait is looked at together.

    plan: the last one of the Run. living, unplaced: how many of its pods have not ended, and wait for a node or are about to be
    made. succeeded: tasks that have, as far as is known, this one included.
    """
    if not is_sliced(len(workflow.tasks)):
        return True
    if plan.refill_at is not None and unplaced <= plan.refill_at:
        return True
    if pod.ended is None:
        return False
    if living == 0 or plan.limited:
        return True
    return any(workflow.dependencies[name] <= succeeded for name in workflow.downstream.get(pod.attempt_id.task, ()))
