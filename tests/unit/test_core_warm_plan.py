"""What one call of `plan` decides for tasks that share pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import SETTINGS, T0, at, failed, pod, run_view, shared_task, slot_pod, status_of, succeeded, workflow
from maze_crds.protocol import Result
from maze_crds.run import Cause, DesiredState, RunPhase, RunStatus, TaskPhase
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.plan import attempts_to_look_up, plan
from maze_operator.core.shapes import Shapes
from maze_operator.core.values import (
    AttemptId,
    CreateSlot,
    DeletePod,
    Ended,
    Facts,
    Happened,
    Hold,
    Pace,
    Plan,
    Refused,
    Reported,
    RunView,
    SlotPod,
    Slots,
    Waiting,
)

ONE = workflow(shared_task("t", timeoutSeconds=10))
CHAIN = workflow(shared_task("a"), shared_task("b", "a"))
PAIR = workflow(shared_task("a"), shared_task("b"), parallelism=1)
STARTING: dict[str, Any] = {"phase": TaskPhase.STARTING, "scheduled_time": T0}
RUNNING: dict[str, Any] = {"phase": TaskPhase.RUNNING, "start_time": T0, "start_event": 2, "pod": "slot-1"}
OVERDUE = 10 + SETTINGS.runner_grace
EVICTED = Ended(succeeded=False, reason="Evicted")


def first(name: str) -> AttemptId:
    return AttemptId(name, 1)


def hold(name: str, seconds: float = 1.0, attempt: int = 1, number: int = 1) -> Hold:
    return Hold(AttemptId(name, attempt), f"pod-{number}", f"slot-{number}", "node", at(seconds))


def reported(name: str, result: Result | None = None, seconds: float = 3.0) -> Reported:
    return Reported(first(name), result or succeeded(), at(seconds))


def living(spec: WorkflowSpec = ONE, number: int = 1, **state: Any) -> SlotPod:
    """A pod for the first task of the workflow."""
    shape = Shapes(spec, 0, SETTINGS).of(spec.tasks[0], 1.0)
    assert shape is not None
    return slot_pod(number, shape.key, **state)


def at_work(name: str, *pods: SlotPod, **facts: Any) -> Slots:
    """The first of the pods works on the task."""
    return Slots(pods, {pods[0].uid: first(name)}, **facts)


def view(spec: WorkflowSpec, status: RunStatus | None, **run: Any) -> RunView:
    return replace(run_view(spec, status, **run), shapes=Shapes(spec, 0, SETTINGS))


def planned(
    spec: WorkflowSpec,
    status: RunStatus | None = None,
    slots: Slots | None = None,
    *,
    seconds: float = 5.0,
    results: dict[AttemptId, Result | None] | None = None,
    **run: Any,
) -> Plan:
    facts = Facts(results=results or {}, slots=slots or Slots())
    return plan(view(spec, status, **run), {}, facts, at(seconds), SETTINGS)


def happened(*each: Happened, pods: tuple[SlotPod, ...] = ()) -> Slots:
    return Slots(pods, happened=each)


def of(decided: Plan, name: str = "t") -> Any:
    return next(task for task in decided.status.tasks if task.name == name)


def phases(decided: Plan) -> dict[str, str]:
    return {task.name: task.phase.value for task in decided.status.tasks}


def deleted(decided: Plan) -> list[str]:
    return [each.uid for each in decided.actions if isinstance(each, DeletePod)]


def new(decided: Plan) -> list[int]:
    return [each.slot for each in decided.actions if isinstance(each, CreateSlot)]


# what happened in pods


def test_a_ready_task_waits_in_starting_and_gets_a_pod_without_a_name_of_its_own() -> None:
    decided = planned(CHAIN)
    assert phases(decided) == {"a": "Starting", "b": "Pending"}
    assert new(decided) == [1]
    assert of(decided, "a").pod is None


def test_a_lease_makes_it_running_in_that_pod_since_then() -> None:
    decided = planned(ONE, status_of(ONE, t=STARTING), replace(at_work("t", living()), happened=(hold("t"),)))
    task = of(decided)
    assert (task.phase, task.pod, task.node, task.start_time) == (TaskPhase.RUNNING, "slot-1", "node", at(1))


def test_what_happened_gets_its_numbers_in_its_order() -> None:
    slots = happened(hold("a", 1), reported("a"), hold("b", 2), reported("b"))
    decided = planned(CHAIN, status_of(CHAIN, a=STARTING), slots)
    a, b = of(decided, "a"), of(decided, "b")
    assert [a.start_event, a.end_event, b.start_event, b.end_event] == [11, 12, 13, 14]
    assert decided.status.end_event == 15
    assert decided.status.phase == RunPhase.SUCCEEDED


def test_a_lease_of_a_task_that_the_status_has_not_admitted_admits_it() -> None:
    decided = planned(CHAIN, status_of(CHAIN, a=RUNNING), happened(reported("a"), hold("b")))
    assert phases(decided) == {"a": "Succeeded", "b": "Running"}
    assert of(decided, "b").attempt == 1


@pytest.mark.parametrize("old", [hold("t"), reported("t", failed())])
def test_what_happened_to_an_earlier_attempt_is_passed_over(old: Happened) -> None:
    status = status_of(ONE, t={**RUNNING, "attempt": 2})
    decided = planned(ONE, status, replace(at_work("t", living()), says={"pod-1": AttemptId("t", 2)}, happened=(old,)))
    assert decided.status.tasks == status.tasks


def test_an_end_beats_the_end_of_its_pod() -> None:
    slots = happened(reported("t"), pods=(living(ended=EVICTED),))
    assert phases(planned(ONE, status_of(ONE, t=RUNNING), slots)) == {"t": "Succeeded"}


def test_a_failure_is_tried_again_while_its_budget_lasts() -> None:
    spec = workflow(shared_task("t", retry={"limit": 1, "backoffSeconds": 4}))
    decided = planned(spec, status_of(spec, t=RUNNING), happened(reported("t", failed())))
    assert of(decided).phase == TaskPhase.PENDING
    assert of(decided).retry_time == at(5 + 4)
    assert of(decided).failed_attempts[0].end_event == 11
    assert decided.requeue_after == pytest.approx(4.0)
    again = planned(spec, decided.status, seconds=9.0)
    assert (of(again).phase, of(again).attempt) == (TaskPhase.STARTING, 2)


def test_what_a_pod_is_about_to_get_is_admitted_before_what_has_a_higher_priority() -> None:
    spec = workflow(shared_task("a"), shared_task("b", priority=9), parallelism=1)
    slots = replace(at_work("a", living(spec)), taken=(first("a"),))
    decided = planned(spec, status_of(spec), slots)
    assert phases(decided) == {"a": "Starting", "b": "Pending"}
    assert not deleted(decided)


def test_a_lease_fills_the_parallelism() -> None:
    slots = replace(at_work("b", living(PAIR)), happened=(hold("b"),))
    decided = planned(PAIR, status_of(PAIR), slots)
    assert phases(decided) == {"a": "Pending", "b": "Running"}
    assert of(decided, "a").reason == "ParallelismLimit"


# pods that are gone


def look(status: RunStatus, slots: Slots, spec: WorkflowSpec = ONE) -> frozenset[AttemptId]:
    return attempts_to_look_up(view(spec, status), {}, frozenset(), False, slots)


@pytest.mark.parametrize(
    "slots",
    [Slots((living(ended=EVICTED),), {"pod-1": first("t")}), Slots(), Slots((living(),), {"pod-1": None})],
    ids=["its pod has ended", "its pod has vanished", "its pod does not have it"],
)
def test_the_result_of_what_no_pod_works_on_is_looked_for_and_stands(slots: Slots) -> None:
    status = status_of(ONE, t=RUNNING)
    assert look(status, slots) == {first("t")}
    assert phases(planned(ONE, status, slots)) == {"t": "Running"}, "before it was looked for"
    assert phases(planned(ONE, status, slots, results={first("t"): succeeded()})) == {"t": "Succeeded"}


@pytest.mark.parametrize(
    ("state", "slots"),
    [
        (RUNNING, at_work("t", living())),
        (RUNNING, happened(reported("t"))),
        (RUNNING, Slots((living(),), silent=frozenset({"pod-1"}))),
        (STARTING, Slots()),
    ],
    ids=["at work", "its end is known", "its pod may still say that it has it", "nobody had it yet"],
)
def test_nothing_is_looked_for_while_a_pod_may_have_it(state: dict[str, Any], slots: Slots) -> None:
    assert look(status_of(ONE, t=state), slots) == frozenset()


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        (Slots((living(),), {"pod-1": None}), "LeaseLost"),
        (Slots(), "PodLost"),
        (Slots((living(ended=EVICTED),)), "Evicted"),
        (Slots((living(ended=Ended(succeeded=True)),)), "NoResult"),
        (Slots((living(deleting=True, ended=Ended(succeeded=False, exit_code=137)),)), "PodLost"),
    ],
)
def test_without_a_result_the_end_of_its_pod_is_its_own(slots: Slots, reason: str) -> None:
    decided = planned(ONE, status_of(ONE, t=RUNNING), slots, results={first("t"): None})
    lost = of(decided).failed_attempts[0]
    assert (lost.cause, lost.reason) == (Cause.INFRASTRUCTURE, reason)
    assert of(decided).phase == TaskPhase.PENDING


def test_nothing_is_made_while_a_pod_that_has_not_spoken_may_have_the_task() -> None:
    spec = workflow(shared_task("a"), shared_task("b"))
    status, one = status_of(spec, a=STARTING, b=STARTING), living(spec)
    slots = Slots((one,), paces={one.shape: Pace(60.0, 60.0)})
    assert new(planned(spec, status, replace(slots, silent=frozenset({"pod-1"})))) == []
    assert new(planned(spec, status, slots)) == [2]


# time, cancel, suspend


def test_the_runner_gets_time_to_enforce_the_timeout_then_its_pod_goes() -> None:
    status, slots = status_of(ONE, t=RUNNING), at_work("t", living())
    early = planned(ONE, status, slots, seconds=OVERDUE - 1)
    assert phases(early) == {"t": "Running"}
    assert early.requeue_after == pytest.approx(1.0)
    late = planned(ONE, status, slots, seconds=OVERDUE)
    assert (of(late).phase, of(late).cause) == (TaskPhase.FAILED, Cause.TIMEOUT)
    assert deleted(late) == ["pod-1"]


def test_what_waits_for_a_pod_is_not_timed() -> None:
    assert phases(planned(ONE, status_of(ONE, t=STARTING), seconds=9 * OVERDUE)) == {"t": "Starting"}


def test_cancel_deletes_pods_at_work_and_makes_none() -> None:
    status = status_of(PAIR, a=RUNNING, b=STARTING)
    slots = at_work("a", living(PAIR), living(PAIR, 2))
    decided = planned(PAIR, status, slots, desired_state=DesiredState.CANCELLED)
    assert phases(decided) == {"a": "Cancelled", "b": "Cancelled"}
    assert decided.status.phase == RunPhase.CANCELLED
    assert deleted(decided) == ["pod-1"], "the other one is told to end when it asks"
    assert new(decided) == []


def test_an_end_that_came_before_the_cancel_was_seen_is_kept() -> None:
    decided = planned(ONE, status_of(ONE, t=RUNNING), happened(reported("t")), desired_state=DesiredState.CANCELLED)
    assert phases(decided) == {"t": "Succeeded"}


def test_a_suspended_run_gets_no_pods_and_what_is_at_work_goes_on() -> None:
    spec = workflow(shared_task("a"), shared_task("b"), shared_task("c"))
    status = status_of(spec, a=RUNNING, b=STARTING)
    one = living(spec)
    slots = at_work("a", one, paces={one.shape: Pace(60.0, 60.0)})
    assert new(planned(spec, status, slots)) == [2, 3]
    decided = planned(spec, status, slots, desired_state=DesiredState.SUSPENDED)
    assert phases(decided) == {"a": "Running", "b": "Starting", "c": "Pending"}
    assert (new(decided), deleted(decided)) == ([], [])


# pods that are not wanted


@pytest.mark.parametrize(
    "state",
    [
        {"phase": TaskPhase.FAILED, "cause": Cause.TIMEOUT, "end_event": 3},
        {"phase": TaskPhase.PENDING, "attempt": 1, "retry_time": at(99)},
        {**RUNNING, "attempt": 2},
    ],
    ids=["it has ended", "it will be tried again", "it was tried again"],
)
def test_a_pod_that_works_on_what_is_over_goes(state: dict[str, Any]) -> None:
    spec = workflow(shared_task("t"), shared_task("other"))
    decided = planned(spec, status_of(spec, t=state, other=RUNNING), at_work("t", living(spec)))
    assert deleted(decided) == ["pod-1"]


def test_a_pod_that_must_go_goes_whatever_it_works_on_and_once() -> None:
    pods = (living(), living(ONE, 2, deleting=True), living(ONE, 3, ended=EVICTED))
    slots = at_work("t", *pods, doomed=frozenset({"pod-1", "pod-2", "pod-3"}))
    assert deleted(planned(ONE, status_of(ONE, t=RUNNING), slots)) == ["pod-1"]


def test_a_pod_without_work_is_not_deleted() -> None:
    slots = at_work("t", living(), living(ONE, 2))
    assert deleted(planned(ONE, status_of(ONE, t=RUNNING), replace(slots, says={**slots.says, "pod-2": None}))) == []


# pods that can not be had


@pytest.mark.parametrize(
    ("refused", "reason", "phase"),
    [
        (Refused(403, "exceeded quota: pods", T0), "QuotaExceeded", TaskPhase.STARTING),
        (Refused(403, "not allowed", T0), "PodRejected", TaskPhase.FAILED),
    ],
)
def test_tasks_say_why_they_have_no_pod_and_fail_where_that_is_final(
    refused: Refused, reason: str, phase: TaskPhase
) -> None:
    slots = Slots(refused={living().shape: refused})
    decided = planned(ONE, status_of(ONE, t=STARTING), slots, seconds=1.0)
    assert (of(decided).phase, of(decided).reason, of(decided).message) == (phase, reason, refused.message)


def test_what_kept_a_pod_from_being_made_is_not_said_any_more_when_it_comes() -> None:
    waiting = {**STARTING, "reason": "QuotaExceeded", "message": "exceeded quota"}
    waits = of(planned(ONE, status_of(ONE, t=waiting), Slots((living(),))))
    assert (waits.reason, waits.message) == ("WaitingForPod", None)


def test_no_more_pods_are_made_than_other_runs_leave_room_for() -> None:
    waits = planned(ONE, status_of(ONE, t=STARTING), Slots(may_start=0))
    assert (waits.actions, waits.wants_pods, waits.requeue_after) == ((), True, None)
    assert of(waits).reason == "WaitingForPod"


def test_the_bound_of_a_stuck_pod_counts_from_its_own_birth() -> None:
    """A task that has long waited for others must not fail with the first problem of a young pod."""
    bound = SETTINGS.image_pull_timeout
    young = living(created=at(bound), waiting=Waiting("ImagePullBackOff", "no such image"))
    waits = planned(ONE, status_of(ONE, t=STARTING), Slots((young,)), seconds=bound + 1)
    assert (of(waits).phase, of(waits).reason) == (TaskPhase.STARTING, "ImagePullFailed")
    late = planned(ONE, waits.status, Slots((young,)), seconds=2 * bound)
    assert (of(late).phase, of(late).reason) == (TaskPhase.FAILED, "ImagePullFailed")
    assert deleted(late) == ["pod-1"]


def test_a_lost_node_costs_the_first_task_an_attempt_and_a_broken_image_fails_all() -> None:
    spec = workflow(shared_task("a"), shared_task("b"))
    status = status_of(spec, a=STARTING, b=STARTING)
    lost = planned(spec, status, Slots((living(spec, ended=EVICTED),)))
    assert phases(lost) == {"a": "Pending", "b": "Starting"}
    broken = planned(spec, status, Slots((living(spec, ended=Ended(succeeded=False, exit_code=1)),)))
    assert phases(broken) == {"a": "Failed", "b": "Failed"}
    assert broken.requeue_after == 0.0


def test_pods_of_a_run_are_limited_over_all_its_shapes() -> None:
    spec = workflow(*(shared_task(f"t{cpu}", resources={"cpu": cpu}) for cpu in range(1, 4)))
    few = replace(SETTINGS, pods_per_run=2)
    made = plan(view(spec, None), {}, Facts(), at(0), few)
    assert new(made) == [1, 2]


def test_a_pod_of_an_attempt_does_not_count_among_those_that_are_shared() -> None:
    """A python task may have had pods of its own before an update of the operator."""
    own = {first("t"): pod("t")}
    made = plan(view(ONE, status_of(ONE, t=STARTING)), own, Facts(), at(0), SETTINGS)
    assert new(made) == [1]
