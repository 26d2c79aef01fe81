"""What one call of `plan` decides. Each test names what a user would lose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import SETTINGS, at, container_task, failed, pod, python_task, run_view, shared_task, succeeded, workflow
from maze_crds.protocol import Result
from maze_crds.run import Cause, DesiredState, RunPhase, RunStatus, TaskPhase
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.plan import attempts_to_look_up, plan
from maze_operator.core.values import (
    STORE_UNAVAILABLE,
    AttemptId,
    CreatePod,
    DeletePod,
    DeleteRun,
    Ended,
    Facts,
    Plan,
    PodView,
    Refused,
    Started,
    Waiting,
)

DIAMOND = workflow(python_task("a"), python_task("b", "a"), python_task("c", "a"), python_task("d", "b", "c"))


class Story:
    """A Run told step by step: each `step` is one reconcile on top of the last status."""

    def __init__(self, spec: WorkflowSpec, **run: Any) -> None:
        self.spec, self.run = spec, run
        self.status = RunStatus()
        self.pods: dict[AttemptId, PodView] = {}
        self.known: set[AttemptId] = set()

    def step(self, seconds: float = 0, *, results: dict[str, Result | None] | None = None, **facts: Any) -> Plan:
        attempts = {task.name: task.attempt for task in self.status.tasks}
        found = {AttemptId(name, attempts[name]): result for name, result in (results or {}).items()}
        view = run_view(self.spec, self.status, **self.run)
        told = Facts(results=found, known=frozenset(self.known), **facts)
        decided = plan(view, self.pods, told, at(seconds), SETTINGS)
        self.status = decided.status
        for action in decided.actions:
            if isinstance(action, CreatePod):
                self.add(pod(action.attempt_id.task, action.attempt_id.attempt))
        return decided

    def add(self, made: PodView) -> None:
        self.pods[made.attempt_id] = made
        self.known.add(made.attempt_id)

    def drop(self, name: str, attempt: int = 1) -> None:
        del self.pods[AttemptId(name, attempt)]

    def phases(self) -> dict[str, str]:
        return {task.name: task.phase.value for task in self.status.tasks}

    def task(self, name: str) -> Any:
        return next(task for task in self.status.tasks if task.name == name)


def created(decided: Plan) -> list[str]:
    return [action.attempt_id.task for action in decided.actions if isinstance(action, CreatePod)]


def test_a_diamond_runs_in_the_order_of_its_edges() -> None:
    story = Story(DIAMOND)
    assert created(story.step()) == ["a"]
    assert created(story.step(1, results={"a": succeeded()})) == ["b", "c"]
    assert created(story.step(2, results={"b": succeeded()})) == []
    assert created(story.step(3, results={"c": succeeded()})) == ["d"]
    last = story.step(4, results={"d": succeeded()})
    assert last.status.phase == RunPhase.SUCCEEDED
    assert last.status.progress == "4/4"
    assert [condition.type for condition in last.status.conditions] == ["Complete"]


def test_events_are_numbered_without_gaps_in_the_order_things_happened() -> None:
    story = Story(DIAMOND)
    story.step()
    for second, name in enumerate("abcd", start=1):
        story.step(second, results={name: succeeded()})
    numbers = [1, story.status.end_event]
    for task in story.status.tasks:
        numbers += [task.start_event, task.end_event]
    assert sorted(numbers) == list(range(1, story.status.last_event + 1))
    assert story.task("a").end_event < story.task("b").start_event
    assert story.status.end_event == story.status.last_event


def test_the_intent_to_create_a_pod_survives_a_crash_before_it_is_created() -> None:
    story = Story(DIAMOND)
    story.step()
    story.pods.clear()
    story.known.clear()
    assert created(story.step(1)) == ["a"]
    assert story.task("a").attempt == 1


def test_a_failed_task_skips_what_needs_it_and_nothing_else() -> None:
    story = Story(
        workflow(
            python_task("bad"), python_task("child", "bad"), python_task("grandchild", "child"), python_task("other")
        )
    )
    story.step()
    decided = story.step(1, results={"bad": failed()})
    assert story.phases() == {"bad": "Failed", "child": "Skipped", "grandchild": "Skipped", "other": "Starting"}
    assert "'bad'" in story.task("grandchild").message
    assert decided.status.phase == RunPhase.RUNNING
    story.step(2, results={"other": succeeded()})
    assert story.status.phase == RunPhase.FAILED
    assert story.status.first_failure is not None
    assert story.status.first_failure.task == "bad"


def test_a_failed_task_is_tried_again_after_its_backoff_with_a_new_attempt() -> None:
    story = Story(workflow(python_task("t", retry={"limit": 1, "backoffSeconds": 5})))
    story.step()
    decided = story.step(1, results={"t": failed()})
    assert (story.task("t").phase, story.task("t").reason) == (TaskPhase.PENDING, "RetryBackoff")
    assert decided.requeue_after == pytest.approx(5)
    assert created(story.step(3)) == []
    again = story.step(6)
    assert [a.attempt_id.attempt for a in again.actions if isinstance(a, CreatePod)] == [2]
    story.step(7, results={"t": failed(message="again")})
    assert story.status.phase == RunPhase.FAILED
    assert [attempt.message for attempt in story.task("t").failed_attempts] == ["boom"]


def test_a_lost_pod_does_not_use_up_the_retries_of_the_function() -> None:
    story = Story(workflow(python_task("t", retry={"limit": 0, "infrastructure": 1, "backoffSeconds": 0})))
    story.step()
    story.drop("t")
    story.step(1, results={"t": None})
    assert (story.task("t").phase, story.task("t").attempt) == (TaskPhase.STARTING, 2)
    assert story.task("t").failed_attempts[0].reason == "PodLost"


def test_a_missing_pod_is_not_lost_before_its_result_has_been_looked_for() -> None:
    story = Story(workflow(python_task("t")))
    story.step()
    story.drop("t")
    story.step(1)
    assert story.task("t").phase == TaskPhase.STARTING
    view = run_view(story.spec, story.status)
    assert attempts_to_look_up(view, {}, frozenset(story.known), cold=False) == {AttemptId("t", 1)}


def test_a_result_in_the_store_beats_a_pod_that_says_failed() -> None:
    story = Story(workflow(python_task("t")))
    story.step()
    story.add(pod("t", ended=Ended(succeeded=False, reason="Error", exit_code=1)))
    story.step(1, results={"t": succeeded()})
    assert story.status.phase == RunPhase.SUCCEEDED


def test_out_of_memory_is_tried_again_with_more_memory() -> None:
    retry = {"outOfMemory": 2, "memoryFactor": 2, "backoffSeconds": 0}
    story = Story(workflow(python_task("t", retry=retry, resources={"memory": "100M"})))
    story.step()
    decided = story.step(1, results={"t": failed(Cause.OUT_OF_MEMORY, "OOMKilled")})
    assert [a.memory_scale for a in decided.actions if isinstance(a, CreatePod)] == [2.0]
    decided = story.step(2, results={"t": failed(Cause.OUT_OF_MEMORY, "OOMKilled")})
    assert [a.memory_scale for a in decided.actions if isinstance(a, CreatePod)] == [4.0]


def test_a_container_that_runs_too_long_is_stopped_and_the_task_fails() -> None:
    story = Story(workflow(container_task("t", timeoutSeconds=10)))
    story.step()
    story.add(pod("t", running_since=at(1)))
    assert story.step(1).requeue_after == pytest.approx(10)
    decided = story.step(11)
    assert (story.task("t").phase, story.task("t").cause) == (TaskPhase.FAILED, Cause.TIMEOUT)
    assert any(isinstance(action, DeletePod) for action in decided.actions)


def test_the_runner_gets_time_to_enforce_its_own_timeout() -> None:
    story = Story(workflow(python_task("t", timeoutSeconds=10)))
    story.step()
    story.step(1, started={AttemptId("t", 1): Started(at(1))})
    story.step(12)
    assert story.task("t").phase == TaskPhase.RUNNING
    story.step(12 + SETTINGS.runner_grace)
    assert story.task("t").phase == TaskPhase.FAILED


def test_parallelism_and_priority_decide_who_starts() -> None:
    tasks = [python_task("low"), python_task("high", priority=5), python_task("mid", priority=1)]
    story = Story(workflow(*tasks, parallelism=2))
    assert created(story.step()) == ["high", "mid"]
    assert story.task("low").reason == "ParallelismLimit"
    assert created(story.step(1, results={"high": succeeded()})) == ["low"]


def test_few_pods_of_a_run_wait_for_a_node_at_once() -> None:
    """A third one is made when one of two has found its node; tasks that share pods wait for nobody."""
    spec = workflow(*(container_task(f"t{n}") for n in range(4)), shared_task("s"))
    few = replace(SETTINGS, pods_waiting=2)
    first = plan(run_view(spec), {}, Facts(), at(0), few)
    assert created(first) == ["t0", "t1"]
    reasons = {task.name: task.reason for task in first.status.tasks}
    assert reasons == {"t0": "PodStarting", "t1": "PodStarting", "s": "WaitingForPod"} | dict.fromkeys(
        ["t2", "t3"], "WaitingForPod"
    )
    pods = {each.attempt_id: each for each in (pod("t0", node="10.0.0.1"), pod("t1"))}
    known = Facts(known=frozenset(pods))
    assert created(plan(run_view(spec, first.status), pods, known, at(1), few)) == ["t2"]
    assert created(plan(run_view(spec, first.status), {}, Facts(), at(1), few)) == ["t0", "t1"]


def test_cancel_ends_everything_and_deletes_live_pods_at_once() -> None:
    story = Story(DIAMOND)
    story.step()
    story.run["desiredState"] = DesiredState.CANCELLED
    decided = story.step(1)
    assert decided.status.phase == RunPhase.CANCELLED
    assert [action.name for action in decided.actions if isinstance(action, DeletePod)] == ["a-1"]
    assert set(story.phases().values()) == {"Cancelled"}


def test_a_result_that_came_before_the_cancel_was_seen_is_kept() -> None:
    story = Story(workflow(python_task("t")))
    story.step()
    story.run["desiredState"] = DesiredState.CANCELLED
    story.step(1, results={"t": succeeded()})
    assert story.status.phase == RunPhase.SUCCEEDED


def test_a_suspended_run_creates_no_pods_until_it_is_resumed() -> None:
    story = Story(DIAMOND, desiredState="Suspended")
    assert created(story.step()) == []
    assert (story.status.reason, story.task("a").reason) == ("Suspended", "Suspended")
    story.run["desiredState"] = "Running"
    assert created(story.step(1)) == ["a"]


def test_a_gpu_that_is_not_there_shows_its_reason_while_the_task_waits_and_fails_after_the_bound() -> None:
    story = Story(workflow(python_task("t")))
    story.step()
    words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    story.add(pod("t", unschedulable=Waiting("Unschedulable", words)))
    story.step(1)
    assert (story.task("t").phase, story.task("t").reason, story.task("t").message) == (
        "Starting",
        "Unschedulable",
        words,
    )
    story.step(SETTINGS.unschedulable_timeout + 1)
    assert (story.task("t").phase, story.task("t").reason) == (TaskPhase.FAILED, "Unschedulable")


@pytest.mark.parametrize(
    ("reason", "shown", "fails_at"),
    [
        ("ErrImagePull", "ImagePullFailed", SETTINGS.image_pull_timeout),
        ("ImagePullBackOff", "ImagePullFailed", SETTINGS.image_pull_timeout),
        ("InvalidImageName", "InvalidImageName", 0),
        ("CreateContainerConfigError", "ContainerStartFailed", SETTINGS.container_start_timeout),
    ],
)
def test_a_container_that_can_not_start_says_why_and_fails_after_a_bound(
    reason: str, shown: str, fails_at: float
) -> None:
    story = Story(workflow(container_task("t")))
    story.step()
    story.add(pod("t", waiting=Waiting(reason, "words")))
    if fails_at:
        story.step(1)
        assert (story.task("t").phase, story.task("t").reason) == (TaskPhase.STARTING, shown)
    story.step(fails_at + 1)
    assert (story.task("t").phase, story.task("t").reason) == (TaskPhase.FAILED, shown)


NOT_ALLOWED = (
    'pods is forbidden: User "system:serviceaccount:maze-system:maze-operator" cannot create resource "pods" in'
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [("pods is forbidden: exceeded quota: small", "QuotaExceeded"), (NOT_ALLOWED, "OperatorNotAllowed")],
)
def test_a_quota_is_waited_out_and_a_rejected_pod_fails(said: str, reason: str) -> None:
    story = Story(workflow(python_task("t")))
    story.step()
    story.pods.clear()
    story.known.clear()
    quota = Refused(403, said, at(1))
    decided = story.step(2, refused={AttemptId("t", 1): quota})
    assert (story.task("t").phase, story.task("t").reason) == (TaskPhase.STARTING, reason)
    assert created(decided) == []
    assert created(story.step(7, refused={AttemptId("t", 1): quota})) == ["t"]
    story.pods.clear()
    story.known.clear()
    story.step(8, refused={AttemptId("t", 1): Refused(422, "spec is wrong", at(8))})
    assert (story.task("t").phase, story.task("t").reason) == (TaskPhase.FAILED, "PodRejected")


def test_an_object_store_that_is_down_is_waited_for_with_its_reason_on_the_task() -> None:
    story = Story(workflow(python_task("t")))
    story.step()
    story.pods.clear()
    story.known.clear()
    for second in (2, 1000):
        down = Refused(STORE_UNAVAILABLE, "can't be reached", at(second - 1))
        story.step(second, refused={AttemptId("t", 1): down})
        assert (story.task("t").phase, story.task("t").reason) == (TaskPhase.STARTING, "StorageUnavailable")


def test_a_pod_that_reported_may_exit_by_itself_and_is_deleted_if_it_does_not() -> None:
    story = Story(workflow(python_task("t")))
    story.step()
    assert story.step(1, results={"t": succeeded()}).actions == ()
    assert story.step(5).actions == ()
    late = story.step(SETTINGS.exit_grace + 2)
    assert [action.name for action in late.actions if isinstance(action, DeletePod)] == ["t-1"]


def test_the_pod_of_a_failed_attempt_may_exit_by_itself_too_so_that_its_log_stays() -> None:
    story = Story(workflow(python_task("t", retry={"limit": 1, "backoffSeconds": 5})))
    story.step()
    assert story.step(1, results={"t": failed()}).actions == ()
    assert created(story.step(7)) == ["t"]
    late = story.step(SETTINGS.exit_grace + 2)
    assert [action.name for action in late.actions if isinstance(action, DeletePod)] == ["t-1"]


def test_an_ended_run_is_deleted_after_its_ttl_and_not_before() -> None:
    story = Story(workflow(python_task("t")), ttlSecondsAfterFinished=60)
    story.step()
    story.step(1, results={"t": succeeded()})
    story.pods.clear()
    early = story.step(31)
    assert (early.actions, early.requeue_after) == ((), pytest.approx(30))
    assert story.step(61).actions == (DeleteRun(),)


def test_pods_of_an_ended_run_do_not_stay_forever() -> None:
    story = Story(workflow(python_task("t")))
    story.step()
    story.step(1, results={"t": succeeded()})
    story.add(pod("t", ended=Ended(succeeded=True)))
    early = story.step(2)
    assert (early.actions, early.requeue_after) == ((), pytest.approx(SETTINGS.pod_retention - 1))
    late = story.step(SETTINGS.pod_retention + 1)
    assert [action.name for action in late.actions if isinstance(action, DeletePod)] == ["t-1"]


def test_planning_again_without_news_changes_nothing() -> None:
    story = Story(DIAMOND)
    story.step()
    before = story.status
    again = story.step(1)
    assert (again.status, again.actions) == (before, ())
