"""Random graphs, random faults, and an operator that dies between any two steps: what must hold whatever happens."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from builders import SETTINGS, at, failed, pod, python_task, run_view, succeeded, workflow
from maze_crds.protocol import Result
from maze_crds.run import TERMINAL_RUNS, TERMINAL_TASKS, Cause, RunPhase, RunStatus, TaskPhase
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.plan import attempts_to_look_up, plan
from maze_operator.core.values import AttemptId, CreatePod, DeletePod, Ended, Facts, PodView, Started


@st.composite
def graphs(draw: st.DrawFn) -> WorkflowSpec:
    size = draw(st.integers(1, 7))
    tasks = []
    for index in range(size):
        after = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        retry = {
            "limit": draw(st.integers(0, 2)),
            "infrastructure": 50,
            "backoffSeconds": draw(st.sampled_from([0, 3])),
        }
        tasks.append(python_task(f"t{index}", *(f"t{a}" for a in sorted(after)), retry=retry))
    return workflow(*tasks, parallelism=draw(st.sampled_from([None, 1, 2])))


class World:
    """The cluster and the object store, as far as one Run sees them; and an operator that forgets when it crashes."""

    def __init__(self, spec: WorkflowSpec) -> None:
        self.spec = spec
        self.status = RunStatus()
        self.pods: dict[AttemptId, PodView] = {}
        self.store: dict[AttemptId, Result] = {}
        self.executions: Counter[AttemptId] = Counter()
        self.clock = 0.0
        self.crash()

    def crash(self) -> None:
        self.known = set(self.pods)
        self.started: dict[AttemptId, Started] = {}
        self.reported: set[AttemptId] = set()
        self.cold = True

    def reconcile(self, dies: str) -> None:
        """One step of the operator; `dies`: before the write, after it, or not at all."""
        self.clock += 1
        view = run_view(self.spec, self.status)
        wanted = attempts_to_look_up(view, self.pods, frozenset(self.known), self.cold) | self.reported
        results = {attempt: self.store.get(attempt) for attempt in wanted}
        facts = Facts(results, self.started, {}, frozenset(self.known))
        decided = plan(view, self.pods, facts, at(self.clock), SETTINGS)
        if dies == "before":
            self.crash()
            return
        self.check_step(decided.status)
        self.status = decided.status
        if dies == "after":
            self.crash()
            return
        self.cold = False
        for action in decided.actions:
            if isinstance(action, CreatePod):
                assert action.attempt_id not in self.pods, "two pods for one attempt"
                self.pods[action.attempt_id] = pod(action.attempt_id.task, action.attempt_id.attempt)
                self.known.add(action.attempt_id)
            elif isinstance(action, DeletePod):
                self.pods = {a: p for a, p in self.pods.items() if p.name != action.name}

    def check_step(self, new: RunStatus) -> None:
        old = {task.name: task for task in self.status.tasks}
        for task in new.tasks:
            before = old.get(task.name)
            if before is not None and before.phase in TERMINAL_TASKS:
                assert task == before, "an ended task changed"
        assert new.last_event >= self.status.last_event

    def live(self) -> list[AttemptId]:
        return sorted(attempt for attempt, pod in self.pods.items() if pod.ended is None)

    def lease(self, attempt: AttemptId) -> None:
        self.started.setdefault(attempt, Started(at(self.clock)))

    def finish(self, attempt: AttemptId, result: Result, reports: bool) -> None:
        """The runner stores its result, then maybe reports it, then exits."""
        self.executions[attempt] += 1
        self.store[attempt] = result
        if reports:
            self.reported.add(attempt)
        self.pods[attempt] = pod(attempt.task, attempt.attempt, ended=Ended(succeeded=True))

    def lose(self, attempt: AttemptId) -> None:
        del self.pods[attempt]


MOVES = [
    "reconcile",
    "reconcile",
    "die before",
    "die after",
    "lease",
    "succeed",
    "succeed silently",
    "fail",
    "lose",
    "kill",
]


@settings(max_examples=300, deadline=None)
@given(graphs(), st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 20)), max_size=60))
def test_whatever_happens_every_task_is_recorded_once_and_the_run_ends(
    spec: WorkflowSpec, moves: list[tuple[str, int]]
) -> None:
    world = World(spec)
    for move, choice in moves:
        act(world, move, choice)
    for _ in range(400):
        if world.status.phase in TERMINAL_RUNS:
            break
        for attempt in world.live():
            world.finish(attempt, succeeded(), reports=True)
        world.reconcile("")
    check_end(world)


def act(world: World, move: str, choice: int) -> None:
    live = world.live()
    if move == "reconcile":
        world.reconcile("")
    elif move.startswith("die"):
        world.reconcile(move.removeprefix("die "))
    elif live:
        attempt = live[choice % len(live)]
        if move == "lease":
            world.lease(attempt)
        elif move == "lose":
            world.lose(attempt)
        elif move == "kill":
            world.pods[attempt] = pod(attempt.task, attempt.attempt, ended=Ended(succeeded=False, reason="Evicted"))
        else:
            result = failed(Cause.USER_ERROR) if move == "fail" else succeeded()
            world.finish(attempt, result, reports="silently" not in move)


def check_end(world: World) -> None:
    status = world.status
    assert status.phase in TERMINAL_RUNS
    assert all(task.phase in TERMINAL_TASKS for task in status.tasks)
    assert all(times == 1 for times in world.executions.values()), "an attempt ran twice"
    numbers = [1, status.end_event]
    for task in status.tasks:
        numbers += [n for n in (task.start_event, task.end_event) if n is not None]
        for earlier in task.failed_attempts:
            numbers += [n for n in (earlier.start_event, earlier.end_event) if n is not None]
        if task.phase == TaskPhase.SUCCEEDED:
            result = world.store[AttemptId(task.name, task.attempt)]
            assert "failure" not in result
    assert sorted(n for n in numbers if n) == list(range(1, status.last_event + 1)), "event numbers have a gap"
    by_name = {task.name: task for task in status.tasks}
    for spec in world.spec.tasks:
        for upstream in spec.depends_on or ():
            if by_name[spec.name].start_event:
                assert by_name[upstream].phase == TaskPhase.SUCCEEDED
                assert (by_name[upstream].end_event or 0) < (by_name[spec.name].start_event or 0)
    failures = [task for task in status.tasks if task.phase == TaskPhase.FAILED]
    assert status.phase == (RunPhase.FAILED if failures else RunPhase.SUCCEEDED)
