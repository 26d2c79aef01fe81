"""Who has a task of the Task Executor: each test names what a user would lose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import SETTINGS, at, failed, pod, python_task, succeeded, task_view, workflow
from maze_crds.names import EXTERNAL_TASK
from maze_crds.protocol import Result
from maze_crds.run import Assignment, AssignmentEnd, Cause, RunPhase, RunSpec, RunStatus
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.assignment import Standing, external_holder, judge_report
from maze_operator.core.plan import plan
from maze_operator.core.values import (
    AttemptId,
    CreatePod,
    DeletePod,
    DeleteRun,
    Facts,
    Plan,
    PodView,
    Settings,
)

ONE = workflow(python_task("t"))


class Story:
    """A task told step by step; `spec` None: only external workers can execute it."""

    def __init__(self, spec: WorkflowSpec | None = ONE, settings: Settings = SETTINGS, **run: Any) -> None:
        self.spec, self.settings, self.run = spec, settings, run
        self.status = RunStatus()
        self.pods: dict[AttemptId, PodView] = {}

    def step(self, seconds: float = 0, *, report: Result | None = None, **facts: Any) -> Plan:
        results = facts.pop("results", {})
        number = len(self.status.assignments) + (self.status.assignment is None)
        if report is not None:
            results = {AttemptId(EXTERNAL_TASK, number): report}
        view = task_view(self.spec, self.status, **self.run)
        told = Facts(results=results, known=frozenset(self.pods), **facts)
        decided = plan(view, self.pods, told, at(seconds), self.settings)
        self.status = decided.status
        for action in decided.actions:
            if isinstance(action, CreatePod):
                self.pods[action.attempt_id] = pod(action.attempt_id.task, action.attempt_id.attempt)
        return decided

    def claim(self, worker: str = "w", number: int = 1) -> None:
        self.run["claim"] = {"worker": worker, "number": number, "time": at(0)}

    def ends(self) -> list[tuple[str, str | None]]:
        return [(one.worker, one.end) for one in self.status.assignments]


def test_a_task_waits_without_a_limit_until_somebody_has_it() -> None:
    story = Story(timeoutSeconds=5)
    for seconds in (0, 1000):
        decided = story.step(seconds)
        assert (decided.actions, decided.requeue_after) == ((), None)
    assert (story.status.phase, story.status.reason) == (RunPhase.PENDING, "WaitingForWorker")
    assert (story.status.start_time, story.status.last_event) == (None, 0)


def test_a_claim_gives_the_task_to_the_worker_and_its_report_ends_it() -> None:
    story = Story(None, timeoutSeconds=60)
    story.claim()
    assert story.step(1).requeue_after == pytest.approx(60)
    assert (story.status.phase, story.status.worker) == (RunPhase.RUNNING, "w")
    story.step(2, report=succeeded())
    assert story.status.phase == RunPhase.SUCCEEDED
    [only] = story.status.assignments
    assert (only.start_event, only.end, only.end_event, story.status.end_event) == (1, "Completed", 2, 2)


def test_what_a_worker_says_went_wrong_is_the_message_of_the_run() -> None:
    story = Story(None)
    story.claim()
    story.step(1)
    story.step(2, report=failed(reason="ReportedFailed", message="no such pod"))
    shown = (story.status.phase, story.status.reason, story.status.message)
    assert shown == (RunPhase.FAILED, "ReportedFailed", "no such pod")
    assert story.ends() == [("w", AssignmentEnd.FAILED)]


def test_a_report_may_come_before_the_claim_is_noted() -> None:
    story = Story(None)
    story.claim()
    story.step(1, report=succeeded())
    assert story.status.phase == RunPhase.SUCCEEDED
    assert [(one.start_event, one.end_event) for one in story.status.assignments] == [(1, 2)]


def test_a_handed_slot_starts_the_workflow_and_ends_with_the_run() -> None:
    story = Story()
    decided = story.step(1, slot="worker-001-kind")
    assert any(isinstance(action, CreatePod) for action in decided.actions)
    assert (story.status.phase, story.status.worker) == (RunPhase.RUNNING, "worker-001-kind")
    story.step(2, results={AttemptId("t", 1): succeeded()})
    [only] = story.status.assignments
    assert story.status.phase == RunPhase.SUCCEEDED
    assert (only.internal, only.end, only.end_event) == (True, AssignmentEnd.COMPLETED, story.status.end_event)
    [task] = story.status.tasks
    assert [only.start_event, task.start_event, task.end_event, only.end_event] == [1, 2, 3, 4]


def test_a_claim_comes_before_a_slot() -> None:
    story = Story()
    story.claim()
    assert story.step(1, slot="worker-001-kind").actions == ()
    assert story.status.worker == "w"


@pytest.mark.parametrize(
    ("spec", "run"), [(None, {}), (ONE, {"desiredState": "Suspended"})], ids=["no workflow", "suspended"]
)
def test_a_slot_is_not_taken_where_nothing_could_run(spec: WorkflowSpec | None, run: dict[str, Any]) -> None:
    story = Story(spec, **run)
    assert story.step(1, slot="worker-001-kind").actions == ()
    assert story.status.phase == RunPhase.PENDING


def test_a_task_whose_worker_went_silent_waits_for_another_and_forgets_the_first() -> None:
    story = Story(None)
    story.claim()
    story.step(1)
    story.step(2, worker_lost=True)
    assert (story.status.phase, story.status.reason) == (RunPhase.PENDING, "WaitingForWorker")
    story.step(3)  # the old claim is still in the spec
    assert story.status.assignment is None
    story.claim("v", 2)
    story.step(4)
    story.step(5, results={AttemptId(EXTERNAL_TASK, 1): succeeded()})  # what the first left
    assert story.status.phase == RunPhase.RUNNING
    story.step(6, report=succeeded())
    assert story.ends() == [("w", AssignmentEnd.LOST), ("v", AssignmentEnd.COMPLETED)]
    assert [n for one in story.status.assignments for n in (one.start_event, one.end_event)] == [1, 2, 3, 4]


def test_a_report_that_is_stored_counts_though_its_worker_went_silent() -> None:
    story = Story(None)
    story.claim()
    story.step(1)
    story.step(2, report=succeeded(), worker_lost=True)
    assert story.status.phase == RunPhase.SUCCEEDED


def test_a_task_that_loses_every_worker_fails_in_the_end() -> None:
    story = Story(None, replace(SETTINGS, max_assignments=3))
    for number in (1, 2, 3):
        assert story.status.phase == RunPhase.PENDING
        story.claim(f"w{number}", number)
        story.step(number, worker_lost=True)
    assert (story.status.phase, story.status.reason) == (RunPhase.FAILED, "WorkerLost")
    assert {end for _, end in story.ends()} == {AssignmentEnd.LOST}
    assert story.status.assignments[-1].end_event == story.status.end_event == 6


def test_an_external_worker_has_the_timeout_from_when_it_got_the_task() -> None:
    story = Story(None, timeoutSeconds=60)
    story.step(0)
    story.claim()
    story.step(1000)
    story.step(1059)
    assert story.status.phase == RunPhase.RUNNING
    story.step(1060)
    assert (story.status.phase, story.status.reason) == (RunPhase.FAILED, "TimedOut")
    assert story.ends() == [("w", AssignmentEnd.TIMED_OUT)]


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("noted", [False, True])
def test_cancel_ends_a_task_at_once_whoever_has_it(claimed: bool, noted: bool) -> None:
    story = Story(None)
    if claimed:
        story.claim()
    if noted:
        story.step(1)
    story.run["desiredState"] = "Cancelled"
    story.step(2, report=succeeded())
    assert story.status.phase == RunPhase.CANCELLED
    assert story.ends() == ([("w", AssignmentEnd.CANCELLED)] if claimed else [])


def test_cancel_ends_a_task_that_an_internal_worker_has() -> None:
    story = Story()
    story.step(1, slot="worker-001-kind")
    story.run["desiredState"] = "Cancelled"
    decided = story.step(2)
    assert decided.status.phase == RunPhase.CANCELLED
    assert story.ends() == [("worker-001-kind", AssignmentEnd.CANCELLED)]
    assert [action.name for action in decided.actions if isinstance(action, DeletePod)] == ["t-1"]


def test_a_workflow_that_is_not_there_fails_the_task_only_if_no_worker_has_claimed_it() -> None:
    for claimed, phase in ((False, RunPhase.FAILED), (True, RunPhase.RUNNING)):
        story = Story(None)
        if claimed:
            story.claim()
        view = replace(task_view(None, **story.run), problem_reason="WorkflowNotFound", problem="no Workflow 'x'")
        decided = plan(view, {}, Facts(), at(SETTINGS.workflow_missing_timeout + 1), SETTINGS)
        assert decided.status.phase == phase


CLAIM = {"worker": "w", "number": 1, "time": at(0)}


def has(worker: str, end: AssignmentEnd | None, number: int = 1, internal: bool = False) -> Assignment:
    return Assignment(number=number, worker=worker, start_time=at(0), start_event=1, end=end, internal=internal)


OWNER, REPEAT, STRANGER = Standing.OWNER, Standing.REPEAT, Standing.STRANGER
DONE, FAILED, LOST = AssignmentEnd.COMPLETED, AssignmentEnd.FAILED, AssignmentEnd.LOST


@pytest.mark.parametrize(
    ("assignments", "claim", "completed", "standing", "words"),
    [
        ([], None, True, STRANGER, "claim it first"),
        ([], CLAIM, True, OWNER, ""),
        ([], {**CLAIM, "worker": "v"}, True, STRANGER, "claim it first"),
        ([has("w", None)], CLAIM, True, OWNER, ""),
        ([has("v", None)], CLAIM, True, STRANGER, "claim it first"),
        ([has("w", None, internal=True)], None, True, STRANGER, "claim it first"),
        ([has("w", DONE)], CLAIM, True, REPEAT, ""),
        ([has("w", DONE)], CLAIM, False, STRANGER, "completed before"),
        ([has("w", FAILED)], CLAIM, False, REPEAT, ""),
        ([has("w", FAILED)], CLAIM, True, STRANGER, "failed before"),
        ([has("w", LOST)], CLAIM, True, STRANGER, "went silent"),
        ([has("w", LOST)], {**CLAIM, "number": 2}, True, OWNER, ""),
        ([has("w", LOST), has("v", None, 2)], CLAIM, True, STRANGER, "went silent"),
        ([has("w", AssignmentEnd.CANCELLED)], CLAIM, True, STRANGER, "cancelled"),
        ([has("w", AssignmentEnd.TIMED_OUT)], CLAIM, False, STRANGER, "timeout"),
    ],
)
def test_a_report_counts_only_from_who_has_the_task(
    assignments: list[Assignment], claim: Any, completed: bool, standing: Standing, words: str
) -> None:
    ended = bool(assignments) and assignments[-1].end not in (None, LOST)
    status = RunStatus(phase=RunPhase.SUCCEEDED if ended else RunPhase.PENDING, assignments=assignments)
    spec = RunSpec.model_validate({"problemId": "p", "claim": claim})
    verdict = judge_report(spec, status, "w", completed)
    assert verdict.standing == standing
    assert words in verdict.why
    holder = external_holder(spec, status)
    assert (holder is not None and holder[0] == "w") == (standing == OWNER)


def test_a_task_ended_by_its_own_limit_gives_its_run_the_reason() -> None:
    story = Story(workflow(python_task("t", timeoutSeconds=3)), timeoutSeconds=60)
    story.step(0, slot="worker-001-kind")
    story.step(3, results={AttemptId("t", 1): failed(Cause.TIMEOUT, "TimedOut", "ran longer than 3 s")})
    assert (story.status.phase, story.status.reason) == (RunPhase.FAILED, "TimedOut")
    assert story.ends() == [("worker-001-kind", AssignmentEnd.TIMED_OUT)]


def test_a_run_that_the_archive_does_not_have_is_not_deleted() -> None:
    story = Story(None, ttlSecondsAfterFinished=5)
    story.claim()
    story.step(1, report=succeeded())
    view = task_view(None, story.status, **story.run)
    held = plan(replace(view, held=True), {}, Facts(), at(100), SETTINGS)
    assert (held.actions, held.requeue_after) == ((), None)
    assert plan(view, {}, Facts(), at(100), SETTINGS).actions == (DeleteRun(),)
