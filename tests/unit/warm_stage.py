"""One Run whose tasks share pods, on a cluster of values: the operator's own code, stopped wherever it waits for something.

Nothing here waits for real: a coroutine is advanced by hand from one `pause` to the next, and between any two of them anything
may happen. The Run's status and the object store survive the operator (`Stage.die`), its memory does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from builders import pod, run_view
from maze_crds.protocol import Result
from maze_crds.run import TERMINAL_RUNS, DesiredState, RunStatus
from maze_crds.workflow import WorkflowSpec
from maze_io.store import StoreError
from maze_operator import slot_calls
from maze_operator.core.values import (
    Action,
    AttemptId,
    CreatePod,
    CreateSlot,
    DeletePod,
    Ended,
    PodView,
    Refused,
    RunView,
    SlotPod,
)
from warm_operator import Clock, Operator, advance

QUOTA = "exceeded quota: pods"


@dataclass
class Runner:
    """A slot pod of the cluster and the program in it."""

    seen: SlotPod
    request: Coroutine[Any, Any, Any] | None = None
    path: str = ""
    work: AttemptId | None = None
    stored: Result | None = None
    unsure: bool = False
    """The connection to the operator was closed while it worked."""

    @property
    def alive(self) -> bool:
        return self.seen.alive


@dataclass
class Truth:
    """What etcd and the object store have."""

    spec: WorkflowSpec
    wishes: dict[str, Any]
    status: RunStatus = field(default_factory=RunStatus)
    version: int = 1
    generation: int = 1
    results: dict[AttemptId, Result] = field(default_factory=dict)
    runners: dict[str, Runner] = field(default_factory=dict)
    pods: dict[AttemptId, PodView] = field(default_factory=dict)

    def view(self) -> RunView:
        run = run_view(self.spec, self.status, **self.wishes)
        return replace(run, generation=self.generation, version=str(self.version))


class Stage:
    """`began`: called with every lease that has come to its pod."""

    def __init__(self, spec: WorkflowSpec, clock: Clock, spares: int, **wishes: Any) -> None:
        self.truth = Truth(spec, wishes)
        self.clock, self.spares = clock, spares
        self.quota_full = self.store_broken = False
        self.began: Callable[[Runner, AttemptId], None] = lambda runner, attempt: None
        self.written: Callable[[RunStatus, RunStatus], None] = lambda old, new: None
        self.orphans: list[Coroutine[Any, Any, Any]] = []
        """Requests whose pods do not wait for the answer any more."""
        self.unseen: list[Runner] = []
        """Pods whose change the operator has not been told yet."""
        self._count = 0
        self.operator = Operator(self)

    @property
    def ended(self) -> bool:
        return self.truth.status.phase in TERMINAL_RUNS

    def write(self, status: RunStatus) -> None:
        self.written(self.truth.status, status)
        self.truth.status = status
        self.truth.version += 1

    def wish(self, state: DesiredState) -> None:
        self.truth.wishes["desired_state"] = state
        self.truth.version += 1
        self.truth.generation += 1

    def die(self) -> None:
        """The operator's process. Its successor sees everything as it is."""
        former = self.operator
        former.dead = True
        for runner in self.truth.runners.values():
            if runner.request is not None:
                runner.request.close()
                runner.request = None
            runner.unsure = runner.work is not None
        for orphan in self.orphans:
            orphan.close()
        self.orphans.clear()
        self.unseen.clear()
        if former.running is not None:
            former.running.close()
        self.finish_jobs()
        self.operator = Operator(self)

    def finish_jobs(self) -> None:
        """Pods are made while the status is written."""
        while self.clock.jobs:
            self.clock.jobs.pop(0).finish()

    def do(self, operator: Operator, action: Action) -> None:
        if isinstance(action, CreateSlot):
            self._create_slot(operator, action)
        elif isinstance(action, CreatePod):
            assert action.attempt_id not in self.truth.pods, "two pods for one attempt"
            made = pod(action.attempt_id.task, action.attempt_id.attempt)
            self.truth.pods[action.attempt_id] = operator.pods.views[action.attempt_id] = made
            operator.pods.known.add(action.attempt_id)
        elif isinstance(action, DeletePod):
            if action.uid in self.truth.runners:
                self.remove(self.truth.runners[action.uid])
            for attempt in [each for each, found in self.truth.pods.items() if found.uid == action.uid]:
                self.lose(attempt)

    def _create_slot(self, operator: Operator, action: CreateSlot) -> None:
        name = f"slot-{action.slot}" if action.slot else f"spare-{self._count}"
        if action.slot == 0:
            if self.spares == 0:
                operator.dirty.set()
                return
            self.spares -= 1
        elif self.quota_full:
            operator.slots.refuse(action.shape.key, Refused(403, QUOTA, self.clock.now()))
            return
        there = next((each for each in self.truth.runners.values() if each.seen.name == name), None)
        if there is not None:
            operator.slots.add(there.seen)
            return
        self._count += 1
        uid = f"pod-{self._count}"
        running = self.clock.now() if action.slot == 0 else None
        seen = SlotPod(
            name=name,
            uid=uid,
            shape=action.shape.key,
            slot=action.slot,
            created=self.clock.now(),
            running_since=running,
        )
        self.truth.runners[uid] = Runner(seen)
        if action.slot:
            operator.slots.created(uid, action.shape.key)
        operator.slots.add(seen)

    def change(self, runner: Runner, **state: Any) -> None:
        runner.seen = replace(runner.seen, **state)
        self.unseen.append(runner)

    def end(self, runner: Runner, succeeded: bool, reason: str = "") -> None:
        """Its object stays."""
        self._drop(runner)
        self.change(runner, ended=Ended(succeeded, reason))

    def remove(self, runner: Runner) -> None:
        self._drop(runner)
        self.change(runner, deleting=True)
        self.truth.runners.pop(runner.seen.uid, None)

    def _drop(self, runner: Runner) -> None:
        self.lose_answer(runner)
        runner.work = None

    def lose_answer(self, runner: Runner) -> None:
        if runner.request is not None:
            self.orphans.append(runner.request)
            runner.request = None

    def lose(self, attempt: AttemptId) -> None:
        """A pod that an attempt has of its own."""
        self.truth.pods.pop(attempt, None)
        self.operator.pods.views.pop(attempt, None)
        self.operator.dirty.set()

    def finish_own(self, attempt: AttemptId, result: Result, reports: bool) -> None:
        self.truth.results[attempt] = result
        if reports and not self.operator.dead:
            self.operator.reports.setdefault(attempt, (result, []))
        self.truth.pods[attempt] = self.operator.pods.views[attempt] = pod(
            attempt.task, attempt.attempt, ended=Ended(succeeded=True)
        )
        self.operator.dirty.set()

    def watch(self) -> None:
        """The operator is told of everything that has changed."""
        while self.unseen:
            runner = self.unseen.pop(0)
            if runner.seen.uid in self.truth.runners:
                self.operator.slots.add(runner.seen)
            else:
                self.operator.slots.remove(runner.seen.uid)
        self.operator.see()

    def go_on(self, runner: Runner, result: Result) -> None:
        """What the program in the pod does next; `result` is what becomes of the attempt that it works on."""
        if runner.request is not None:
            self._answer(runner)
        elif runner.seen.running_since is None:
            self.change(runner, running_since=self.clock.now())
        elif runner.work is None:
            self._ask(runner, "lease", {})
        elif runner.stored is not None:
            self._ask(runner, "complete", {"result": runner.stored})
        elif runner.unsure:
            self._ask(runner, "holding", {})
        else:
            self.store(runner, result)

    def store(self, runner: Runner, result: Result) -> None:
        assert runner.work is not None
        runner.stored = self.truth.results[runner.work] = result

    def _ask(self, runner: Runner, path: str, body: dict[str, Any]) -> None:
        known = self.operator.slots.pods.get(runner.seen.uid)
        if known is None:  # 503
            return
        if runner.work is not None:
            body |= {"task": runner.work.task, "attempt": runner.work.attempt}
        engine, operator = self.operator.engine, self.operator
        runner.path = path
        if path == "lease":
            runner.request = slot_calls.lease(engine, operator, known, 0.0)
        elif path == "complete":
            runner.request = slot_calls.complete(engine, operator, known, body)  # type: ignore[arg-type]
        else:
            runner.request = slot_calls.holding(engine, operator, known, body)  # type: ignore[arg-type]
        self._answer(runner)

    def _answer(self, runner: Runner) -> None:
        assert runner.request is not None
        try:
            ended, response = advance(runner.request)
        except StoreError:  # 503
            runner.request = None
            return
        if not ended:
            return
        runner.request = None
        if response.status == 409:
            self.end(runner, succeeded=True)
        elif response.status == 200:
            self._take_answer(runner, json.loads(response.text))

    def _take_answer(self, runner: Runner, body: dict[str, Any]) -> None:
        if runner.path == "holding":
            runner.unsure = False
            return
        lease = body if runner.path == "lease" else body.get("next")
        runner.work = runner.stored = None
        runner.unsure = False
        if lease is not None:
            runner.work = AttemptId(lease["task"], lease["attempt"])
            self.began(runner, runner.work)

    def advance_orphan(self) -> None:
        orphan = self.orphans.pop(0)
        try:
            ended, _ = advance(orphan)
        except StoreError:
            return
        if not ended:
            self.orphans.append(orphan)
