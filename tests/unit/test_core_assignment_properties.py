"""Workers that claim, report, repeat and go silent, while the operator dies at any step: what must hold regardless."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from builders import SETTINGS, at, failed, pod, python_task, succeeded, task_view, workflow
from maze_crds.names import EXTERNAL_TASK
from maze_crds.protocol import Result
from maze_crds.run import TERMINAL_RUNS, AssignmentEnd, Claim, RunPhase, RunSpec, RunStatus, valid_claim
from maze_operator.core.admission import ACTIVE
from maze_operator.core.assignment import Standing, external_holder, judge_report
from maze_operator.core.plan import attempts_to_look_up, plan
from maze_operator.core.values import AttemptId, CreatePod, DeletePod, Facts, PodView, Started

SPEC = workflow(python_task("a", retry={"limit": 1, "backoffSeconds": 3}), python_task("b", "a"))
LIMITS = replace(SETTINGS, max_assignments=3, runner_grace=5.0)
TIMEOUT = 40
WORKERS = ["u", "v", "w"]


class World:
    """One task with everything around it. A crash of the operator loses all that is not in the status or the store."""

    def __init__(self, internal: bool) -> None:
        self.workflow = SPEC if internal else None
        self.status = RunStatus()
        self.claim: Claim | None = None
        self.cancelled = False
        self.clock = 0.0
        self.store: dict[AttemptId, Result] = {}
        self.reporter: dict[int, str] = {}
        self.silent: set[str] = set()
        self.pods: dict[AttemptId, PodView] = {}
        self.acknowledged: set[tuple[str, bool]] = set()
        self.crash()

    def crash(self) -> None:
        self.cold = True
        self.slot: str | None = None
        self.reported: set[AttemptId] = set()
        self.unanswered: list[tuple[str, bool]] = []
        self.started: dict[AttemptId, Started] = {}
        self.known = set(self.pods)

    @property
    def spec(self) -> RunSpec:
        return task_view(self.workflow, **self._wishes()).spec

    def _wishes(self) -> dict[str, object]:
        state = "Cancelled" if self.cancelled else "Running"
        return {"claim": self.claim, "desiredState": state, "timeoutSeconds": TIMEOUT}

    def make_claim(self, worker: str) -> None:
        """The api: only while nobody has the task, and nobody has cancelled it."""
        waits = self.status.phase not in TERMINAL_RUNS and self.status.assignment is None
        if waits and not self.cancelled and valid_claim(self.spec, self.status) is None:
            self.claim = Claim(worker=worker, number=len(self.status.assignments) + 1, time=at(self.clock))

    def report(self, worker: str, completed: bool) -> None:
        """The operator's endpoint: weighed, stored, and answered after the next status write."""
        verdict = judge_report(self.spec, self.status, worker, completed)
        if verdict.standing is Standing.REPEAT:
            assert (worker, not completed) not in self.acknowledged
            self.acknowledged.add((worker, completed))
        if verdict.standing is not Standing.OWNER:
            assert verdict.standing is Standing.REPEAT or (worker, completed) not in self.acknowledged
            return
        attempt = AttemptId(EXTERNAL_TASK, verdict.number)
        self.store.setdefault(attempt, succeeded() if completed else failed(reason="ReportedFailed"))
        self.reporter.setdefault(verdict.number, worker)
        self.reported.add(attempt)
        self.unanswered.append((worker, completed))

    def reconcile(self, dies: str) -> None:
        self.clock += 1
        view = task_view(self.workflow, self.status, **self._wishes())
        wanted = set(self.reported)
        holder = external_holder(view.spec, view.status)
        if view.workflow is not None:
            wanted |= attempts_to_look_up(view, self.pods, frozenset(self.known), self.cold)
        if holder is not None and self.cold:
            wanted.add(AttemptId(EXTERNAL_TASK, holder[1]))
        facts = Facts(
            {attempt: self.store.get(attempt) for attempt in wanted},
            self.started,
            known=frozenset(self.known),
            slot=self.slot,
            worker_lost=holder is not None and holder[0] in self.silent,
        )
        decided = plan(view, self.pods, facts, at(self.clock), LIMITS)
        if dies == "before":
            self.crash()
            return
        self.check(decided.status)
        self.status = decided.status
        if dies == "after":
            self.crash()
            return
        self.cold, self.slot = False, None
        self.answer()
        for action in decided.actions:
            if isinstance(action, CreatePod):
                assert action.attempt_id not in self.pods
                self.pods[action.attempt_id] = pod(action.attempt_id.task, action.attempt_id.attempt)
                self.known.add(action.attempt_id)
            elif isinstance(action, DeletePod):
                self.pods = {key: kept for key, kept in self.pods.items() if kept.name != action.name}

    def answer(self) -> None:
        for worker, completed in self.unanswered:
            verdict = judge_report(self.spec, self.status, worker, completed)
            assert verdict.standing is not Standing.OWNER, "a report was neither taken nor refused"
            if verdict.standing is Standing.REPEAT:
                self.acknowledged.add((worker, completed))
        self.unanswered.clear()

    def check(self, new: RunStatus) -> None:
        """What one write of the status may do."""
        for before, after in zip(self.status.assignments, new.assignments, strict=False):
            assert before.end is None or before == after, "a closed assignment changed"
        assert [one.number for one in new.assignments] == list(range(1, len(new.assignments) + 1))
        assert all(one.end is not None for one in new.assignments[:-1]), "two workers have the task"
        if self.acknowledged:
            assert new == self.status.model_copy(update={"observed_generation": new.observed_generation})
        assert (new.phase == RunPhase.RUNNING) == (new.assignment is not None)
        last = new.assignments[-1] if new.assignments else None
        if new.phase == RunPhase.SUCCEEDED:
            assert last is not None
            assert last.end == AssignmentEnd.COMPLETED
            if not last.internal:
                assert "failure" not in self.store[AttemptId(EXTERNAL_TASK, last.number)]
        if last is not None and not last.internal and last.end in (AssignmentEnd.COMPLETED, AssignmentEnd.FAILED):
            assert self.reporter[last.number] == last.worker, "somebody else's report counted"

    def finish(self, choice: int, result: Result) -> None:
        active = {AttemptId(task.name, task.attempt) for task in self.status.tasks if task.phase in ACTIVE}
        live = sorted(active & self.pods.keys())
        if live:
            attempt = live[choice % len(live)]
            self.store.setdefault(attempt, result)
            self.reported.add(attempt)

    def start(self) -> None:
        for attempt in self.pods:
            self.started.setdefault(attempt, Started(at(self.clock)))


REPORTS = ["complete", "fail", "complete and die"]
MOVES = [
    "reconcile",
    "reconcile",
    "reconcile",
    "die before",
    "die after",
    "claim",
    "claim",
    *REPORTS,
    "slot",
    "go silent",
    "come back",
    "cancel",
    "time passes",
    "start",
    "finish task",
    "fail task",
]


def act(world: World, move: str, choice: int) -> None:
    worker = WORKERS[choice % len(WORKERS)]
    if move == "reconcile":
        world.reconcile("")
    elif move in ("die before", "die after"):
        world.reconcile(move.removeprefix("die "))
    elif move in REPORTS:
        world.report(worker, move != "fail")
        if move.endswith("die"):
            world.crash()
    elif move == "claim":
        world.make_claim(worker)
    elif move == "slot":
        world.slot = "worker-001-kind"
    elif move == "go silent":
        world.silent.add(worker)
    elif move == "come back":
        world.silent.discard(worker)
    elif move == "cancel":
        world.cancelled = world.cancelled or choice % 4 == 0
    elif move == "time passes":
        world.clock += choice * 3
    elif move == "start":
        world.start()
    else:
        world.finish(choice, failed() if move.startswith("fail") else succeeded())


@settings(max_examples=500, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 20)), max_size=60))
def test_whatever_happens_a_task_is_one_workers_at_a_time_and_ends(
    internal: bool, moves: list[tuple[str, int]]
) -> None:
    world = World(internal)
    for move, choice in moves:
        act(world, move, choice)
    world.silent.clear()
    for _ in range(60):
        if world.status.phase in TERMINAL_RUNS:
            break
        world.make_claim("w")
        world.report("w", True)
        world.finish(0, succeeded())
        world.reconcile("")
    check_end(world)


def check_end(world: World) -> None:
    status = world.status
    assert status.phase in TERMINAL_RUNS
    assert status.assignment is None
    numbers = [status.end_event]
    for one in status.assignments:
        numbers += [one.start_event, one.end_event]
    if status.assignments and status.assignments[-1].end_event == status.end_event:
        numbers.remove(status.end_event)  # an assignment that ends with the Run has no number of its own
    for task in status.tasks:
        numbers += [task.start_event, task.end_event]
        for earlier in task.failed_attempts:
            numbers += [earlier.start_event, earlier.end_event]
    assert sorted(n for n in numbers if n is not None) == list(range(1, status.last_event + 1)), "a number is missing"
    for _, completed in world.acknowledged:
        assert status.phase == (RunPhase.SUCCEEDED if completed else RunPhase.FAILED)
    lost = [one.number for one in status.assignments if one.end == AssignmentEnd.LOST]
    assert len(lost) <= LIMITS.max_assignments
    # What a worker reports decides as soon as it is stored, unless the user cancelled first or the worker was lost.
    for attempt in (key for key in world.store if key.task == EXTERNAL_TASK and key.attempt not in lost):
        ended = status.assignments[attempt.attempt - 1].end
        said = AssignmentEnd.FAILED if "failure" in world.store[attempt] else AssignmentEnd.COMPLETED
        assert ended in (said, AssignmentEnd.CANCELLED)
