"""Which slot pod works on which attempt of one Run, and what is next, between two writes of the Run's status.

Theory of operation
-------------------
The status is written twice a second at most, tasks may end much faster. So a Desk is made from the status (`rebuild`, after
every plan) and then goes on by itself: a report frees the tasks that waited for it (`report`), and a pod that asks gets the
next one (`take`). What happens here is noted in `unsaid`, in its order, until a status says it (`said`). Hence

- an attempt is leased to one pod at most: it leaves the queue when it is taken, and is put there only while nobody holds it;
- a restarted operator makes an empty Desk; the pods say what they hold (`adopt`), results come from the object store, and
  only then is anything leased.

Mutable; used by one thread.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from datetime import datetime
from graphlib import TopologicalSorter

from maze_crds.protocol import Result
from maze_crds.run import TERMINAL_TASKS, RunStatus, TaskPhase, TaskStatus
from maze_operator.core.admission import ACTIVE
from maze_operator.core.retry import task_memory_scale
from maze_operator.core.shapes import Shapes
from maze_operator.core.values import AttemptId, Happened, Hold, Pace, Reported, Shape, Workflow

SMOOTHING = 0.2
"""Weight of the newest in the pace of a shape's tasks."""
_Entry = tuple[int, int, AttemptId]


class Desk:
    def __init__(self) -> None:
        self.holds: dict[AttemptId, Hold] = {}
        self.by_pod: dict[str, AttemptId] = {}
        """Uid of a pod → what it works on."""
        self.unsaid: deque[Happened] = deque()
        self._paces: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self.attempts: dict[str, int] = {}
        """The current attempt of each task."""
        self.open = False
        self._ended: dict[str, tuple[int, bool]] = {}
        """Tasks whose end is in `unsaid`: its attempt, and whether it succeeded."""
        self._tasks: dict[str, TaskStatus] = {}
        self._workflow: Workflow | None = None
        self._shapes: dict[str, Shape | None] = {}
        self._shapes_from: Shapes | None = None
        self._order: dict[str, int] = {}
        self._missing: dict[str, int] = {}
        self._room: int | None = None
        self._admitted: dict[str, list[_Entry]] = {}
        self._unlocked: dict[str, list[_Entry]] = {}
        self._outstanding: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._confirmed: set[AttemptId] = set()

    def rebuild(
        self, workflow: Workflow, shapes: Shapes, status: RunStatus, parallelism: int | None, open_: bool
    ) -> list[Hold]:
        """After every plan. Returns what pods work on of attempts that `status` has ended otherwise: they must go."""
        if self._workflow is not workflow or self._shapes_from is not shapes:
            self._workflow, self._shapes_from = workflow, shapes
            self._order = {name: number for number, name in enumerate(workflow.tasks)}
            self._shapes = {name: shapes.of(task, 1.0) for name, task in workflow.tasks.items()}
        self.open = open_
        self._tasks = {task.name: task for task in status.tasks}
        for task in status.tasks:
            if task.failed_attempts:
                self._shapes[task.name] = shapes.of(workflow.tasks[task.name], task_memory_scale(workflow, task))
        revoked = self._revoke()
        self.attempts = {name: task.attempt for name, task in self._tasks.items()}
        for attempt in self.holds:
            self.attempts[attempt.task] = attempt.attempt
        for name, (number, _) in self._ended.items():
            self.attempts[name] = number
        self._queue(parallelism)
        return revoked

    def _revoke(self) -> list[Hold]:
        revoked = [hold for attempt, hold in self.holds.items() if not self._may_be_held(attempt)]
        at_work = [hold for hold in revoked if hold.attempt_id in self._confirmed]
        for hold in revoked:
            self._release(hold.attempt_id)
        return at_work

    def _may_be_held(self, attempt: AttemptId) -> bool:
        task = self._tasks.get(attempt.task)
        if task is None:
            return False
        if task.phase in ACTIVE:
            return task.attempt == attempt.attempt
        return task.phase == TaskPhase.PENDING and task.attempt + 1 == attempt.attempt

    def _queue(self, parallelism: int | None) -> None:
        assert self._workflow is not None
        self._admitted, self._unlocked, self._missing = {}, {}, {}
        self._outstanding.clear()
        self._held = Counter(shape.key for attempt in self.holds if (shape := self._shapes.get(attempt.task)))
        active = 0
        done = {name for name, task in self._tasks.items() if task.phase == TaskPhase.SUCCEEDED}
        done |= {name for name, (_, succeeded) in self._ended.items() if succeeded}
        for name, task in self._tasks.items():
            if name in done or task.phase in TERMINAL_TASKS:
                continue
            shape, pending = self._shapes[name], task.phase == TaskPhase.PENDING
            if shape is not None:
                self._outstanding[shape.key] += 1
            ended = name in self._ended
            attempt = AttemptId(name, task.attempt + pending)
            held = attempt in self.holds
            active += held if pending else not ended
            if ended or held:
                continue
            if pending:
                missing = self._missing[name] = len(self._workflow.dependencies[name] - done)
                if missing == 0 and shape is not None and task.retry_time is None:
                    self._push(self._unlocked, shape, attempt)
            elif task.phase == TaskPhase.STARTING and shape is not None:
                self._push(self._admitted, shape, attempt)
        self._room = None if parallelism is None else parallelism - active

    def _push(self, queues: dict[str, list[_Entry]], shape: Shape, attempt: AttemptId) -> None:
        assert self._workflow is not None
        priority = self._workflow.tasks[attempt.task].priority
        heapq.heappush(queues.setdefault(shape.key, []), (-priority, self._order[attempt.task], attempt))

    def take(self, uid: str, pod: str, node: str | None, shape: str, now: datetime) -> AttemptId | None:
        """The next attempt of this shape, held by the pod from now on; `confirm` it once its lease is made."""
        if not self.open:
            return None
        if self._admitted.get(shape):
            _, _, attempt = heapq.heappop(self._admitted[shape])
        elif self._unlocked.get(shape) and (self._room is None or self._room > 0):
            _, _, attempt = heapq.heappop(self._unlocked[shape])
            if self._room is not None:
                self._room -= 1
        else:
            return None
        self._hold(Hold(attempt, uid, pod, node, now))
        return attempt

    def confirm(self, attempt: AttemptId) -> None:
        """The pod gets it (again)."""
        hold = self.holds.get(attempt)
        if hold is not None and attempt not in self._confirmed:
            self._confirmed.add(attempt)
            self.unsaid.append(hold)

    @property
    def taken(self) -> tuple[AttemptId, ...]:
        """Held, and not confirmed yet."""
        return tuple(attempt for attempt in self.holds if attempt not in self._confirmed)

    def give_back(self, attempt: AttemptId) -> None:
        """Its lease could not be made, so it is the next one again. What its pod has got already, stays with it."""
        if attempt in self.holds and attempt not in self._confirmed:
            self._release(attempt)
            shape = self._shapes[attempt.task]
            if shape is not None:
                self._push(self._admitted, shape, attempt)

    def _hold(self, hold: Hold) -> None:
        self.holds[hold.attempt_id] = hold
        self.by_pod[hold.uid] = hold.attempt_id
        self.attempts[hold.attempt_id.task] = hold.attempt_id.attempt
        shape = self._shapes.get(hold.attempt_id.task)
        if shape is not None:
            self._held[shape.key] += 1

    def _release(self, attempt: AttemptId) -> Hold:
        hold = self.holds.pop(attempt)
        self._confirmed.discard(attempt)
        if self.by_pod.get(hold.uid) == attempt:
            del self.by_pod[hold.uid]
        shape = self._shapes.get(attempt.task)
        if shape is not None:
            self._held[shape.key] -= 1
        return hold

    def adopt(self, uid: str, pod: str, node: str | None, attempt: AttemptId, task: TaskStatus, now: datetime) -> bool:
        """A pod says that it has this attempt since before this process knew. False: it can't be."""
        noted = task.phase == TaskPhase.RUNNING and task.attempt == attempt.attempt
        unnoted = task.phase == TaskPhase.STARTING and task.attempt == attempt.attempt
        unnoted |= task.phase == TaskPhase.PENDING and task.attempt + 1 == attempt.attempt
        if attempt in self.holds or not (unnoted or (noted and task.pod in (None, pod))):
            return False
        hold = Hold(attempt, uid, pod, node, (task.start_time if noted else None) or now)
        self._hold(hold)
        self._confirmed.add(attempt)
        if unnoted:
            self.unsaid.append(hold)
        return True

    def learn(self, attempt: AttemptId, result: Result, now: datetime) -> None:
        """An end that no pod has told this process of."""
        self.unsaid.append(Reported(attempt, result, now))
        self._ended[attempt.task] = (attempt.attempt, "failure" not in result)

    def sort_unsaid(self, workflow: Workflow) -> None:
        """What was learned in any order: first what others may have waited for."""
        order = {name: number for number, name in enumerate(TopologicalSorter(workflow.dependencies).static_order())}
        self.unsaid = deque(sorted(self.unsaid, key=lambda each: order[each.attempt_id.task]))

    def report(self, attempt: AttemptId, result: Result, now: datetime) -> bool:
        """The pod that holds the attempt says how it ended. Returns whether that is to be planned at once: nothing is left
        that this desk could lease by itself."""
        hold = self._release(attempt)
        succeeded = "failure" not in result
        self.unsaid.append(Reported(attempt, result, now))
        self._ended[attempt.task] = (attempt.attempt, succeeded)
        if self._room is not None:
            self._room += 1
        shape = self._shapes.get(attempt.task)
        if shape is not None:
            took = max(0.0, (now - hold.time).total_seconds())
            before = self._paces.get(shape.key, took)
            smooth = self._paces[shape.key] = before + SMOOTHING * (took - before)
            self._best[shape.key] = min(smooth, self._best.get(shape.key, smooth))
        if not succeeded:
            return True
        if shape is not None:
            self._outstanding[shape.key] -= 1
        return self._unlock(attempt.task) or not any(self._outstanding.values())

    def _unlock(self, done: str) -> bool:
        """Whether a task is free now that gets a pod of its own."""
        own = False
        if self._workflow is None:  # nothing has been planned yet
            return own
        for name in self._workflow.downstream.get(done, ()):
            if name not in self._missing:
                continue
            self._missing[name] -= 1
            if self._missing[name] == 0:
                shape = self._shapes.get(name)
                own |= shape is None
                if shape is not None:
                    self._push(self._unlocked, shape, AttemptId(name, self._tasks[name].attempt + 1))
        return own

    def said(self, count: int) -> None:
        """The first `count` of `unsaid` are in the status now; `rebuild` has been called with it."""
        for _ in range(count):
            self.unsaid.popleft()
        self._ended = {
            each.attempt_id.task: (each.attempt_id.attempt, "failure" not in each.result)
            for each in self.unsaid
            if isinstance(each, Reported)
        }

    def paces_now(self, now: datetime) -> dict[str, Pace]:
        """By shape. Tasks under way count with what they have taken so far."""
        ages: dict[str, list[float]] = {}
        for attempt, hold in self.holds.items():
            shape = self._shapes.get(attempt.task)
            if shape is not None:
                ages.setdefault(shape.key, []).append((now - hold.time).total_seconds())
        means = {key: sum(found) / len(found) for key, found in ages.items()}
        lately = {key: max(self._paces.get(key, 0.0), means.get(key, 0.0)) for key in {*self._paces, *means}}
        return {key: Pace(found, self._best.get(key, found)) for key, found in lately.items()}

    def has_work(self, shape: str) -> bool:
        """Whether a pod of this shape that asks now would get something."""
        free = self._room is None or self._room > 0
        return self.open and bool(self._admitted.get(shape) or (free and self._unlocked.get(shape)))

    @property
    def has_any_work(self) -> bool:
        """Whether something waits for a pod."""
        return any(self.has_work(shape) for shape in (*self._admitted, *self._unlocked))

    def needs(self, shape: str) -> bool:
        """Whether one more pod of this shape, beside those at work, may still get something."""
        return self._outstanding[shape] > self._held[shape]

    def ended_here(self, attempt: AttemptId) -> bool:
        """Whether the end of this attempt is known and not in the status yet."""
        found = self._ended.get(attempt.task)
        return found is not None and found[0] == attempt.attempt
