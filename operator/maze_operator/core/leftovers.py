"""Pods that live on after the attempt they were made for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from maze_crds.run import Cause, TaskPhase, TaskStatus
from maze_operator.core.admission import ACTIVE
from maze_operator.core.ledger import Ledger
from maze_operator.core.values import Action, AttemptId, DeletePod, PodView, Settings, Slots

_SELF_REPORTED = (Cause.USER_ERROR, Cause.OUT_OF_MEMORY, Cause.STORAGE)
"""Causes that a runner tells of before it exits."""


def leftover_pods(ledger: Ledger, pods: Mapping[AttemptId, PodView], now: datetime, settings: Settings) -> list[Action]:
    """Live pods of attempts that are not active any more. One that has reported its end may exit by itself first."""
    found: list[Action] = []
    for attempt, pod in pods.items():
        if pod.ended is not None or pod.deleting:
            continue
        task = ledger.tasks.get(attempt.task)
        if task is not None and task.phase in ACTIVE and task.attempt == attempt.attempt:
            continue
        exiting = _exiting_since(task, attempt.attempt) if task is not None else None
        if exiting is None or now - exiting >= timedelta(seconds=settings.exit_grace):
            found.append(DeletePod(pod.name, pod.uid))
    return found


def leftover_slots(ledger: Ledger, slots: Slots) -> list[Action]:
    """Living slot pods that work on what is not wanted any more. Those that have nothing to do are told to end when they ask."""
    found: list[Action] = []
    for pod in slots.pods:
        held = slots.says.get(pod.uid)
        task = ledger.tasks.get(held.task) if held is not None else None
        lost = held is not None and (task is None or task.phase not in ACTIVE or task.attempt != held.attempt)
        if pod.alive and (lost or pod.uid in slots.doomed):
            found.append(DeletePod(pod.name, pod.uid))
    return found


def _exiting_since(task: TaskStatus, attempt: int) -> datetime | None:
    """When the attempt reported its own end, after which its pod exits by itself; None: it has to be stopped."""
    for earlier in task.failed_attempts:
        if earlier.attempt == attempt:
            return earlier.completion_time if earlier.cause in _SELF_REPORTED else None
    if attempt != task.attempt or task.phase == TaskPhase.CANCELLED:
        return None
    return task.completion_time if task.phase == TaskPhase.SUCCEEDED or task.cause in _SELF_REPORTED else None
