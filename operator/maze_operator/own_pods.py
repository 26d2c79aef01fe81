"""The pods of one Run that serve one attempt each, as this process knows them: core/placing.py says which news is urgent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from maze_crds.run import TaskPhase
from maze_operator.core.placing import PATIENCE, is_urgent
from maze_operator.core.values import AttemptId, CreatePod, Plan, PodView, Workflow


class OwnPods:
    """`changed(at_once)`: the Run is to be planned again, at once or soon."""

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self.views: dict[AttemptId, PodView] = {}
        self.known: set[AttemptId] = set()
        """Attempts whose pod has been seen, whatever became of it."""
        self.created: dict[AttemptId, float] = {}
        """When this process made the pod, by its monotonic clock."""
        self._changed = changed
        self._replaced: set[str] = set()
        """UIDs of pods that we have deleted to make them again: they are not lost, whatever a late watch tells."""
        self._living: set[AttemptId] = set()
        self._unplaced: set[AttemptId] = set()
        self._making: set[AttemptId] = set()
        """By the last plan, and not seen yet."""
        self._placed: deque[float] = deque()
        self._workflow: Workflow | None = None
        self._plan: Plan | None = None
        self._succeeded: set[str] = set()
        """Tasks, by the last plan and by their pods since."""

    def see(self, pod: PodView) -> None:
        if pod.uid in self._replaced:
            return
        attempt = pod.attempt_id
        before = self.views.get(attempt)
        self.views[attempt] = pod
        self.known.add(attempt)
        self._making.discard(attempt)
        self._count(pod, before)
        if before is None or before != replace(pod, resource_version=before.resource_version):
            self._changed(self._is_urgent(pod))

    def lose(self, pod: PodView) -> None:
        """It is not there any more."""
        if pod.uid not in self._replaced:
            self._drop(pod.attempt_id)
            self._changed(True)

    def replace(self, attempt: AttemptId, uid: str) -> None:
        """We have deleted it to make another one for the same attempt."""
        self._replaced.add(uid)
        self.known.discard(attempt)
        self._drop(attempt)
        self._changed(True)

    @property
    def more_to_come(self) -> bool:
        """Whether the next ones are made as soon as nodes have taken some of these."""
        return self._plan is not None and self._plan.refill_at is not None

    def named(self, name: str) -> PodView | None:
        return next((pod for pod in self.views.values() if pod.name == name), None)

    def placed_lately(self) -> int:
        """How many of them nodes have taken within PATIENCE."""
        since = time.monotonic() - PATIENCE
        while self._placed and self._placed[0] < since:
            self._placed.popleft()
        return len(self._placed)

    def planned(self, workflow: Workflow | None, plan: Plan) -> None:
        self._workflow, self._plan = workflow, plan
        self._making = {each.attempt_id for each in plan.actions if isinstance(each, CreatePod)} - self.views.keys()
        if workflow is not None and self.views:
            self._succeeded = {task.name for task in plan.status.tasks if task.phase == TaskPhase.SUCCEEDED}

    def settled(self) -> None:
        """No attempt is active."""
        self._replaced.clear()

    def _is_urgent(self, pod: PodView) -> bool:
        if self._workflow is None or self._plan is None:
            return True
        if pod.ended is not None and pod.ended.succeeded:
            self._succeeded.add(pod.attempt_id.task)
        unplaced = len(self._unplaced) + len(self._making)
        return is_urgent(pod, self._workflow, self._plan, len(self._living), unplaced, self._succeeded)

    def _count(self, pod: PodView, before: PodView | None) -> None:
        alive = pod.ended is None
        (self._living.add if alive else self._living.discard)(pod.attempt_id)
        if alive and pod.node is None:
            self._unplaced.add(pod.attempt_id)
            return
        self._unplaced.discard(pod.attempt_id)
        if before is not None and pod.node is not None and before.node is None:
            self._placed.append(time.monotonic())

    def _drop(self, attempt: AttemptId) -> None:
        self.views.pop(attempt, None)
        self._living.discard(attempt)
        self._unplaced.discard(attempt)
