"""The time limit of a whole Run: each test names what a user would lose."""

from __future__ import annotations

from typing import Any

import pytest

from builders import SETTINGS, at, container_task, failed, pod, python_task, run_view, succeeded, workflow
from maze_crds.run import Assignment, AssignmentEnd, Cause, RunPhase, RunSpec, RunStatus, TaskPhase
from maze_operator.core.deadline import deadline, lease_timeout
from maze_operator.core.plan import plan
from maze_operator.core.values import AttemptId, CreatePod, DeletePod, Facts, Plan, PodView, Started

OPEN = Assignment(number=1, worker="w", start_time=at(0), start_event=1)
LOST = OPEN.model_copy(update={"end": AssignmentEnd.LOST})


@pytest.mark.parametrize(
    ("own", "left", "given"),
    [(None, None, None), (10, None, 10), (10, 3, 3), (3, 10, 3), (None, 2.2, 3), (None, 0.1, 1), (10, -5, 1)],
)
def test_a_lease_ends_with_the_run(own: int | None, left: float | None, given: int | None) -> None:
    assert lease_timeout(own, None if left is None else at(100 + left), at(100)) == given


@pytest.mark.parametrize(
    ("spec", "status", "end"),
    [
        ({}, RunStatus(start_time=at(0)), None),
        ({"timeoutSeconds": 5}, RunStatus(), None),
        ({"timeoutSeconds": 5}, RunStatus(start_time=at(1)), at(6)),
        ({"timeoutSeconds": 5, "problemId": "p"}, RunStatus(start_time=at(1)), None),
        ({"timeoutSeconds": 5, "problemId": "p"}, RunStatus(start_time=at(1), assignments=[LOST]), None),
        ({"timeoutSeconds": 5, "problemId": "p"}, RunStatus(start_time=at(1), assignments=[OPEN]), at(5)),
    ],
)
def test_the_time_of_a_run_counts_from_its_start_or_its_assignment(spec: Any, status: RunStatus, end: Any) -> None:
    assert deadline(RunSpec.model_validate(spec), status) == end


class Limited:
    """A Run without a problemId and with `timeoutSeconds`."""

    def __init__(self, *tasks: dict[str, Any], **run: Any) -> None:
        self.spec, self.run = workflow(*tasks), {"timeoutSeconds": 10, **run}
        self.status = RunStatus()
        self.pods: dict[AttemptId, PodView] = {}

    def step(self, seconds: float, **facts: Any) -> Plan:
        view = run_view(self.spec, self.status, **self.run)
        decided = plan(view, self.pods, Facts(known=frozenset(self.pods), **facts), at(seconds), SETTINGS)
        self.status = decided.status
        for action in decided.actions:
            if isinstance(action, CreatePod):
                name, attempt = action.attempt_id.task, action.attempt_id.attempt
                self.pods[action.attempt_id] = pod(name, attempt)
        return decided

    def runs(self, name: str, since: float) -> None:
        self.pods[AttemptId(name, 1)] = pod(name, 1, running_since=at(since))

    def shown(self) -> tuple[RunPhase, str | None, dict[str, TaskPhase]]:
        return self.status.phase, self.status.reason, {task.name: task.phase for task in self.status.tasks}


def test_a_container_is_stopped_when_the_time_of_its_run_is_over() -> None:
    story = Limited(container_task("a"), container_task("b", "a"))
    story.step(0)
    story.runs("a", 1)
    assert story.step(1).requeue_after == pytest.approx(9)
    decided = story.step(10)
    assert story.shown() == (RunPhase.FAILED, "TimedOut", {"a": TaskPhase.FAILED, "b": TaskPhase.SKIPPED})
    assert any(isinstance(action, DeletePod) for action in decided.actions)


def test_a_runner_gets_time_to_stop_its_task_and_keep_the_log() -> None:
    story = Limited(python_task("a"))
    story.step(0)
    story.step(1, started={AttemptId("a", 1): Started(at(1))})
    assert story.step(11).requeue_after == pytest.approx(SETTINGS.runner_grace - 1)
    assert story.status.phase == RunPhase.RUNNING
    timed_out = failed(Cause.TIMEOUT, "TimedOut", "ran longer than 9 s")
    story.step(12, results={AttemptId("a", 1): timed_out})
    assert story.shown() == (RunPhase.FAILED, "TimedOut", {"a": TaskPhase.FAILED})


def test_a_task_that_was_done_in_time_counts_though_its_report_came_late() -> None:
    story = Limited(python_task("a"))
    story.step(0)
    story.step(1, started={AttemptId("a", 1): Started(at(1))})
    story.step(10.5, results={AttemptId("a", 1): succeeded()})
    assert story.status.phase == RunPhase.SUCCEEDED


def test_what_could_not_start_in_time_never_does() -> None:
    story = Limited(python_task("a"), python_task("b", "a"))
    story.step(0)
    story.step(11)
    assert story.shown() == (RunPhase.FAILED, "TimedOut", {"a": TaskPhase.FAILED, "b": TaskPhase.SKIPPED})


def test_no_attempt_begins_after_the_time_is_over() -> None:
    story = Limited(python_task("a", retry={"limit": 5, "timeout": 5, "backoffSeconds": 60}))
    story.step(0)
    story.step(1, results={AttemptId("a", 1): failed()})
    assert story.step(2).requeue_after == pytest.approx(8)
    story.step(10)
    assert story.shown() == (RunPhase.FAILED, "TimedOut", {"a": TaskPhase.SKIPPED})


def test_the_time_of_a_suspended_run_goes_on() -> None:
    story = Limited(python_task("a"), desiredState="Suspended")
    story.step(0)
    assert story.step(1).requeue_after == pytest.approx(9)
    story.step(10)
    assert story.status.reason == "TimedOut"
