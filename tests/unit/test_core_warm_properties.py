"""Tasks that share pods: random graphs, random faults, an operator and pods that die anywhere; what holds whatever happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import container_task, failed, python_task, shared_task, succeeded, workflow
from maze_crds.run import TERMINAL_TASKS, Cause, DesiredState, RunPhase, RunStatus, TaskPhase, TaskStatus
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.values import AttemptId
from warm_operator import Clock, stage_clock
from warm_stage import Runner, Stage


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    with stage_clock() as made:
        yield made


@st.composite
def graphs(draw: st.DrawFn) -> WorkflowSpec:
    tasks = []
    for index in range(draw(st.integers(1, 7))):
        after = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        make = draw(st.sampled_from([shared_task] * 5 + [python_task, container_task]))
        more = {
            "retry": {
                "limit": draw(st.integers(0, 2)),
                "infrastructure": 50,
                "backoffSeconds": draw(st.sampled_from([0, 3])),
            },
            "priority": draw(st.sampled_from([0, 0, 5])),
            "resources": {"cpu": draw(st.sampled_from(["1", "1", "2"])), "memory": "64Mi"},
            **draw(st.sampled_from([{}, {}, {"timeoutSeconds": 5}])),
        }
        tasks.append(make(f"t{index}", *(f"t{a}" for a in sorted(after)), **more))
    return workflow(*tasks, parallelism=draw(st.sampled_from([None, None, 1, 2])))


class Referee:
    """Judges what pods and the status do while the Stage plays."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.worked: dict[AttemptId, Runner] = {}
        """Who had the attempt last."""
        stage.began, stage.written = self.began, self.written

    def task(self, name: str) -> TaskStatus:
        return next((t for t in self.stage.truth.status.tasks if t.name == name), TaskStatus(name=name))

    def began(self, runner: Runner, attempt: AttemptId) -> None:
        truth, status = self.stage.truth, self.task(attempt.task)
        former = self.worked.get(attempt)
        if former is not None and former is not runner:
            assert not former.alive, f"{attempt} is leased to {runner.seen.name} while {former.seen.name} has it"
        self.worked[attempt] = runner
        assert attempt not in truth.results, "an attempt whose result is stored is executed again"
        assert status.phase not in TERMINAL_TASKS, "a task that has ended is executed"
        for number in range(1, attempt.attempt):
            result = truth.results.get(AttemptId(attempt.task, number))
            lost = next((f for f in status.failed_attempts if f.attempt == number), None)
            timed_out = lost is not None and lost.cause == Cause.TIMEOUT
            assert result is None or "failure" in result or timed_out, f"{attempt} though {number} has succeeded"
        for upstream in truth.view().workflow.dependencies[attempt.task]:  # type: ignore[union-attr]
            of = self.task(upstream)
            numbers = [of.attempt, of.attempt + 1]
            results = [truth.results.get(AttemptId(upstream, number)) for number in numbers]
            assert any(result is not None and "failure" not in result for result in results), "an input is missing"
        assert truth.spec.parallelism is None or len(self.at_work()) <= truth.spec.parallelism, "parallelism"

    def at_work(self) -> set[AttemptId]:
        """What is under way in pods that live, as far as its end is not known to anybody."""
        found = {attempt for attempt, pod in self.stage.truth.pods.items() if pod.ended is None}
        for runner in self.stage.truth.runners.values():
            if runner.alive and runner.work is not None:
                status = self.task(runner.work.task)
                current = status.attempt + (status.phase == TaskPhase.PENDING)
                if status.phase not in TERMINAL_TASKS and runner.work.attempt == current:
                    found.add(runner.work)
        ended: set[AttemptId] = {*self.stage.truth.results, *self.stage.operator.desk_ends()}
        return found - ended

    def written(self, old: RunStatus, new: RunStatus) -> None:
        before = {task.name: task for task in old.tasks}
        for task in new.tasks:
            was = before.get(task.name)
            if was is not None and was.phase in TERMINAL_TASKS:
                assert task == was, "an ended task changed"
            if was is not None:
                assert task.failed_attempts[: len(was.failed_attempts)] == was.failed_attempts
            if task.phase == TaskPhase.SUCCEEDED:
                assert "failure" not in self.stage.truth.results[AttemptId(task.name, task.attempt)]
        assert new.last_event >= old.last_event

    def end(self) -> None:
        status = self.stage.truth.status
        assert all(task.phase in TERMINAL_TASKS for task in status.tasks)
        numbers = [1, status.end_event]
        for task in status.tasks:
            numbers += [task.start_event, task.end_event]
            assert (task.start_event or 0) < (task.end_event or 0)
            for earlier in task.failed_attempts:
                numbers += [earlier.start_event, earlier.end_event]
                assert (earlier.start_event or 0) < earlier.end_event
            attempts = [earlier.attempt for earlier in task.failed_attempts]
            assert attempts == list(range(1, len(attempts) + 1)), "an attempt has no end, or two"
            worked = self.worked.get(AttemptId(task.name, task.attempt))
            if task.phase == TaskPhase.SUCCEEDED and worked is not None and task.pod is not None:
                assert task.pod == worked.seen.name, f"{task.name}: {task.pod}, though {worked.seen.name} had it last"
        assert sorted(n for n in numbers if n) == list(range(1, status.last_event + 1)), "event numbers have a gap"
        self._order(status)
        failures = [task for task in status.tasks if task.phase == TaskPhase.FAILED]
        if status.phase != RunPhase.CANCELLED:
            assert status.phase == (RunPhase.FAILED if failures else RunPhase.SUCCEEDED)

    def _order(self, status: RunStatus) -> None:
        by_name = {task.name: task for task in status.tasks}
        for spec in self.stage.truth.spec.tasks:
            starts = [f.start_event for f in by_name[spec.name].failed_attempts] + [by_name[spec.name].start_event]
            for upstream in spec.depends_on or ():
                for start in starts:
                    assert not start or (by_name[upstream].end_event or 0) < start


MOVES = [
    *["pod"] * 12,
    *["operator"] * 10,
    *["round"] * 3,
    "time",
    "long time",
    "watch",
    "watch",
    "fail",
    "own",
    "own",
    "own silently",
    "own lost",
    "lose answer",
    "orphan",
    "jobs",
    "kill",
    "exit",
    "vanish",
    "die",
    "write fails",
    "write fails late",
    "store",
    "quota",
    "suspend",
    "resume",
    "resume",
    "cancel",
]


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, int]]:
    """As many long ones as short ones; lists as such are short."""
    length = draw(st.integers(0, 80))
    return draw(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 20)), min_size=length, max_size=length))


@settings(max_examples=400)
@given(graphs(), st.integers(0, 2), stories())
def test_whatever_happens_every_task_is_recorded_once_and_the_run_ends(
    clock: Clock, spec: WorkflowSpec, spares: int, moves: list[tuple[str, int]]
) -> None:
    clock.seconds = 0.0
    stage = Stage(spec, clock, spares)
    referee = Referee(stage)
    for move, choice in moves:
        clock.seconds += 0.05
        act(stage, move, choice)
    finish(stage)
    referee.end()


def finish(stage: Stage) -> None:
    """No faults any more: pods do their work, and the operator does something only when it is due."""
    stage.store_broken = stage.quota_full = False
    if stage.truth.wishes.get("desired_state") == DesiredState.SUSPENDED:
        stage.wish(DesiredState.RUNNING)
    for _ in range(120):
        if stage.ended:
            break
        play_round(stage)
        stage.clock.seconds += 0.7
    else:
        raise AssertionError(f"the Run does not end: {stage.truth.status.tasks}, {stage.operator.slots.__dict__}")
    stage.die()


def play_round(stage: Stage) -> None:
    stage.watch()
    stage.finish_jobs()
    while stage.orphans:
        stage.advance_orphan()
    for runner in living(stage):
        stage.go_on(runner, succeeded())
    for _ in range(len(stage.orphans)):
        stage.advance_orphan()
    for attempt in own(stage):
        stage.finish_own(attempt, succeeded(), reports=True)
    while stage.operator.is_due():
        stage.operator.step_on()
        if stage.operator.running is None:
            break


def living(stage: Stage) -> list[Runner]:
    return [runner for runner in stage.truth.runners.values() if runner.alive]


def own(stage: Stage) -> list[AttemptId]:
    return sorted(attempt for attempt, pod in stage.truth.pods.items() if pod.ended is None)


def act(stage: Stage, move: str, choice: int) -> None:
    simple = {
        "operator": lambda: stage.operator.step_on(),
        "round": lambda: play_round(stage),
        "watch": stage.watch,
        "jobs": stage.finish_jobs,
        "die": stage.die,
        "suspend": lambda: stage.wish(DesiredState.SUSPENDED),
        "resume": lambda: stage.wish(DesiredState.RUNNING),
        "cancel": lambda: stage.wish(DesiredState.CANCELLED),
    }
    if move in simple:
        cancelled = stage.truth.wishes.get("desired_state") == DesiredState.CANCELLED
        if not (cancelled and move in ("suspend", "resume")) and not (move == "cancel" and choice > 5):
            simple[move]()
    elif move in ("time", "long time"):
        stage.clock.seconds += choice if move == "time" else 5 * choice
    elif move == "store":
        stage.store_broken = choice % 2 == 0
    elif move == "quota":
        stage.quota_full = choice % 2 == 0
    elif move.startswith("write fails"):
        stage.operator.unsure_write = move.removeprefix("write ")
    elif move == "orphan":
        if stage.orphans:
            stage.advance_orphan()
    elif move.startswith("own"):
        act_own(stage, move, choice)
    else:
        act_pod(stage, move, choice)


def act_own(stage: Stage, move: str, choice: int) -> None:
    attempts = own(stage)
    if attempts:
        attempt = attempts[choice % len(attempts)]
        if move == "own lost":
            stage.lose(attempt)
        else:
            stage.finish_own(attempt, succeeded(), reports=move == "own")


def act_pod(stage: Stage, move: str, choice: int) -> None:
    runners = living(stage)
    if not runners:
        return
    runner = runners[choice % len(runners)]
    if move == "pod":
        stage.go_on(runner, succeeded())
    elif move == "fail":
        stage.go_on(runner, failed(Cause.USER_ERROR))
    elif move == "lose answer":
        stage.lose_answer(runner)
    elif move == "kill":
        stage.end(runner, succeeded=False, reason="Evicted")
    elif move == "exit":
        stage.end(runner, succeeded=True)
    elif move == "vanish":
        stage.remove(runner)
