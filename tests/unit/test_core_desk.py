"""Which pod gets which attempt next, between two writes of the status."""

from __future__ import annotations

from typing import Any

import pytest

from builders import SETTINGS, at, container_task, failed, shared_task, status_of, succeeded, workflow
from maze_crds.protocol import Result
from maze_crds.run import Cause, RunStatus, TaskPhase, TaskStatus
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.desk import SMOOTHING, Desk
from maze_operator.core.shapes import Shapes
from maze_operator.core.values import AttemptId, Hold, Pace, Reported, Workflow

STARTING = {"phase": TaskPhase.STARTING}
DONE = {"phase": TaskPhase.SUCCEEDED}
FAN = workflow(shared_task("a"), shared_task("b", "a"), shared_task("c", "a"), shared_task("d", "b", "c"))
THREE = workflow(shared_task("a"), shared_task("b"), shared_task("c"))


def running(pod: str = "one", attempt: int = 1) -> dict[str, Any]:
    return {"phase": TaskPhase.RUNNING, "attempt": attempt, "pod": pod, "start_time": at(1)}


class Office:
    """A Desk of one Run as the worker uses it."""

    def __init__(self, spec: WorkflowSpec, **tasks: dict[str, Any]) -> None:
        self.desk, self.workflow = Desk(), Workflow.of(spec)
        self.shapes = Shapes(spec, 0, SETTINGS)
        self.status = status_of(spec, **tasks)

    def rebuild(self, parallelism: int | None = None, open_: bool = True, **tasks: dict[str, Any]) -> list[AttemptId]:
        """What is revoked."""
        if tasks:
            self.status = status_of(self.workflow.spec, **tasks)
        made = self.desk.rebuild(self.workflow, self.shapes, self.status, parallelism, open_)
        return [hold.attempt_id for hold in made]

    def shape(self, task: str) -> str:
        found = self.shapes.of(self.workflow.tasks[task], 1.0)
        assert found is not None
        return found.key

    def take(self, pod: str = "one", second: float = 0.0, of: str | None = None) -> AttemptId | None:
        shape = self.shape(of or next(iter(self.workflow.tasks)))
        return self.desk.take(f"uid-{pod}", pod, "node", shape, at(second))

    def get(self, pod: str = "one", second: float = 0.0) -> AttemptId:
        """Taken, and its lease made."""
        attempt = self.take(pod, second)
        assert attempt is not None
        self.desk.confirm(attempt)
        return attempt

    def adopt(self, attempt: AttemptId, pod: str = "one", second: float = 0.0) -> bool:
        task = next(found for found in self.status.tasks if found.name == attempt.task)
        return self.desk.adopt(f"uid-{pod}", pod, "node", attempt, task, at(second))

    def report(self, attempt: AttemptId, result: Result | None = None, second: float = 0.0) -> bool:
        return self.desk.report(attempt, result or succeeded(), at(second))

    def all(self) -> str:
        """Names of what pods get that ask one after the other."""
        found = ""
        while (attempt := self.take(str(len(found)))) is not None:
            found += attempt.task
        return found


def office(spec: WorkflowSpec, parallelism: int | None = None, open_: bool = True, **tasks: dict[str, Any]) -> Office:
    made = Office(spec, **tasks)
    made.rebuild(parallelism, open_)
    return made


def first(name: str) -> AttemptId:
    return AttemptId(name, 1)


# order and room


def test_higher_priority_goes_first_then_the_order_of_the_workflow() -> None:
    spec = workflow(
        shared_task("z"), shared_task("a"), shared_task("u", priority=7), shared_task("m"), shared_task("b", priority=7)
    )
    assert office(spec).all() == "ubzam"


def test_what_the_status_has_admitted_goes_before_what_is_ready_whatever_its_priority() -> None:
    spec = workflow(shared_task("a", priority=9), shared_task("b"))
    assert office(spec, b=STARTING).all() == "ba"


def test_admitted_tasks_are_leased_within_the_parallelism_that_they_fill() -> None:
    assert office(THREE, 2, a=STARTING, b=STARTING).all() == "ab"


def test_no_more_are_leased_than_the_parallelism_leaves_room_for_and_an_end_makes_room() -> None:
    made = office(THREE, 2, a=running())
    assert made.adopt(first("a"))
    assert made.take("two") == first("b")
    assert made.take("three") is None
    made.report(first("a"))
    assert made.take("three") == first("c")


def test_a_hold_that_the_status_does_not_have_yet_takes_its_part_of_the_parallelism() -> None:
    made = office(THREE, 1)
    made.get()
    made.rebuild(1)
    assert made.take("two") is None


def test_an_end_that_the_status_does_not_have_yet_leaves_its_part_of_the_parallelism() -> None:
    made = office(THREE, 1)
    made.report(made.get(), failed())
    made.rebuild(1, a=running())
    assert made.all() == "b"


def test_a_task_of_another_shape_is_not_leased() -> None:
    made = office(workflow(shared_task("a"), shared_task("big", resources={"cpu": "2"}), container_task("own")))
    assert made.all() == "a"
    assert made.take(of="big") == first("big")


def test_a_closed_desk_leases_nothing() -> None:
    made = office(THREE, open_=False, a=STARTING)
    assert made.take() is None
    assert not made.desk.has_any_work
    made.rebuild()
    assert made.desk.has_any_work
    assert made.all() == "abc"


def test_a_task_that_waits_for_its_retry_is_left_to_the_plan() -> None:
    waiting = {"attempt": 1, "retry_time": at(9)}
    made = office(THREE, a=waiting)
    assert made.all() == "bc"
    made.rebuild(a={**STARTING, "attempt": 2}, b=DONE, c=DONE)
    assert made.take() == AttemptId("a", 2)


# what ends frees what waited for it


def test_a_report_frees_what_waited_for_all_that_it_needs() -> None:
    made = office(FAN)
    made.report(made.get())
    assert [made.get("one"), made.get("two")] == [first("b"), first("c")]
    made.report(first("b"))
    assert made.take() is None
    made.report(first("c"))
    assert made.take() == first("d")


def test_a_failure_frees_nothing_and_is_to_be_planned_at_once() -> None:
    made = office(FAN)
    assert made.report(made.get(), failed())
    assert made.take() is None
    made.rebuild()
    assert made.take() is None, "the same attempt again"


@pytest.mark.parametrize(
    ("spec", "at_once"),
    [
        (FAN, False),
        (workflow(shared_task("a")), True),
        (workflow(shared_task("a"), container_task("own", "a"), shared_task("b")), True),
        (workflow(shared_task("a"), shared_task("b"), container_task("own", "a", "b")), False),
    ],
    ids=["the desk goes on", "the last one", "a pod of its own is needed", "it is not needed yet"],
)
def test_an_end_is_planned_at_once_where_the_desk_can_not_go_on(spec: WorkflowSpec, at_once: bool) -> None:
    made = office(spec)
    assert made.report(made.get()) == at_once


def test_a_plan_between_an_end_and_its_write_changes_nothing() -> None:
    made = office(FAN)
    made.report(made.get())
    made.rebuild()
    assert made.all() == "bc"


def test_what_others_have_said_of_an_end_frees_as_a_report_does() -> None:
    made = Office(FAN, a=running())
    made.desk.learn(first("a"), succeeded(), at(7))
    made.rebuild()
    assert made.all() == "bc"
    assert list(made.desk.unsaid) == [Reported(first("a"), succeeded(), at(7))]


# who holds what


def test_what_is_taken_is_nobody_elses_and_unsaid_until_its_lease_is_made() -> None:
    made = office(workflow(shared_task("a")))
    assert made.take("one", 3.0) == first("a")
    assert made.take("two") is None
    assert made.desk.taken == (first("a"),)
    assert not made.desk.unsaid
    made.desk.confirm(first("a"))
    made.desk.confirm(first("a"))
    assert made.desk.taken == ()
    assert list(made.desk.unsaid) == [Hold(first("a"), "uid-one", "one", "node", at(3))]


def test_nothing_is_confirmed_that_nobody_holds() -> None:
    made = office(workflow(shared_task("a")))
    made.desk.confirm(first("a"))
    assert not made.desk.unsaid


def test_what_is_given_back_is_the_next_one_again_and_keeps_its_room() -> None:
    made = office(workflow(shared_task("a"), shared_task("b", priority=1)), 1)
    assert made.take() == first("b")
    made.desk.give_back(first("b"))
    assert made.desk.by_pod == {}
    assert made.take("two") == first("b")
    assert made.take("three") is None


def test_what_nobody_holds_can_not_be_given_back() -> None:
    made = office(workflow(shared_task("a")))
    made.report(made.get())
    made.desk.give_back(first("a"))
    assert made.take() is None


@pytest.mark.parametrize(
    ("state", "attempt", "noted"),
    [
        ({}, 1, True),
        ({"attempt": 1, "retry_time": at(9)}, 2, True),
        (STARTING, 1, True),
        (running(), 1, False),
        (running() | {"pod": None}, 1, False),
    ],
    ids=["pending", "pending again", "starting", "running in it", "running"],
)
def test_a_pod_that_has_an_attempt_since_before_is_believed(state: dict[str, Any], attempt: int, noted: bool) -> None:
    made = Office(workflow(shared_task("a")), a=state)
    assert made.adopt(AttemptId("a", attempt), second=5)
    assert made.desk.taken == ()
    start = at(1) if state.get("phase") == TaskPhase.RUNNING else at(5)
    assert made.desk.holds[AttemptId("a", attempt)].time == start
    assert bool(made.desk.unsaid) == noted
    assert made.rebuild() == []
    assert made.take("two") is None


@pytest.mark.parametrize(
    ("state", "attempt"),
    [
        ({}, 2),
        ({"attempt": 1, "retry_time": at(9)}, 1),
        ({**STARTING, "attempt": 2}, 1),
        (running("another"), 1),
        (running(attempt=2), 1),
        (DONE, 1),
        ({"phase": TaskPhase.CANCELLED}, 1),
    ],
    ids=[
        "too new",
        "failed before",
        "a newer one starts",
        "another pod has it",
        "a newer one runs",
        "done",
        "cancelled",
    ],
)
def test_a_pod_with_what_can_not_be_its_own_is_not_believed(state: dict[str, Any], attempt: int) -> None:
    made = Office(workflow(shared_task("a")), a=state)
    assert not made.adopt(AttemptId("a", attempt))
    assert not made.desk.holds
    assert not made.desk.unsaid


def test_only_the_first_of_two_pods_that_say_the_same_is_believed() -> None:
    made = Office(workflow(shared_task("a")), a=STARTING)
    assert made.adopt(first("a"), "one")
    assert not made.adopt(first("a"), "two")
    assert made.desk.holds[first("a")].pod == "one"


@pytest.mark.parametrize(
    "state",
    [
        {"phase": TaskPhase.FAILED, "cause": Cause.TIMEOUT},
        {"phase": TaskPhase.CANCELLED},
        {"phase": TaskPhase.PENDING, "attempt": 1, "retry_time": at(9)},
        {**STARTING, "attempt": 2},
    ],
    ids=["failed", "cancelled", "to be tried again", "tried again"],
)
def test_an_attempt_that_the_status_has_ended_is_revoked_from_its_pod(state: dict[str, Any]) -> None:
    made = office(workflow(shared_task("a")))
    made.get()
    assert made.rebuild(a=state) == [first("a")]
    assert not made.desk.holds
    assert not made.desk.by_pod


def test_what_is_revoked_before_its_lease_was_made_costs_no_pod() -> None:
    made = office(workflow(shared_task("a")))
    assert made.take() == first("a")
    assert made.rebuild(a={"phase": TaskPhase.CANCELLED}) == []
    assert not made.desk.holds


def test_a_hold_that_the_status_confirms_goes_on() -> None:
    made = office(THREE)
    made.get()
    assert made.rebuild(a=running()) == []
    assert made.desk.by_pod == {"uid-one": first("a")}


# what the status does not say yet


def test_what_happened_is_told_in_its_order_until_it_is_written() -> None:
    made = office(THREE)
    for name in ("one", "two"):
        made.get(name)
    made.report(first("b"))
    told = [(type(each), each.attempt_id.task) for each in made.desk.unsaid]
    assert told == [(Hold, "a"), (Hold, "b"), (Reported, "b")]
    made.desk.said(2)
    assert [(type(each), each.attempt_id.task) for each in made.desk.unsaid] == [(Reported, "b")]
    assert made.desk.ended_here(first("b"))
    made.desk.said(1)
    assert not made.desk.unsaid
    assert not made.desk.ended_here(first("b"))


def test_only_the_attempt_that_ended_has_ended() -> None:
    made = office(THREE)
    made.report(made.get())
    assert made.desk.ended_here(first("a"))
    assert not made.desk.ended_here(AttemptId("a", 2))
    assert not made.desk.ended_here(first("b"))


def test_the_current_attempts_are_those_of_holds_and_ends_before_those_of_the_status() -> None:
    retried = {"attempt": 1, "retry_time": at(9)}
    made = Office(THREE, a={**STARTING, "attempt": 2}, b=retried)
    assert made.adopt(AttemptId("b", 2))
    made.desk.learn(first("c"), succeeded(), at(7))
    made.rebuild()
    assert made.desk.attempts == {"a": 2, "b": 2, "c": 1}


# how long tasks take, and who is needed


def test_paces_follow_what_tasks_take_and_remember_the_best() -> None:
    made = office(THREE)
    assert made.desk.paces_now(at(0)) == {}
    shape = made.shape("a")
    made.report(made.get(), second=1.0)
    assert made.desk.paces_now(at(9)) == {shape: Pace(1.0, 1.0)}
    made.report(made.get(), second=3.0)
    slower = 1.0 + SMOOTHING * 2.0
    assert made.desk.paces_now(at(9)) == {shape: Pace(pytest.approx(slower), 1.0)}


def test_tasks_that_take_longer_than_the_others_did_count_at_once() -> None:
    made = office(THREE)
    made.report(made.get(), second=1.0)
    made.get("one", 2.0), made.get("two", 4.0)
    assert made.desk.paces_now(at(6)) == {made.shape("a"): Pace(3.0, 1.0)}
    assert made.desk.paces_now(at(4)) == {made.shape("a"): Pace(1.0, 1.0)}


def test_before_the_first_end_the_pace_is_that_of_those_at_work() -> None:
    made = office(THREE)
    made.get()
    assert made.desk.paces_now(at(2)) == {made.shape("a"): Pace(2.0, 2.0)}


def test_one_more_pod_is_needed_while_more_is_to_come_than_pods_are_at_work() -> None:
    made = office(workflow(shared_task("a"), shared_task("b", "a")))
    shape = made.shape("a")
    made.get()
    assert made.desk.needs(shape), "b may come"
    made.report(first("a"))
    assert made.desk.needs(shape)
    made.get("two")
    assert not made.desk.needs(shape)
    made.rebuild(a=DONE, b=running("two"))
    assert not made.desk.needs(shape)
    made.report(first("b"))
    assert not made.desk.needs(shape)


def test_work_without_room_is_no_work() -> None:
    made = office(THREE, 1)
    made.get()
    assert not made.desk.has_work(made.shape("a"))
    made.report(first("a"))
    assert made.desk.has_work(made.shape("a"))


def test_a_task_that_ran_out_of_memory_is_of_another_shape() -> None:
    spec = workflow(shared_task("a", resources={"memory": "1Gi"}, retry={"outOfMemory": 1, "memoryFactor": 2}))
    lost = {"attempt": 1, "cause": Cause.OUT_OF_MEMORY, "reason": "OOMKilled", "end_event": 3, "completion_time": at(1)}
    made = office(spec, a={**STARTING, "attempt": 2, "failed_attempts": [lost]})
    assert made.take() is None
    larger = made.shapes.of(made.workflow.tasks["a"], 2.0)
    assert larger is not None
    assert made.desk.take("uid", "pod", None, larger.key, at(0)) == AttemptId("a", 2)


def test_tasks_that_the_status_does_not_have_are_not_known() -> None:
    made = Office(THREE)
    made.status = RunStatus(tasks=[TaskStatus(name="b")])
    made.rebuild()
    assert made.all() == "b"
